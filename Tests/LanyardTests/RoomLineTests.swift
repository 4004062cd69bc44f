// What happens to callers of `run` when the ring is full.

import LanyardTestSupport
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct RoomLineTests {
  private func worker(_ name: String = "room", capacity: Int = 2) throws -> Worker {
    var configuration = Worker.Configuration()
    configuration.capacity = capacity
    return try Worker(name, configuration: configuration)
  }

  /// A held worker whose ring is full.
  private func fullWorker(
    _ name: String = "room", capacity: Int = 2
  ) async throws -> (Worker, Gate) {
    let worker = try worker(name, capacity: capacity)
    let gate = try await Gate.holding(worker)
    for _ in 0..<capacity { try worker.submit {} }
    return (worker, gate)
  }

  @Test func `a full ring suspends a thousand callers, blocks no thread, and runs each once`()
    async throws
  {
    let name = "a thousand callers"
    let callers = scaled(1000)
    let ran = Notes<Int>()
    try await suspend(callers, of: name, noting: ran)
    #expect(ran.all.sorted() == Array(0..<callers))
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  private func suspend(_ callers: Int, of name: String, noting ran: Notes<Int>) async throws {
    let (worker, gate) = try await fullWorker(name)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<callers {
        group.addTask { try await worker.run { ran.add(number) } }
      }
      // This goes on, on the threads that the callers would otherwise hold.
      await until { worker.line.length == callers }
      gate.open()
      try await group.waitForAll()
    }
    #expect(worker.line.isEmpty)
  }

  @Test(arguments: [2, 4, 8])
  func `callers that wait for room are served in the order in which they came`(capacity: Int)
    async throws
  {
    let (worker, gate) = try await fullWorker(capacity: capacity)
    let order = Notes<Int>()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<50 {
        group.addTask { try await worker.run { order.add(number) } }
        await until { worker.line.length == number + 1 }
      }
      gate.open()
      try await group.waitForAll()
    }
    #expect(order.all == Array(0..<50))
  }

  // Whoever comes while somebody stands in line gets a place behind, or is refused, even in the moments in
  // which the ring has room. So every latecomer that runs does so after all that stood in line before.
  @Test func `latecomers of both kinds stay behind those who wait, also when there is room`()
    async throws
  {
    for _ in 0..<scaled(20) {
      let (worker, gate) = try await fullWorker()
      let order = Notes<Int>()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<100 {
          group.addTask { try await worker.run { order.add(number) } }
          await until { worker.line.length == number + 1 }
        }
        gate.open()
        for _ in 0..<20 {
          group.addTask { try await worker.run { order.add(-2) } }
          _ = try? worker.submit { order.add(-1) }
        }
        try await group.waitForAll()
      }
      await worker.close()
      #expect(Array(order.all.prefix(100)) == Array(0..<100))
      #expect(order.all.dropFirst(100).allSatisfy { $0 < 0 })
    }
  }

  @Test func `submit does not overtake callers that wait for room`() async throws {
    let (worker, gate) = try await fullWorker()
    async let waits: Void = worker.run {}
    await until { worker.line.length == 1 }
    #expect(throws: WorkerError(.full)) { try worker.submit {} }
    gate.open()
    try await waits
    try await worker.run {}
    try worker.submit {}
  }

  @Test func `a cancelled caller leaves the line at once, the others keep their places`()
    async throws
  {
    let (worker, gate) = try await fullWorker()
    let order = Notes<Int>()
    var tasks: [Task<Void, any Error>] = []
    for number in 0..<10 {
      tasks.append(Task { try await worker.run { order.add(number) } })
      await until { worker.line.length == number + 1 }
    }
    for number in [0, 4, 9] {
      tasks[number].cancel()
      await #expect(throws: CancellationError.self) { try await tasks[number].value }
    }
    #expect(worker.line.length == 7)
    gate.open()
    for number in [1, 2, 3, 5, 6, 7, 8] { try await tasks[number].value }
    #expect(order.all == [1, 2, 3, 5, 6, 7, 8])
  }

  @Test func `a line from which everybody has left does not hold the worker`() async throws {
    let name = "left alone"
    var configuration = Worker.Configuration()
    configuration.capacity = 2
    var worker: Worker? = try Worker(name, configuration: configuration)
    let gate = try await Gate.holding(worker!)
    for _ in 0..<2 { try worker!.submit {} }
    let task = Task { [worker] in try await worker!.run {} }
    await until { worker!.line.length == 1 }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    gate.open()
    weak let observed = worker
    worker = nil
    await until { observed == nil }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test(arguments: [Worker.CloseMode.drain, .discard])
  func `close answers everybody in line with closed`(mode: Worker.CloseMode) async throws {
    let (worker, gate) = try await fullWorker()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<100 {
        group.addTask {
          await #expect(throws: WorkerError(.closed)) {
            try await worker.run { Issue.record("it ran") }
          }
        }
      }
      await until { worker.line.length == 100 }
      group.addTask { await worker.close(mode) }
      await until { worker.line.isEmpty }
      gate.open()
      try await group.waitForAll()
    }
  }

  @Test func `twenty thousand cancellations race the line, each request is answered once`()
    async throws
  {
    let worker = try worker()
    let rounds = scaled(500)
    let ran = Counter()
    let returned = Counter()
    let cancelled = Counter()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for racer in 0..<40 {
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
            for _ in 0..<((racer + round) % 7) { await Task.yield() }
            if round % 3 != 0 { task.cancel() }
            try await task.value
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(returned.value + cancelled.value == 40 * rounds)
    #expect(ran.value == returned.value)
    #expect(worker.line.isEmpty)
    await worker.close()
  }

  // While the worker is held a cancelled task can only leave if its cancellation is never missed, wherever
  // it hits: before the submit, in it, in the ring, on the way into the line, or in it. Withdrawn requests
  // keep their slots until their turn comes, so after a while every task goes through the line.
  @Test func `a cancellation is never missed, wherever it hits`() async throws {
    let rounds = scaled(500)
    let worker = try worker(capacity: 8 * rounds)
    let gate = try await Gate.holding(worker)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for racer in 0..<16 {
        group.addTask {
          for round in 0..<rounds {
            let hasStarted = Counter()
            let task = Task {
              hasStarted.increment()
              try await worker.run { _ = Issue.record("it ran") }
            }
            if (racer + round) % 4 != 0 { await until { hasStarted.value == 1 } }
            for _ in 0..<((racer + round) % 3) { await Task.yield() }
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(worker.line.isEmpty)
    gate.open()
    await worker.close()
  }

  @Test func `closes race callers in line, each is answered once`() async throws {
    for round in 0..<scaled(200) {
      let worker = try worker()
      let ran = Counter()
      let answered = Counter()
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<20 {
          group.addTask {
            do {
              try await worker.run { ran.increment() }
            } catch let error as WorkerError where error.code == .closed {
              answered.increment()
            }
          }
        }
        group.addTask {
          for _ in 0..<(round % 10) { await Task.yield() }
          await worker.close(round % 2 == 0 ? .drain : .discard)
        }
        try await group.waitForAll()
      }
      #expect(ran.value + answered.value == 20)
    }
  }
}
