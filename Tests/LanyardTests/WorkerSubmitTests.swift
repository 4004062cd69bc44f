// run, submit and call.

import Dispatch
import LanyardTestSupport
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct WorkerSubmitTests {
  struct Failed: Error, Equatable {
    let reason: Int
  }

  // MARK: run

  @Test func `a closure runs on the worker's own thread and its result comes back`() async throws {
    let worker = try Worker()
    let (isCurrent, thread) = try await worker.run { [worker] in (worker.isCurrent, currentThread())
    }
    #expect(isCurrent)
    #expect(!worker.isCurrent)
    #expect(thread != currentThread())
    #expect(try await worker.run { currentThread() } == thread)
  }

  @Test func `a result that is not Sendable may leave the worker`() async throws {
    final class Box { var value = 0 }
    let worker = try Worker()
    let box = try await worker.run {
      let box = Box()
      box.value = 7
      return box
    }
    box.value += 1
    #expect(box.value == 8)
  }

  @Test func `what a closure throws reaches its caller as itself, and the next one runs`()
    async throws
  {
    let worker = try Worker()
    await #expect(throws: Failed(reason: 3)) { try await worker.run { throw Failed(reason: 3) } }
    #expect(try await worker.run { 5 } == 5)
    // Also when it looks like one of the worker's own.
    await #expect(throws: WorkerError(.closed)) {
      try await worker.run { throw WorkerError(.closed) }
    }
    #expect(!worker.isClosed)
  }

  @Test func `closures of one task run in the order in which it submitted them`() async throws {
    let worker = try Worker()
    let notes = Notes<Int>()
    let count = scaled(500)
    for number in 0..<count {
      if number % 3 == 0 {
        try await worker.run { notes.add(number) }
      } else {
        try worker.submit { notes.add(number) }
      }
    }
    await worker.close()
    #expect(notes.all == Array(0..<count))
  }

  @Test func `one closure runs at a time, from many tasks`() async throws {
    let worker = try Worker()
    // Not Sendable and not locked: the worker is what keeps it from harm. ThreadSanitizer looks on.
    final class Tally: @unchecked Sendable { var value = 0 }
    let tally = Tally()
    let rounds = scaled(100)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<50 {
        group.addTask {
          for _ in 0..<rounds { try await worker.run { tally.value += 1 } }
        }
      }
      try await group.waitForAll()
    }
    #expect(try await worker.run { tally.value } == 50 * rounds)
  }

  @Test func `what a closure captured is released on the worker before its caller goes on`()
    async throws
  {
    final class Captured: Sendable {
      let released: Counter
      let worker: Worker
      init(_ worker: Worker, released: Counter) {
        self.worker = worker
        self.released = released
      }
      deinit {
        #expect(worker.isCurrent)
        released.increment()
      }
    }
    let worker = try Worker()
    let released = Counter()
    for round in 1...scaled(1000) {
      try await worker.run { [captured = Captured(worker, released: released)] in
        withExtendedLifetime(captured) {}
      }
      #expect(released.value == round)
    }
  }

  // MARK: Cancellation

  @Test
  func `a cancelled task leaves at once while the worker is busy, and its closure never runs`()
    async throws
  {
    let worker = try Worker()
    let gate = try await Gate.holding(worker)
    let ran = Counter()
    let task = Task { try await worker.run { ran.increment() } }
    await until { worker.statistics.submitted == 2 }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(worker.statistics.cancelled == 1)
    gate.open()
    await worker.close()
    #expect(ran.value == 0)
  }

  @Test func `a task that was cancelled before submits nothing`() async throws {
    let worker = try Worker()
    let task = Task {
      await until { Task.isCancelled }
      try await worker.run {}
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(worker.statistics.submitted == 0)
  }

  @Test func `a closure that has started runs to its end although its task is cancelled`()
    async throws
  {
    let worker = try Worker()
    let gate = Gate()
    let task = Task {
      try await worker.run {
        gate.pass()
        return 7
      }
    }
    await gate.arrived()
    task.cancel()
    gate.open()
    #expect(try await task.value == 7)
  }

  @Test func `a hundred thousand cancellations race the end, each request is answered once`()
    async throws
  {
    let worker = try Worker()
    let rounds = scaled(5000)
    let ran = Counter()
    let returned = Counter()
    let cancelled = Counter()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for racer in 0..<20 {
        group.addTask {
          for round in 0..<rounds {
            let task = Task {
              do {
                try await worker.run { ran.increment() }
                returned.increment()
              } catch is CancellationError {
                cancelled.increment()
              }
            }
            for _ in 0..<((racer + round) % 5) { await Task.yield() }
            task.cancel()
            try await task.value
          }
        }
      }
      try await group.waitForAll()
    }
    await worker.close()
    #expect(returned.value + cancelled.value == 20 * rounds)
    #expect(ran.value == returned.value)
    let statistics = worker.statistics
    #expect(statistics.completed == UInt64(returned.value))
    #expect(statistics.submitted == statistics.completed + statistics.cancelled)
  }

  // MARK: Deadlines

  @Test func `at its deadline a closure that has not started is dropped and its caller told`()
    async throws
  {
    let worker = try Worker()
    let gate = try await Gate.holding(worker)
    let ran = Counter()
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await worker.run(deadline: .now + .milliseconds(20)) { ran.increment() }
    }
    gate.open()
    await worker.close()
    #expect(ran.value == 0)
  }

  @Test func `a deadline that has passed lets nothing run`() async throws {
    let worker = try Worker()
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await worker.run(deadline: .now - .seconds(1)) { Issue.record("it ran") }
    }
  }

  @Test func `a deadline spans the wait for room`() async throws {
    var configuration = Worker.Configuration()
    configuration.capacity = 2
    let worker = try Worker(configuration: configuration)
    let gate = try await Gate.holding(worker)
    while (try? worker.submit {}) != nil {}
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await worker.run(deadline: .now + .milliseconds(20)) { Issue.record("it ran") }
    }
    #expect(worker.line.isEmpty)
    gate.open()
  }

  @Test func `a closure that starts before its deadline runs to its end`() async throws {
    let worker = try Worker()
    let result = try await worker.run(deadline: .now + .seconds(60)) { 7 }
    #expect(result == 7)
    let gate = Gate()
    async let late = worker.run(deadline: .now + .milliseconds(200)) {
      gate.pass()
      return 8
    }
    await gate.arrived()
    try await Task.sleep(for: .milliseconds(250))  // the deadline passes while it runs
    gate.open()
    #expect(try await late == 8)
  }

  @Test(arguments: [
    Duration.seconds(Int64.max), .seconds(Int64.max) * 2, .seconds(18_446_744_073),
    .nanoseconds(Int64.max), .nanoseconds(Int64.max / 2), Duration(attoseconds: .max / 2),
  ])
  func `a deadline too far away to express is never`(distance: Duration) async throws {
    let worker = try Worker()
    let deadline = ContinuousClock.now + distance
    #expect(try await worker.run(deadline: deadline) { 7 } == 7)
    let loop = try RequestLoop<Int> { batch in while batch.next() != nil {} }
    try await loop.send(1, deadline: deadline)
    // Also when it has to be waited for.
    let gate = try await Gate.holding(worker)
    async let late = worker.run(deadline: deadline) { 8 }
    await until { worker.statistics.submitted == 3 }
    gate.open()
    #expect(try await late == 8)
    await loop.close()
    await worker.close()
  }

  @Test(arguments: [
    Duration.seconds(Int64.min), .seconds(Int64.min) * 2, Duration(attoseconds: .min), .seconds(-1),
  ])
  func `a deadline too far in the past to express has passed`(distance: Duration) async throws {
    let worker = try Worker()
    let deadline = ContinuousClock.now + distance
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await worker.run(deadline: deadline) { Issue.record("it ran") }
    }
    let loop = try RequestLoop<Int> { batch in while batch.next() != nil {} }
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await loop.send(1, deadline: deadline)
    }
  }

  @Test func `a task that is cancelled before its deadline gets CancellationError`() async throws {
    let worker = try Worker()
    let gate = try await Gate.holding(worker)
    let task = Task { try await worker.run(deadline: .now + .seconds(3600)) {} }
    await until { worker.statistics.submitted == 2 }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    gate.open()
  }

  enum Trace {
    @TaskLocal static var id = 0
  }

  private func ids(seenOn worker: Worker) async throws -> [Int] {
    let plain = try await worker.run { Trace.id }
    let id = Trace.id
    let bound = try await worker.run { Trace.$id.withValue(id) { Trace.id } }
    let inTask = await withTaskExecutorPreference(worker.taskExecutor) {
      worker.isCurrent ? Trace.id : -1
    }
    return [plain, bound, inTask]
  }

  @Test
  func `a body finds the default of a task-local, unless it is bound inside or a task runs there`()
    async throws
  {
    let worker = try Worker()
    let seen = try await Trace.$id.withValue(7) { try await ids(seenOn: worker) }
    #expect(seen == [0, 7, 7])
    #expect(try await worker.run { Trace.id } == 0, "nothing of it stays with the thread")
  }

  // MARK: submit

  @Test func `submit refuses when the ring is full and keeps nothing of the closure`() async throws
  {
    var configuration = Worker.Configuration()
    configuration.capacity = 4
    let worker = try Worker(configuration: configuration)
    let gate = try await Gate.holding(worker)
    for _ in 0..<4 { try worker.submit {} }
    weak let canary: Canary?
    do {
      let captured = Canary()
      canary = captured
      #expect(throws: WorkerError(.full)) {
        try worker.submit { [captured] in withExtendedLifetime(captured) {} }
      }
    }
    #expect(canary == nil)
    #expect(worker.statistics.refusedFull == 1)
    gate.open()
    await worker.close()
    #expect(worker.statistics.completed == 5)
  }

  @Test func `a closure may submit to its own worker, and is refused when that is full`()
    async throws
  {
    var configuration = Worker.Configuration()
    configuration.capacity = 2
    let worker = try Worker(configuration: configuration)
    let ran = Counter()
    let refused = try await worker.run { [worker] in
      for accepted in 0... {
        do throws(WorkerError) {
          try worker.submit { ran.increment() }
        } catch {
          return (accepted, error)
        }
      }
      fatalError("the ring has an end")
    }
    #expect(refused.0 == 2)
    #expect(refused.1 == WorkerError(.full))
    await worker.close()
    #expect(ran.value == 2)
  }

  // MARK: call

  @Test func `call returns what ran on the worker, and throws what it threw`() throws {
    let worker = try Worker()
    var noted = ""
    let isCurrent = try worker.call {
      noted = currentThread()
      return worker.isCurrent
    }
    #expect(isCurrent)
    #expect(noted != currentThread())
    #expect(throws: Failed(reason: 1)) {
      try worker.call { () throws(Failed) in throw Failed(reason: 1) }
    }
  }

  @Test func `call on the worker's own thread runs at once`() throws {
    let worker = try Worker()
    let depth = try worker.call { try worker.call { try worker.call { 3 } } }
    #expect(depth == 3)
  }
}
