// Opening, closing, letting go.

import Dispatch
import LanyardTestSupport
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct WorkerTests {
  // MARK: Opening

  @Test func `the capacity is rounded up to a power of two and reported`() throws {
    var configuration = Worker.Configuration()
    configuration.capacity = 5
    let worker = try Worker(configuration: configuration)
    #expect(worker.statistics.capacity == 8)
  }

  @Test(arguments: [
    ("capacity", 1), ("capacity", 1 << 21), ("capacity", -1), ("batchLimit", 0), ("stackSize", 0),
    ("spin", -1), ("spin", 60),
  ])
  func `a configuration out of range is refused with a sentence that names it`(
    property: String, value: Int
  ) throws {
    var configuration = Worker.Configuration()
    switch property {
    case "capacity": configuration.capacity = value
    case "batchLimit": configuration.batchLimit = value
    case "stackSize": configuration.stackSize = value
    default: configuration.spin = .seconds(value)
    }
    let error = try #require(throws: WorkerError.self) {
      _ = try Worker("never opened", configuration: configuration)
    }
    #expect(error.code == .invalid)
    #expect("\(error)".hasPrefix("\(property) is "))
    #expect(!Worker.live.contains { $0.name == "never opened" })
  }

  @Test func `a live worker is listed with its name and where it was opened`() async throws {
    let worker = try Worker("a listed worker with a long name")
    let line = #line - 1
    let info = try #require(Worker.live.first { $0.name == worker.name })
    #expect(info.fileID == #fileID)
    #expect(info.line == line)
    #expect(!info.isClosed)
    #expect(info.age < .seconds(60))
    await worker.close()
    #expect(try #require(Worker.live.first { $0.id == info.id }).isClosed, "it is still owned")
  }

  @Test func `a lazy worker starts its thread with its first request`() async throws {
    var configuration = Worker.Configuration()
    configuration.lazy = true
    let worker = try Worker("lazy", configuration: configuration)
    #expect(try await worker.run { currentThread() } != currentThread())
    let unused = try Worker("lazy", configuration: configuration)
    await unused.close()
    #expect(unused.isClosed)
  }

  @Test func `a spin too long to express is refused as any other`() throws {
    for spin in [Duration.seconds(Int64.max) * 2, .seconds(Int64.min) * 2] {
      var configuration = Worker.Configuration()
      configuration.spin = spin
      let error = try #require(throws: WorkerError.self) {
        _ = try Worker("never opened", configuration: configuration)
      }
      #expect(error.code == .invalid)
    }
  }

  // One that is too long would wait for the workers of all other tests: what it is made of is looked at instead.
  @Test func `a limit of quiesce that cannot be expressed is none, or has passed`() async {
    _ = await Task.detached { quiesced(within: .seconds(Int64.min) * 2) }.value
    #expect(WorkerHandle.nanoseconds(fromNow: .seconds(Int64.max) * 2) == WorkerHandle.forever)
    #expect(WorkerHandle.nanoseconds(fromNow: Duration(attoseconds: .max)) == WorkerHandle.forever)
    #expect(WorkerHandle.nanoseconds(fromNow: Duration(attoseconds: .min)) <= WorkerHandle.now)
  }

  // MARK: Closing

  @Test func `after close every way to submit throws closed`() async throws {
    let worker = try Worker()
    await worker.close()
    #expect(worker.isClosed)
    await #expect(throws: WorkerError(.closed)) { try await worker.run {} }
    #expect(throws: WorkerError(.closed)) { try worker.submit {} }
    #expect(throws: WorkerError(.closed)) { try blockingCall(worker) {} }
    let statistics = worker.statistics
    #expect(statistics.submitted == statistics.completed)
  }

  @Test func `a worker can be closed again, both ways`() async throws {
    let worker = try Worker()
    await worker.close()
    await worker.close(.discard)
    blockingClose(worker)
    blockingClose(worker, .discard)
    #expect(worker.isClosed)
  }

  @Test(arguments: [Worker.CloseMode.drain, .discard])
  func `closers of both kinds all return after the thread was joined`(mode: Worker.CloseMode)
    async throws
  {
    let worker = try Worker()
    let gate = try await Gate.holding(worker)
    let thread = Task { try await worker.run { currentThread() } }
    await until { worker.statistics.submitted == 2 }

    let ended = Counter()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<16 {
        group.addTask {
          await worker.close(mode)
          ended.increment()
          #expect(worker.isClosed)
        }
      }
      for _ in 0..<4 {
        group.addTask {
          await onThreadOfItsOwn {
            worker.closeAndWait(mode)
            ended.increment()
          }
        }
      }
      await until { worker.isClosed }
      #expect(ended.value == 0, "nobody returns while a request runs")
      gate.open()
      try await group.waitForAll()
    }
    #expect(ended.value == 20)
    switch mode {
    case .drain:
      let ended = try await thread.value
      await until { !threadExists(ended) }  // the system may list it for a moment after the join
    case .discard:
      await #expect(throws: WorkerError(.closed)) { try await thread.value }
    }
  }

  @Test func `a drain runs what was accepted before the close`() async throws {
    let worker = try Worker()
    let gate = try await Gate.holding(worker)
    let ran = Counter()
    for _ in 0..<10 { try worker.submit { ran.increment() } }
    async let closed: Void = worker.close(.drain)
    await until { worker.isClosed }
    gate.open()
    await closed
    #expect(ran.value == 10)
  }

  @Test func `a discard releases what it does not run and answers closed`() async throws {
    let worker = try Worker()
    let gate = try await Gate.holding(worker)
    let ran = Counter()
    weak let canary: Canary?
    do {
      let captured = Canary()
      canary = captured
      try worker.submit { [captured] in withExtendedLifetime(captured) { ran.increment() } }
    }
    let result = Task { try await worker.run { ran.increment() } }
    await until { worker.statistics.submitted == 3 }
    async let closed: Void = worker.close(.discard)
    await until { worker.isClosed }
    gate.open()
    await closed
    await #expect(throws: WorkerError(.closed)) { try await result.value }
    #expect(ran.value == 0)
    #expect(canary == nil)
    #expect(worker.statistics.discarded == 2)
  }

  @Test func `close on the worker's own thread begins and does not wait for itself`() async throws {
    let worker = try Worker()
    let isClosed = try await worker.run { [worker] in
      blockingClose(worker)
      return worker.isClosed
    }
    #expect(isClosed)
    await worker.close()
  }

  @Test func `a thousand workers closed at once leave none`() async throws {
    let name = "closed at once"
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<scaled(1000) {
        group.addTask {
          let worker = try Worker(name)
          try await worker.run {}
          await worker.close()
        }
      }
      try await group.waitForAll()
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  // MARK: Letting go

  @Test func `letting go finishes what was accepted and joins the thread`() async throws {
    let name = "let go outside"
    let ran = Counter()
    var worker: Worker? = try Worker(name)
    let thread = try await worker!.run { currentThread() }
    #expect(threadExists(thread))
    for _ in 0..<100 { try worker!.submit { ran.increment() } }
    worker = nil
    await until { ran.value == 100 }  // in a task letting go does not wait for a starved thread
    await until { !threadExists(thread) }  // the system may list it for a moment after the join
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `an idle worker does not keep its object alive, whatever it ran before`() async throws
  {
    struct Failed: Error {}
    var worker: Worker? = try Worker()
    weak let observed = worker
    try await worker!.run {}
    await #expect(throws: Failed.self) {
      try await worker!.run { () throws(Failed) in throw Failed() }
    }
    try worker!.submit {}
    worker = nil
    #expect(observed == nil)
  }

  // The test lets go first, then the closure, which holds the last reference, goes on the worker:
  //
  //     test                           worker
  //     submits a closure that owns    waits
  //     lets go, then signals      ->  ends: deinit runs here, on the thread that it would join
  @Test func `ten thousand workers let go of on their own threads leave none`() async throws {
    let name = "let go inside"
    for _ in 0..<scaled(10_000) {
      let isAlone = DispatchSemaphore(value: 0)
      func letGo() throws {
        let worker = try Worker(name)
        try worker.submit { [worker] in
          isAlone.wait()
          #expect(worker.isCurrent)
        }
      }
      try letGo()
      isAlone.signal()
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `what was accepted still runs after the last reference went on the worker`()
    async throws
  {
    let name = "let go with work"
    let ran = Counter()
    let isAlone = DispatchSemaphore(value: 0)
    func letGo() throws {
      let worker = try Worker(name)
      try worker.submit { [worker] in
        isAlone.wait()
        withExtendedLifetime(worker) {}
      }
      for _ in 0..<100 { try worker.submit { ran.increment() } }
    }
    try letGo()
    isAlone.signal()
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(ran.value == 100)
  }
}

/// The blocking forms are not to be had in asynchronous code; the tests mean to call them.
func blockingClose(_ worker: Worker, _ mode: Worker.CloseMode = .drain) {
  worker.closeAndWait(mode)
}

func blockingCall<Result, Failure: Error>(
  _ worker: Worker, _ body: () throws(Failure) -> Result
) throws -> Result {
  try worker.call(body)
}

func quiesced(within limit: Duration) -> Int {
  Worker.quiesce(within: limit)
}
