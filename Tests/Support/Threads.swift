// A look at the process: its threads, its workers, and what they bring about.

import Foundation
package import Lanyard

/// The calling thread as the system names it: `PROCESS/task/THREAD`.
package func currentThread() -> String {
  (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self")) ?? "unknown"
}

/// Whether a thread still exists.
package func threadExists(_ thread: String) -> Bool {
  FileManager.default.fileExists(atPath: "/proc/\(thread)")
}

/// Runs a closure on a thread of its own, and returns when that thread is gone.
///
/// For what blocks: it would hold one of the threads that all tasks share. The thread's end is waited for
/// because a thread that is about to end when the process does counts as a leak.
package func onThreadOfItsOwn(_ body: @escaping @Sendable () -> Void) async {
  let thread = await withCheckedContinuation { continuation in
    Thread.detachNewThread {
      body()
      continuation.resume(returning: currentThread())
    }
  }
  await until { !threadExists(thread) }
}

/// Waits for something that another thread or task brings about. The suite's time limit ends it.
///
/// After some looks it pauses between them: the processor is for those who bring it about.
package func until(_ condition: () -> Bool) async {
  var looks = 0
  while !condition() {
    looks += 1
    do {
      if looks > 100 { try await Task.sleep(for: .milliseconds(1)) }
    } catch {}  // a task that is cancelled does not sleep
    await Task.yield()
  }
}

/// Waits until no worker of that name lives, and returns those that still do after a generous time.
///
/// In small steps: quiesce also waits for the asynchronous closes of other tests, which may need the
/// thread that it blocks.
package func liveAfterQuiesce(named name: String) async -> [WorkerInfo] {
  let end = ContinuousClock.now + patience(seconds: 30)
  while true {
    joinForAMoment()
    let live = Worker.live.filter { $0.name == name }
    if live.isEmpty || ContinuousClock.now > end { return live }
    await Task.yield()
  }
}

/// In small steps the blocking form may be called in asynchronous code.
package func joinForAMoment() {
  _ = Worker.quiesce(within: .milliseconds(1))
}
