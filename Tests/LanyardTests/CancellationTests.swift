// A body that is told to stop: by its own request's cancellation or deadline, and by no other's.

import Foundation
import LanyardTestSupport
import Synchronization
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct CancellationTests {
  /// Until a body is told to stop. The suite's limit ends it.
  private static func spin(until isOver: () -> Bool) {
    while !isOver() { usleep(500) }
  }

  /// Runs a body that must have begun at its deadline: with more time, where the machine was too slow for that.
  private func overrun<Result>(
    _ run: (_ deadline: ContinuousClock.Instant) async throws -> Result
  ) async throws -> Result {
    for time in [Duration.milliseconds(20), .milliseconds(500), .seconds(5)] {
      do {
        return try await run(.now + time)
      } catch let error as WorkerError where error.code == .deadlineExceeded {
        continue
      }
    }
    return try await run(.now + .seconds(60))
  }

  @Test func `a body whose task is cancelled is told, and its result is returned`() async throws {
    let worker = try Worker("told")
    let begun = Gate()
    let task = Task {
      try await worker.run { cancellation in
        let before = cancellation.isRequested
        begun.pass()
        Self.spin { cancellation.isRequested }
        #expect(throws: CancellationError.self) { try cancellation.check() }
        return before
      }
    }
    await begun.arrived()
    begun.open()
    task.cancel()
    #expect(try await task.value == false)
    await worker.close()
  }

  @Test func `a body that runs past its deadline is told, and why`() async throws {
    let worker = try Worker("late")
    let code = try await overrun { deadline in
      try await worker.run(deadline: deadline) { cancellation in
        Self.spin { cancellation.isRequested }
        do {
          try cancellation.check()
          return WorkerError.Code?.none
        } catch {
          return (error as? WorkerError)?.code
        }
      }
    }
    #expect(code == .deadlineExceeded)
    await worker.close()
  }

  @Test func `code deep inside of a body asks the worker`() async throws {
    let worker = try Worker("deep")
    func deep() throws { while true { try Worker.checkCancellation() } }
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await worker.run(deadline: .now + .milliseconds(20)) { try deep() }
    }
    let begun = Gate()
    let task = Task {
      try await worker.run {
        begun.pass()
        try deep()
      }
    }
    await begun.arrived()
    begun.open()
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(try await worker.run { Worker.isCancelled } == false)
    #expect(!Worker.isCancelled)
    await worker.close()
  }

  @Test func `a body in a call inside of a body asks for the outer one`() async throws {
    let worker = try Worker("nested")
    let begun = Gate()
    let task = Task {
      try await worker.run { [worker] in
        begun.pass()
        try callSync(worker) { Self.spin { Worker.isCancelled } }
        return Worker.isCancelled
      }
    }
    await begun.arrived()
    begun.open()
    task.cancel()
    #expect(try await task.value)
    await worker.close()
  }

  @Test func `in a task on the worker's executor it is the task's own`() async throws {
    let worker = try Worker("task")
    let task = Task(executorPreference: worker.taskExecutor) {
      while !Worker.isCancelled { await Task.yield() }
      try Worker.checkCancellation()
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    await worker.close()
  }

  // MARK: Handlers

  @Test func `handlers are called once each, in order, on the cancelling side`() async throws {
    let worker = try Worker("handlers")
    let notes = Notes<Int>()
    let begun = Gate()
    let task = Task {
      try await worker.run { cancellation in
        for number in 0..<3 { cancellation.onCancel { notes.add(number) } }
        begun.pass()
        Self.spin { cancellation.isRequested && notes.all.count == 3 }
        cancellation.onCancel { notes.add(3) }  // already so: at once
      }
    }
    await begun.arrived()
    begun.open()
    task.cancel()
    try await task.value
    #expect(notes.all == [0, 1, 2, 3])
    await worker.close()
  }

  @Test func `a handler is not called for a body that was not told to stop, and is let go of with it`()
    async throws
  {
    let worker = try Worker("unused")
    let captured = try await worker.run { (cancellation: borrowing Cancellation) -> Weak in
      let canary = Canary()
      cancellation.onCancel { fail(canary) }
      return Weak(canary)
    }
    #expect(captured.value == nil)
    await worker.close()
  }

  /// Every body has a flag of its own that its handler raises, as with a library that polls. Half of the tasks are
  /// cancelled at any time: nobody else may be stopped.
  @Test func `a cancel never stops another's body`() async throws {
    let worker = try Worker("polls")
    for round in 0..<scaled(3000) {
      let isCancelled = round % 2 == 0
      let task = Task<Bool, any Error> {
        try await worker.run { cancellation in
          let flag = Flag()
          cancellation.onCancel { flag.raise() }
          for _ in 0..<(round % 7) { yieldThread() }
          return flag.isRaised
        }
      }
      if isCancelled {
        for _ in 0..<(round % 5) { await Task.yield() }
        task.cancel()
        _ = try? await task.value
      } else {
        #expect(try await task.value == false)
      }
    }
    await worker.close()
  }

  // MARK: Deadlines by the core's alarms

  /// The caller's executor is the worker's own: nothing of it could run to expire what runs there.
  @Test func `a deadline interrupts a body although its caller prefers the worker's own thread`() async throws {
    let interrupted = Flag()
    var configuration = Worker.Configuration()
    configuration.interrupt = { interrupted.raise() }
    let worker = try Worker("prefers", configuration: configuration)
    let other = try Worker("caller")
    try await withTaskExecutorPreference(other.taskExecutor) {
      try await other.run {}
      try await overrun { deadline in
        try await worker.run(deadline: deadline) { Self.spin { interrupted.isRaised } }
      }
    }
    let own = Flag()
    try await withTaskExecutorPreference(worker.taskExecutor) {
      try await overrun { deadline in
        try await worker.run(deadline: deadline) { cancellation in
          cancellation.onCancel { own.raise() }
          Self.spin { own.isRaised }
        }
      }
    }
    #expect(interrupted.isRaised && own.isRaised)
    await worker.close()
    await other.close()
  }

  @Test func `a queued body is dropped at its deadline while the worker is busy`() async throws {
    let worker = try Worker("busy")
    let gate = try await Gate.holding(worker)
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await worker.run(deadline: .now + .milliseconds(20)) { Issue.record("it must not run") }
    }
    gate.open()
    await worker.close()
  }

  @Test func `deadlines race completion and cancellation without loss`() async throws {
    let worker = try Worker("races")
    await withTaskGroup(of: Void.self) { group in
      for number in 0..<scaled(4000) {
        group.addTask {
          let deadline = ContinuousClock.now + .microseconds(number % 300)
          do {
            let result = try await worker.run(deadline: deadline) { number }
            #expect(result == number)
          } catch {
            let code = (error as? WorkerError)?.code
            #expect(code == .deadlineExceeded || error is CancellationError)
          }
        }
        if number % 32 == 31 { await group.waitForAll() }
      }
    }
    await worker.close()
  }

  // MARK: Confined

  @Test func `a confined value brings what interrupts it`() async throws {
    let raised = Atomic<Int>(0)
    try await withEngine(raised) { engine in
      // Its own deadline, and then nobody else's.
      let stopped = try await overrun { deadline in
        try await engine.run(deadline: deadline) { engine in
          Self.spin { engine.flag.isRaised }
          engine.flag = Flag()
          return true
        }
      }
      #expect(stopped)
      #expect(try await engine.run { engine, cancellation in cancellation.isRequested || engine.flag.isRaised } == false)
    }
  }

  private struct Engine: ~Copyable {
    var flag = Flag()
  }

  private func withEngine(
    _ raised: borrowing Atomic<Int>, _ body: (Confined<Engine>) async throws -> Void
  ) async throws {
    let current = Current()
    let engine = try await Confined(
      "engine",
      makeInterruptible: {
        let engine = Engine()
        current.flag = engine.flag
        return Interruptible(engine) { current.flag?.raise() }
      })
    try await body(engine)
    await engine.close()
  }

  private final class Current: Sendable {
    private let value = Lock<Flag?>(nil)
    var flag: Flag? {
      get { value.withLock { $0 } }
      set { value.withLock { $0 = newValue } }
    }
  }

  // MARK: Closing with a deadline

  @Test func `a close with a deadline says whether the end was reached`() async throws {
    let worker = try Worker("closes")
    let gate = try await Gate.holding(worker)
    #expect(await worker.close(deadline: .now + .milliseconds(20)) == false)
    #expect(worker.isClosed)
    #expect(await worker.close(deadline: .now) == false)
    #expect(await worker.close(.discard, deadline: .now - .seconds(1)) == false)
    gate.open()
    #expect(await worker.close(deadline: .now + patience(seconds: 60)))
    #expect(await worker.close(deadline: .now - .seconds(1)))
    #expect(await worker.close(deadline: .now + .seconds(Int64.max)))
  }

  @Test func `a close with a deadline that is far away returns at the end`() async throws {
    for _ in 0..<scaled(300) {
      let worker = try Worker("closes")
      try worker.submit {}
      #expect(await worker.close(deadline: .now + .seconds(3600)))
    }
    let loop = try RequestLoop<Int>("loop") { batch in while batch.next() != nil {} }
    try await loop.send(1)
    #expect(await loop.close(deadline: .now + .seconds(Int64.max)))
    let confined = try await Confined("confined") { 1 }
    #expect(await confined.close(.discard, deadline: .now + .seconds(3600)))
  }
}

private struct Weak: Sendable {
  weak let value: Canary?
  init(_ value: Canary) { self.value = value }
}

private func fail(_ canary: Canary) { Issue.record("nobody cancelled") }

private func yieldThread() { _ = sched_yield() }

private final class Flag: Sendable {
  private let raised = Atomic<Bool>(false)
  var isRaised: Bool { raised.load(ordering: .acquiring) }
  func raise() { raised.store(true, ordering: .releasing) }
}

private func callSync(_ worker: Worker, _ body: () -> Void) throws {
  try worker.call(body)
}
