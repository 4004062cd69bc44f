// A program of someone else's, that uses Lanyard as anybody would.
//
// Its main is synchronous and its tasks all run on a worker, so the pool of threads that Swift would start for
// them never exists: this process has the threads that it opened, and no other. It prints a line for each
// check, and closes with "N passed, N failed".

import Dispatch
import Foundation
import Lanyard

@main
enum Main {
  static func main() throws {
    let checks = Checks()
    try runOnWorker {
      await checks.run("a worker", useWorker)
      await checks.run("a confined value", useConfined)
      await checks.run("a request loop", useRequestLoop)
      await checks.run("executors", useExecutors)
      await checks.run("a database", useDatabase)
    }
    checks.expect(Worker.quiesce(within: .seconds(10)) == 0, "no worker is left: \(Worker.live)")
    checks.expect(isAlone(), "and no thread but this one")
    checks.finish()
  }

  /// Whether this is the process's only thread. The system may list one for a moment after it was joined.
  private static func isAlone() -> Bool {
    for _ in 0..<1000 {
      let threads = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")
      if threads?.count == 1 { return true }
      usleep(1000)
    }
    return false
  }

  /// Runs asynchronous code on a worker of its own, and returns when it has ended.
  private static func runOnWorker(_ body: @escaping @Sendable () async -> Void) throws {
    let worker = try Worker("main tasks")
    let ended = DispatchSemaphore(value: 0)
    Task.detached(executorPreference: worker.taskExecutor) {
      await body()
      ended.signal()
    }
    ended.wait()
  }
}
