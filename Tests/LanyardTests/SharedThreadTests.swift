// Which threads are taken for shared, and for how long releases hold one.

import Dispatch
import Foundation
import LanyardTestSupport
import Synchronization
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct SharedThreadTests {
  // MARK: Which

  @Test func `the thread of a task is shared`() async {
    #expect(isShared())
    #expect(await Task { @MainActor in isShared() }.value)
  }

  @Test
  func `a thread of somebody's own is not shared, nor is one that runs a queue of somebody's own`()
    async
  {
    await onThreadOfItsOwn { #expect(!isShared()) }
    await onThreadOfItsOwn { DispatchQueue(label: "own").sync { #expect(!isShared()) } }
    await answer { done in DispatchQueue(label: "own").async { done(!isShared()) } }
  }

  @Test func `a block on a global queue runs on a shared thread`() async {
    await answer { done in DispatchQueue.global().async { done(isShared()) } }
  }

  // A task that ends is not current any more when its result goes.
  @Test(arguments: [false, true])
  func `what nobody takes of a task goes on a shared thread`(onWorker: Bool) async throws {
    let seen = Notes<Bool>()
    let worker = try Worker("runs tasks")
    if onWorker {
      _ = Task(executorPreference: worker.taskExecutor) { AtEnd { seen.add(isShared()) } }
    } else {
      _ = Task.detached { AtEnd { seen.add(isShared()) } }
    }
    await until { !seen.all.isEmpty }
    #expect(seen.all == [true])
  }

  @Test func `a worker's thread is shared from its first job on`() async throws {
    let worker = try Worker("runs jobs")
    #expect(try await worker.run { isShared() } == false)
    await Task(executorPreference: worker.taskExecutor) {}.value
    #expect(try await worker.run { isShared() })
  }

  // MARK: How long

  @Test func `waiting uses the allowance up, and other time gives it back`() {
    let ms: UInt64 = 1_000_000
    var note = ThreadNote(word: 0)
    note.runsJobs = true
    var now = 5000 * ms
    #expect(note.allowance(at: now) == 200 * ms)
    note.waited(from: now, to: now + 150 * ms)
    now += 150 * ms
    #expect(note.allowance(at: now) == 50 * ms)
    now += 30 * ms
    #expect(note.allowance(at: now) == 80 * ms)
    note.waited(from: now, to: now + 500 * ms)
    now += 500 * ms
    #expect(note.allowance(at: now) == 0)
    #expect(note.allowance(at: now + 199 * ms) == 199 * ms)
    #expect(note.allowance(at: now + 1000 * ms) == 200 * ms)
    #expect(note.runsJobs)
    note.runsJobs = false
    #expect(note.allowance(at: now + 199 * ms) == 199 * ms)
  }

  // Each of them alone would be waited for 100 ms. The bound is half of what that comes to.
  @Test func `thirty busy workers that one task lets go of share one allowance`() async throws {
    var workers: [Worker] = []
    var gates: [Gate] = []
    for _ in 0..<30 {
      let worker = try Worker("let go of by one task")
      gates.append(try await Gate.holding(worker))
      workers.append(worker)
    }
    let (elapsed, allowance) = emptied(&workers)
    for gate in gates { gate.open() }
    #expect(elapsed >= .milliseconds(200), "a thread that is ready to end is worth a moment")
    #expect(elapsed < .milliseconds(1500))
    #expect(allowance < 100_000_000)
    #expect(await liveAfterQuiesce(named: "let go of by one task").isEmpty)
  }
}

private func isShared() -> Bool { SharedThread.isCurrent }

/// Lets go of them all, without suspending.
@inline(never)
private func emptied(_ workers: inout [Worker]) -> (elapsed: Duration, allowance: UInt64) {
  SharedThread.note = ThreadNote(word: 0)  // others may have used it up
  let start = ContinuousClock.now
  workers.removeAll()
  return (ContinuousClock.now - start, SharedThread.note.allowance(at: WorkerHandle.now))
}

/// Waits for one answer that comes from elsewhere, and expects it to be true.
private func answer(_ ask: (@escaping @Sendable (Bool) -> Void) -> Void) async {
  #expect(
    await withCheckedContinuation { continuation in ask { continuation.resume(returning: $0) } })
}

private final class AtEnd: Sendable {
  private let body: @Sendable () -> Void

  init(_ body: @escaping @Sendable () -> Void) { self.body = body }

  deinit { body() }
}
