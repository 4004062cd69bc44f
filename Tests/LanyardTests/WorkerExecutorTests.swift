// Actors and tasks on a worker's thread.

import Dispatch
import LanyardTestSupport
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct WorkerExecutorTests {
  /// Lives on a worker, and holds nothing of it but the executor.
  actor Resident {
    private let executor: WorkerExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    var value = 0
    init(on executor: WorkerExecutor) { self.executor = executor }

    func add(_ amount: Int) -> Int {
      value += amount
      return value
    }
    func thread() -> String { currentThread() }
    func isOn(_ worker: Worker) -> Bool { worker.isCurrent }
    func run<Result: Sendable>(_ body: @Sendable (isolated Resident) throws -> Result) rethrows
      -> Result
    {
      try body(self)
    }
    /// Suspends in the midst of its work, and comes back.
    func hop(times: Int) async -> Bool {
      let before = currentThread()
      for _ in 0..<times { await Task.yield() }
      return before == currentThread()
    }
  }

  // MARK: Where it runs

  @Test func `an actor on the executor runs on the worker's thread`() async throws {
    let worker = try Worker("resident")
    let resident = Resident(on: worker.executor)
    let thread = try await worker.run { currentThread() }
    #expect(await resident.thread() == thread)
    #expect(await resident.isOn(worker))
    #expect(await resident.hop(times: 100), "it comes back to its thread after each suspension")
    #expect(currentThread() != thread, "its caller does not stay there")
  }

  @Test func `a task that prefers the executor runs on the worker's thread, children included`()
    async throws
  {
    let worker = try Worker("tasks")
    let thread = try await worker.run { currentThread() }
    await withTaskExecutorPreference(worker.taskExecutor) {
      #expect(currentThread() == thread)
      async let child = currentThread()
      #expect(await child == thread)
      await withTaskGroup(of: String.self) { group in
        for _ in 0..<100 { group.addTask { currentThread() } }
        for await name in group { #expect(name == thread) }
      }
      #expect(currentThread() == thread)
    }
    let task = Task(executorPreference: worker.taskExecutor) { currentThread() }
    #expect(await task.value == thread)
  }

  @Test func `actors of one worker exclude each other and its requests`() async throws {
    let worker = try Worker("shared")
    let first = Resident(on: worker.executor)
    let second = Resident(on: worker.executor)
    // Not Sendable and not locked: that all run on one thread is what keeps it from harm. ThreadSanitizer
    // looks on.
    final class Tally: @unchecked Sendable { var value = 0 }
    let tally = Tally()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<30 {
        group.addTask {
          for _ in 0..<100 {
            switch number % 3 {
            case 0: await first.run { _ in tally.value += 1 }
            case 1: await second.run { _ in tally.value += 1 }
            default: try await worker.run { tally.value += 1 }
            }
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(try await worker.run { tally.value } == 3000)
  }

  @Test func `the executor is the same as long as somebody holds it, and not held by the worker`()
    async throws
  {
    let worker = try Worker()
    var executor: WorkerExecutor? = worker.executor
    #expect(executor === worker.executor)
    weak let serial = executor
    executor = nil
    #expect(serial == nil)
    var taskExecutor: WorkerTaskExecutor? = worker.taskExecutor
    #expect(taskExecutor === worker.taskExecutor)
    weak let task = taskExecutor
    taskExecutor = nil
    #expect(task == nil)
    #expect(!worker.isClosed, "the worker goes on without executors")
    #expect(try await worker.run { 5 } == 5)
  }

  @Test func `code on the worker's thread is isolated to its actors, without a task too`()
    async throws
  {
    let worker = try Worker()
    let resident = Resident(on: worker.executor)
    let value = try await worker.run {
      resident.assumeIsolated { $0.value += 1 }  // would stop the process elsewhere
      resident.preconditionIsolated()
      return resident.assumeIsolated { $0.value }
    }
    #expect(value == 1)
    #expect(worker.executor.isIsolatingCurrentContext() == false)
    #expect(worker.taskExecutor.isIsolatingCurrentContext() == false)
  }

  @Test
  func `an actor that is taken for isolated on another thread stops the process, and says why`()
    async
  {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let worker = try Worker()
      let resident = Resident(on: worker.executor)
      func assume() { resident.assumeIsolated { $0.value += 1 } }
      assume()
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("executor"), "\(text)")
  }

  @Test func `a blocking call from an actor on the worker runs at once`() async throws {
    let worker = try Worker()
    let resident = Resident(on: worker.executor)
    let result = try await resident.run { [worker] _ in
      try blockingCall(worker) { worker.isCurrent }
    }
    #expect(result)
  }

  // MARK: Order

  @Test func `jobs and requests of one thread run in the order in which it handed them over`()
    async throws
  {
    let worker = try Worker()
    let resident = Resident(on: worker.executor)
    let gate = try await Gate.holding(worker)
    let notes = Notes<Int>()
    // Enqueued by this thread, in this order: the tasks prefer the worker, so creating one enqueues it.
    let executor = worker.taskExecutor
    var tasks: [Task<Void, Never>] = []
    for number in 0..<500 {
      if number % 2 == 0 {
        try worker.submit { notes.add(number) }
      } else {
        tasks.append(Task(executorPreference: executor) { notes.add(number) })
      }
    }
    gate.open()
    for task in tasks { await task.value }
    #expect(await resident.add(1) == 1)
    #expect(notes.all == Array(0..<500))
  }

  @Test func `an executor has room beyond a full ring`() async throws {
    var configuration = Worker.Configuration()
    configuration.capacity = 2
    let worker = try Worker(configuration: configuration)
    let gate = try await Gate.holding(worker)
    while (try? worker.submit {}) != nil {}
    let resident = Resident(on: worker.executor)
    let calls = scaled(10_000)
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<calls { group.addTask { _ = await resident.add(1) } }
      gate.open()
    }
    #expect(await resident.value == calls)
  }

  // MARK: After close

  @Test(arguments: [Worker.CloseMode.drain, .discard])
  func `jobs that are queued when the worker closes run, and so do later ones`(
    mode: Worker.CloseMode
  ) async throws {
    let worker = try Worker("closed with jobs")
    let resident = Resident(on: worker.executor)
    let thread = await resident.thread()
    let gate = try await Gate.holding(worker)
    let tasks = (0..<1000).map { _ in
      Task(executorPreference: worker.taskExecutor) { await resident.add(1) }
    }
    async let closed: Void = worker.close(mode)
    await until { worker.isClosed }
    gate.open()
    await closed
    for task in tasks { _ = await task.value }
    #expect(await resident.value == 1000)
    await worker.close(mode)
    #expect(await resident.add(1) == 1001)
    #expect(await resident.thread() == thread)
    #expect(await resident.hop(times: 10))
    await #expect(throws: WorkerError(.closed)) { try await worker.run {} }
  }

  @Test func `a closed worker's thread ends with its last executor`() async throws {
    let name = "ends with the executor"
    func live() async throws -> String {
      let worker = try Worker(name)
      let resident = Resident(on: worker.executor)
      let thread = await resident.thread()
      await worker.close()
      #expect(threadExists(thread))
      #expect(await resident.add(1) == 1)
      return thread
    }
    let thread = try await live()
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    await until { !threadExists(thread) }
  }

  @Test func `an actor on the worker can await its close, and goes on`() async throws {
    let worker = try Worker()
    let resident = Resident(on: worker.executor)
    let task = Task(executorPreference: worker.taskExecutor) {
      await worker.close()
      return await resident.add(1)
    }
    #expect(await task.value == 1)
    #expect(worker.isClosed)
  }

  @Test func `an executor that is asked for after close has a thread`() async throws {
    let name = "asked for late"
    func use() async throws {
      let worker = try Worker(name)
      await worker.close()
      let resident = Resident(on: worker.executor)
      #expect(await resident.add(1) == 1)
      #expect(await resident.hop(times: 10))
      #expect(worker.executor === worker.executor)
      let task = Task(executorPreference: worker.taskExecutor) { currentThread() }
      #expect(await task.value != currentThread())
    }
    try await use()
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `an executor keeps the thread of a worker that was let go of`() async throws {
    let name = "let go of, kept"
    func live() async throws {
      var worker: Worker? = try Worker(name)
      let thread = try await worker!.run { currentThread() }
      let resident = Resident(on: worker!.executor)
      worker = nil
      #expect(await resident.thread() == thread)
      for number in 1...100 { #expect(await resident.add(1) == number) }
    }
    try await live()
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `a lazy worker's thread starts with the first job`() async throws {
    var configuration = Worker.Configuration()
    configuration.lazy = true
    let worker = try Worker(configuration: configuration)
    let resident = Resident(on: worker.executor)
    #expect(await resident.isOn(worker))
  }

  // MARK: Letting go on the worker

  // The task holds the last reference to everything; its last job lets go of it, on the thread that would
  // have to be joined:
  //
  //     test                            worker
  //     starts the task, lets go    ->  waits until it is alone
  //     says so                     ->  ends: actor, executor and worker go here
  @Test func `ten thousand tasks that end as the last owners of their executor leave no worker`()
    async throws
  {
    let name = "owned by its task"
    let ended = Counter()
    let rounds = scaled(10_000)
    for _ in 0..<rounds {
      let isAlone = DispatchSemaphore(value: 0)
      func start() throws {
        let worker = try Worker(name)
        let resident = Resident(on: worker.executor)
        Task(executorPreference: worker.taskExecutor) { [worker] in
          waitBlocking(for: isAlone)
          #expect(worker.isCurrent)
          _ = await resident.add(1)
          ended.increment()
        }
      }
      try start()
      isAlone.signal()
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(ended.value == rounds)
  }

  @Test func `an actor may be what holds the last reference to its worker and go on its thread`()
    async throws
  {
    actor Owner {
      let worker: Worker
      let executor: WorkerExecutor
      let gone: Counter
      nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
      init(_ name: String, gone: Counter) throws {
        worker = try Worker(name)
        executor = worker.executor
        self.gone = gone
      }
      deinit { gone.increment() }
      func work() -> Bool { worker.isCurrent }
    }
    let name = "owned by its actor"
    let gone = Counter()
    let rounds = scaled(1000)
    var tasks: [Task<Bool, Never>] = []
    for _ in 0..<rounds {
      let owner = try Owner(name, gone: gone)
      tasks.append(Task { await owner.work() })
    }
    for task in tasks { #expect(await task.value) }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(gone.value == rounds)
  }

  @Test func `an executor outlives the actor that its own job lets go of`() async throws {
    let name = "released in a job"
    let rounds = scaled(1000)
    for _ in 0..<rounds {
      var resident: Resident? = Resident(on: try Worker(name).executor)
      _ = await resident?.add(1)
      resident = nil
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  // MARK: Each once

  @Test func `a hundred thousand jobs from many tasks run once each`() async throws {
    let worker = try Worker()
    let resident = Resident(on: worker.executor)
    let each = scaled(5000)
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<20 {
        group.addTask {
          for _ in 0..<each { _ = await resident.add(1) }
        }
      }
    }
    #expect(await resident.value == 20 * each)
  }

  // An executor of both kinds at once gets two (swiftlang/swift-platform-executors#11), and a job that is run
  // for the wrong kind is enqueued again for ever.
  @Test func `each call of an actor, and each child task, is one job`() async throws {
    let worker = try Worker()
    let resident = Resident(on: worker.executor)
    for _ in 0..<1000 { _ = await resident.add(1) }
    #expect(worker.statistics.jobs == 1000)
    let executor = worker.taskExecutor
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<1000 { group.addTask(executorPreference: executor) {} }
    }
    #expect(worker.statistics.jobs == 2000)
  }

  // What code after an awaited call relies on.
  @Test func `the continuation's body runs at once and its task comes back to its own thread`()
    async throws
  {
    let worker = try Worker()
    let other = try Worker()
    let resident = Resident(on: worker.executor)
    let onActor = try await resident.round(over: other)
    #expect(onActor.bodyRanAtOnce)
    #expect(onActor.cameBack)
    let onTask = try await Task(executorPreference: worker.taskExecutor) {
      try await roundTrip(over: other)
    }.value
    #expect(onTask.bodyRanAtOnce)
    #expect(onTask.cameBack)
  }
}

extension WorkerExecutorTests.Resident {
  func round(over other: Worker) async throws -> (bodyRanAtOnce: Bool, cameBack: Bool) {
    try await roundTrip(over: other)
  }
}

/// What the runtime does around a continuation: a canary for every new toolchain (swiftlang/swift#85668).
private nonisolated(nonsending) func roundTrip(
  over other: Worker
) async throws -> (bodyRanAtOnce: Bool, cameBack: Bool) {
  let before = currentThread()
  let during: String = await withCheckedContinuation { continuation in
    let thread = currentThread()
    do {
      try other.submit { continuation.resume(returning: thread) }
    } catch {
      continuation.resume(returning: "\(error)")
    }
  }
  return (during == before, currentThread() == before)
}

/// Semaphores are not to be waited for in asynchronous code; the thread that this blocks is a worker's own.
private func waitBlocking(for semaphore: DispatchSemaphore) {
  semaphore.wait()
}
