// onStart, onStop and interrupt; a worker for the time of a closure; what cannot be opened.

import Dispatch
import Foundation
import LanyardTestSupport
import Synchronization
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct WorkerHooksTests {
  struct Failed: Error, Equatable {
    let reason: Int
  }

  // MARK: onStart, onStop

  @Test
  func `onStart comes before the first request, onStop after the last, on the worker's thread`()
    async throws
  {
    let log = Log()
    let worker = try Worker("hooked", configuration: log.configuration())
    let gate = Gate()
    try worker.submit {
      gate.pass()
      log.add("first")
    }
    await gate.arrived()
    for number in 0..<3 { try worker.submit { log.add("\(number)") } }
    async let closed: Void = worker.close()
    await until { worker.isClosed }
    #expect(log.events == ["start"])
    gate.open()
    await closed
    // Before close returned.
    #expect(log.events == ["start", "first", "0", "1", "2", "stop"])
    #expect(log.threads.count == 1)
    #expect(!log.threads.contains(currentThread()))
  }

  @Test func `onStart is called without a request too, and the first request waits for it`()
    async throws
  {
    let gate = Gate()
    let ran = Counter()
    var configuration = Worker.Configuration()
    configuration.onStart = { gate.pass() }
    let worker = try Worker("starts", configuration: configuration)
    try worker.submit { ran.increment() }
    await gate.arrived()
    #expect(ran.value == 0)
    gate.open()
    await worker.close()
    #expect(ran.value == 1)
  }

  enum End: CaseIterable {
    case drain, discard, blocking, onItsOwnThread, letGo, letGoOnItsOwnThread, withExecutor
  }

  @Test(arguments: End.allCases)
  func `onStop is called once, however the worker ends, and all hooks are released on its thread`(
    end: End
  ) async throws {
    let name = "hooked, ends by \(end)"
    let log = Log()
    let released = Notes<String>()
    func use() async throws {
      let worker = try Worker(name, configuration: log.configuration(releasing: released))
      try await worker.run { log.add("request") }
      switch end {
      case .drain: await worker.close()
      case .discard: await worker.close(.discard)
      case .blocking: blockingClose(worker)
      case .onItsOwnThread:
        try await worker.run { [worker] in worker.closeAndWait() }
        await worker.close()
      case .letGo: break
      case .letGoOnItsOwnThread: try worker.submit { [worker] in withExtendedLifetime(worker) {} }
      case .withExecutor:
        let executor = worker.executor
        await worker.close()
        #expect(log.events == ["start", "request"], "its thread lives on, for the executor")
        withExtendedLifetime(executor) {}
      }
      switch end {
      case .letGo, .letGoOnItsOwnThread, .withExecutor: break
      default:
        // The worker is held, and so is its core.
        #expect(released.all.count == 3)
        #expect(log.events.last == "stop")
        withExtendedLifetime(worker) {}
      }
    }
    try await use()
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(log.events == ["start", "request", "stop"])
    #expect(log.threads.count == 1)
    #expect(released.all.count == 3)
    // That of onStart was, before anything else, when it had been called.
    #expect(Set(released.all.suffix(2)) == log.threads)
  }

  @Test func `onStop comes after the last job of an executor`() async throws {
    actor Resident {
      private let executor: WorkerExecutor
      private let log: Log
      nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
      init(on worker: Worker, _ log: Log) {
        executor = worker.executor
        self.log = log
      }
      func work() { log.add("job") }
    }
    let name = "hooked, with an actor"
    let log = Log()
    func use() async throws {
      let worker = try Worker(name, configuration: log.configuration())
      let resident = Resident(on: worker, log)
      await resident.work()
      await worker.close()
      await resident.work()
    }
    try await use()
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(log.events == ["start", "job", "job", "stop"])
    #expect(log.threads.count == 1)
  }

  @Test func `what onStart captured is released when it was called, not kept until the end`()
    async throws
  {
    weak let canary: Canary?
    let worker: Worker
    do {
      let captured = Canary()
      canary = captured
      var configuration = Worker.Configuration()
      configuration.onStart = { withExtendedLifetime(captured) {} }
      worker = try Worker("released early", configuration: configuration)
    }
    try await worker.run {}
    #expect(canary == nil)
    await worker.close()
  }

  @Test(arguments: [true, false])
  func `a lazy worker that never got a request calls neither, and releases both`(closes: Bool)
    async throws
  {
    let name = "lazy, never started"
    let log = Log()
    let released = Notes<String>()
    func letGo() async throws {
      var configuration = log.configuration(releasing: released)
      configuration.lazy = true
      let worker = try Worker(name, configuration: configuration)
      if closes { await worker.close() }
    }
    try await letGo()
    #expect(log.events.isEmpty)
    #expect(released.all.count == 3)
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `a lazy worker calls onStart with its first request, and onStop`() async throws {
    let log = Log()
    var configuration = log.configuration()
    configuration.lazy = true
    let worker = try Worker("lazy, hooked", configuration: configuration)
    #expect(log.events.isEmpty)
    try await worker.run { log.add("request") }
    await worker.close()
    #expect(log.events == ["start", "request", "stop"])
    #expect(log.threads.count == 1)
  }

  @Test func `one configuration may open many workers, each of which calls its hooks once`()
    async throws
  {
    let starts = Counter()
    let stops = Counter()
    var configuration = Worker.Configuration()
    configuration.onStart = { starts.increment() }
    configuration.onStop = { stops.increment() }
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<50 {
        group.addTask { [configuration] in
          let worker = try? Worker("of one configuration", configuration: configuration)
          await worker?.close()
        }
      }
    }
    #expect(starts.value == 50)
    #expect(stops.value == 50)
  }

  // MARK: interrupt

  @Test func `a cancellation interrupts the request that runs, once, on the cancelling side`()
    async throws
  {
    let hook = Hook()
    let worker = try Worker("interrupted", configuration: hook.configuration)
    let isRunning = Gate()
    let task = Task {
      try await worker.run {
        isRunning.pass()
        hook.called.wait()
        return currentThread()
      }
    }
    await isRunning.arrived()
    isRunning.open()
    let cancellers = cancel(task, times: 3)
    let thread = try await task.value
    #expect(hook.threads.all.count == 1, "at most once")
    #expect(hook.threads.all.first == cancellers)
    #expect(hook.threads.all.first != thread)
    #expect(try await worker.run { 1 } == 1)
    await worker.close()
    #expect(worker.statistics.cancelled == 0)
    #expect(worker.statistics.completed == 2)
    #expect(hook.threads.all.count == 1)
  }

  /// Cancels, and returns the thread that did. Nothing here suspends, so it is one.
  private func cancel<Success>(_ task: Task<Success, any Error>, times: Int) -> String {
    for _ in 0..<times { task.cancel() }
    return currentThread()
  }

  @Test func `what an interrupted request returns or throws is the result`() async throws {
    let hook = Hook()
    let worker = try Worker("interrupted, throws", configuration: hook.configuration)
    for reason in 0..<20 {
      let isRunning = Gate()
      let task = Task {
        try await worker.run { () throws(Failed) in
          isRunning.pass()
          hook.called.wait()
          throw Failed(reason: reason)
        }
      }
      await isRunning.arrived()
      isRunning.open()
      task.cancel()
      await #expect(throws: Failed(reason: reason)) { try await task.value }
    }
    #expect(hook.threads.all.count == 20)
    await worker.close()
  }

  @Test
  func `at the deadline of a request that runs it is interrupted, and its result is returned`()
    async throws
  {
    let hook = Hook()
    let worker = try Worker("interrupted, late", configuration: hook.configuration)
    let (task, deadline) = try await started(on: worker) {
      hook.called.wait()
      return ContinuousClock.now
    }
    #expect(try await task.value >= deadline)
    await worker.close()
    #expect(hook.threads.all.count == 1)
  }

  @Test func `a request is interrupted once, by its deadline or by the cancellation of its task`()
    async throws
  {
    let hook = Hook()
    let worker = try Worker("interrupted once", configuration: hook.configuration)
    // The deadline first.
    let wasInterrupted = Gate()
    let (late, _) = try await started(on: worker) {
      hook.called.wait()
      wasInterrupted.pass()
    }
    await wasInterrupted.arrived()
    late.cancel()
    wasInterrupted.open()
    try await late.value
    #expect(hook.threads.all.count == 1)
    // The cancellation first.
    let (cancelled, deadline) = try await started(on: worker) {
      hook.called.wait()
      wasInterrupted.pass()
    }
    cancelled.cancel()
    try await Task.sleep(until: deadline + .milliseconds(20))
    wasInterrupted.open()
    try await cancelled.value
    await worker.close()
    #expect(hook.threads.all.count == 2)
  }

  /// A request with a deadline, which has started before that.
  private func started<Result: Sendable>(
    on worker: Worker, _ body: @escaping @Sendable () -> Result
  ) async throws -> (task: Task<Result, any Error>, deadline: ContinuousClock.Instant) {
    // A machine that is so slow that it has not gets more time.
    for patience in [50, 500, 5000, 50_000] {
      let hasStarted = Counter()
      let wasAnswered = Counter()
      let deadline = ContinuousClock.now + .milliseconds(patience)
      let task = Task {
        defer { wasAnswered.increment() }
        return try await worker.run(deadline: deadline) {
          hasStarted.increment()
          return body()
        }
      }
      await until { hasStarted.value == 1 || wasAnswered.value == 1 }
      if hasStarted.value == 1 { return (task, deadline) }
    }
    throw Failed(reason: 0)
  }

  @Test
  func `a request that ends before its deadline, or before the cancellation, is not interrupted`()
    async throws
  {
    let hook = Hook()
    let worker = try Worker("not interrupted", configuration: hook.configuration)
    let task = Task { try await worker.run(deadline: .now + .seconds(3600)) { 1 } }
    #expect(try await task.value == 1)
    task.cancel()
    let gate = try await Gate.holding(worker)
    gate.open()
    await worker.close()
    #expect(hook.threads.all.isEmpty)
  }

  @Test func `a queued request is withdrawn without an interrupt, whatever runs`() async throws {
    let hook = Hook()
    let worker = try Worker("queued", configuration: hook.configuration)
    let gate = try await Gate.holding(worker)
    let cancelled = Task { try await worker.run { _ = Issue.record("it ran") } }
    await until { worker.statistics.submitted == 2 }
    cancelled.cancel()
    await #expect(throws: CancellationError.self) { try await cancelled.value }
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await worker.run(deadline: .now + .milliseconds(5)) { _ = Issue.record("it ran") }
    }
    gate.open()
    await worker.close()
    #expect(hook.threads.all.isEmpty)
    #expect(worker.statistics.cancelled == 2)
  }

  @Test func `neither submit nor call nor close is interrupted`() async throws {
    let hook = Hook()
    let worker = try Worker("without a caller", configuration: hook.configuration)
    let gate = try await Gate.holding(worker)
    let returned = Counter()
    let task = Task {
      await onThreadOfItsOwn {
        try? worker.call {}
        returned.increment()
      }
    }
    await until { worker.statistics.submitted == 2 }
    task.cancel()
    let closer = Task { await worker.close(.drain) }
    await until { worker.isClosed }
    closer.cancel()
    gate.open()
    await task.value
    await closer.value
    #expect(returned.value == 1)
    #expect(hook.threads.all.isEmpty)
  }

  //     worker                          canceller
  //     runs the first request    <-    the hook is called, and waits
  //     its body ends
  //     does not go on                  the hook returns
  //     runs the second one
  @Test func `the worker does not go on to the next request before the hook has returned`()
    async throws
  {
    let events = Notes<String>()
    let isInHook = Gate()
    let wasCalled = DispatchSemaphore(value: 0)
    var configuration = Worker.Configuration()
    configuration.interrupt = {
      wasCalled.signal()
      isInHook.pass()
      events.add("the hook returns")
    }
    let worker = try Worker("waits for the hook", configuration: configuration)
    let isRunning = Gate()
    let bodyEnded = Counter()
    let first = Task {
      try await worker.run {
        isRunning.pass()
        wasCalled.wait()
        bodyEnded.increment()
      }
    }
    await isRunning.arrived()
    let second = Task { try await worker.run { events.add("the next request runs") } }
    await until { worker.statistics.submitted == 2 }
    // On a thread of its own, which the hook holds.
    async let cancelled: Void = onThreadOfItsOwn { first.cancel() }
    isRunning.open()
    await isInHook.arrived()
    await until { bodyEnded.value == 1 }
    // A worker that went on would do so now.
    for _ in 0..<1000 { await Task.yield() }
    #expect(events.all.isEmpty)
    isInHook.open()
    await cancelled
    try await first.value
    try await second.value
    #expect(events.all == ["the hook returns", "the next request runs"])
    await worker.close()
  }

  @Test func `the hook may use the worker, as long as it does not wait for it`() async throws {
    let workerOf = Lock<Worker?>(nil)
    let answers = Notes<String>()
    let called = DispatchSemaphore(value: 0)
    var configuration = Worker.Configuration()
    configuration.interrupt = {
      guard let worker = workerOf.withLock({ $0 }) else { return }
      answers.add("\(worker.isCurrent) \(worker.isClosed) \(worker.statistics.completed)")
      try? worker.submit { answers.add("submitted") }
      called.signal()
    }
    let worker = try Worker("used by its hook", configuration: configuration)
    workerOf.withLock { $0 = worker }
    let isRunning = Gate()
    let task = Task {
      try await worker.run {
        isRunning.pass()
        called.wait()
      }
    }
    await isRunning.arrived()
    isRunning.open()
    task.cancel()
    try await task.value
    await worker.close()
    workerOf.withLock { $0 = nil }
    #expect(answers.all == ["false false 0", "submitted"])
  }

  // Each worker has one canceller, so its hook knows whose cancellation it serves: the victim's. That must
  // be the last one to have started, from the hook's first step to its last.
  @Test func `twenty thousand cancellations race the end, and the hook never comes for another`()
    async throws
  {
    let cancellers = 8
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<cancellers {
        group.addTask { try await raceCancellations(scaled(20_000) / cancellers) }
      }
      try await group.waitForAll()
    }
  }

  private func raceCancellations(_ rounds: Int) async throws {
    let stage = Stage()
    var configuration = Worker.Configuration()
    configuration.interrupt = {
      for _ in 0..<4 { stage.look() }
      stage.leave()
    }
    let worker = try Worker("raced", configuration: configuration)
    let ran = Counter()
    let cancelled = Counter()
    for round in 0..<rounds {
      let number = stage.begin()
      let isHeld = round % 32 == 0
      let calls = stage.calls
      let victim = Task {
        do {
          try await worker.run { [worker] in
            stage.starts(number)
            // The one that must not be hit: it waits already when the victim ends.
            try worker.submit { stage.starts(number + 1) }
            while isHeld && stage.calls == calls { usleep(10) }
          }
          ran.increment()
        } catch is CancellationError {
          cancelled.increment()
        }
      }
      if isHeld {
        await until { stage.hasStarted(number) }
      } else {
        for _ in 0..<(round % 5) { await Task.yield() }
      }
      victim.cancel()
      try await victim.value
    }
    await worker.close()
    #expect(stage.violations.all.isEmpty)
    #expect(stage.calls >= (rounds + 31) / 32, "those that were held until it came")
    #expect(stage.calls <= ran.value, "once for a request at most")
    #expect(ran.value + cancelled.value == rounds)
    let statistics = worker.statistics
    #expect(statistics.completed == UInt64(2 * ran.value))
    #expect(statistics.submitted == statistics.completed + statistics.cancelled)
  }

  // MARK: withWorker

  @Test func `withWorker returns what its body returned, after the thread has ended`() async throws
  {
    let name = "for a while"
    let log = Log()
    let (result, thread) = try await Worker.withWorker(name, configuration: log.configuration()) {
      worker in
      #expect(worker.name == name)
      #expect(Worker.live.contains { $0.name == name && $0.fileID == #fileID })
      try worker.submit { log.add("submitted") }
      return (try await worker.run { 7 }, try await worker.run { currentThread() })
    }
    #expect(result == 7)
    #expect(log.events == ["start", "submitted", "stop"])
    await until { !threadExists(thread) }  // the system may list it for a moment after the join
    #expect(!Worker.live.contains { $0.name == name })
  }

  @Test func `withWorker throws what its body threw, after what was submitted has run`()
    async throws
  {
    let name = "for a while, fails"
    let ran = Counter()
    await #expect(throws: Failed(reason: 4)) {
      try await Worker.withWorker(name) { worker in
        let gate = try await Gate.holding(worker)
        for _ in 0..<10 { try worker.submit { ran.increment() } }
        gate.open()
        throw Failed(reason: 4)
      }
    }
    #expect(ran.value == 10)
    #expect(!Worker.live.contains { $0.name == name })
    await #expect(throws: CancellationError.self) {
      try await Worker.withWorker(name) { _ in throw CancellationError() }
    }
    await #expect(throws: WorkerError(.closed)) {
      try await Worker.withWorker(name) { worker in
        await worker.close()
        try await worker.run {}
      }
    }
    #expect(!Worker.live.contains { $0.name == name })
  }

  @Test func `withWorker waits for the end also where its task is cancelled`() async throws {
    let ran = Counter()
    let isInside = Gate()
    let task = Task {
      try await Worker.withWorker("for a while, cancelled") { worker in
        try worker.submit {
          isInside.pass()
          ran.increment()
        }
        try await Task.sleep(for: .seconds(3600))
      }
      return 1
    }
    await isInside.arrived()
    task.cancel()
    let isOver = Counter()
    let observer = Task {
      _ = await task.result
      isOver.increment()
    }
    for _ in 0..<1000 { await Task.yield() }
    #expect(isOver.value == 0)
    isInside.open()
    await #expect(throws: CancellationError.self) { _ = try await task.value }
    #expect(ran.value == 1)
    await observer.value
  }

  @Test func `withWorker does not call its body where the worker cannot be opened`() async throws {
    await #expect(throws: WorkerError.self) {
      try await Worker.withWorker("") { _ in _ = Issue.record("it was called") }
    }
  }

  @Test func `a worker that the body keeps is closed`() async throws {
    let kept = try await Worker.withWorker("kept") { worker in worker }
    #expect(kept.isClosed)
    await #expect(throws: WorkerError(.closed)) { try await kept.run {} }
  }

  // MARK: What cannot be opened

  @Test(arguments: ["", "\0", "before\0after", "after\0"])
  func `a name that is empty or has a zero byte is refused with a sentence, by all that open`(
    name: String
  ) async throws {
    let released = Notes<String>()
    func check(_ error: WorkerError?) {
      #expect(error?.code == .invalid)
      #expect(
        error.map { "\($0)" }?.hasPrefix("the worker's name is empty or contains a zero byte: ")
          == true)
      #expect(error?.errno == nil)
    }
    let log = Log()
    do {
      let configuration = log.configuration(releasing: released)
      check(
        #expect(throws: WorkerError.self) { _ = try Worker(name, configuration: configuration) })
      check(
        #expect(throws: WorkerError.self) {
          _ = try RequestLoop<Int>(name, configuration: configuration) { batch in
            while batch.next() != nil {}
          }
        })
      check(
        await #expect(throws: WorkerError.self) {
          _ = try await Confined(name, configuration: configuration) {
            Issue.record("it was made")
            return 1
          }
        })
    }
    #expect(log.events.isEmpty)
    #expect(released.all.count == 3)
    #expect(!Worker.live.contains { $0.name == name })
  }

  @Test func `a long name is kept in full, and the thread gets what fits, in whole characters`()
    async throws
  {
    // The 15th byte would be the first of a character of two.
    let name = "fourteen bytesé and more"
    let worker = try Worker(name)
    #expect(worker.name == name)
    #expect(Worker.live.contains { $0.name == name })
    let shown = try await worker.run {
      try String(contentsOfFile: "/proc/\(currentThread())/comm", encoding: .utf8)
    }
    #expect(shown == "fourteen bytes\n")
    await worker.close()
  }

  // A stack of a TiB is more than the system gives, so it refuses the thread.
  @Test(.enabled(if: refusesHugeStacks), arguments: [Opener.worker, .loop, .confined, .within])
  func `a thread that the system refuses is told with its errno, and leaves nothing behind`(
    opener: Opener
  ) async throws {
    let name = "no thread, \(opener)"
    let log = Log()
    let released = Notes<String>()
    func open() async -> (any Error)? {
      var configuration = log.configuration(releasing: released)
      configuration.stackSize = 1 << 40
      do {
        switch opener {
        case .worker: _ = try Worker(name, configuration: configuration)
        case .loop:
          _ = try RequestLoop<Int>(name, configuration: configuration) {
            [captured = Captured(released)] batch in
            while batch.next() != nil {}
            withExtendedLifetime(captured) {}
          }
        case .confined: _ = try await Confined(name, configuration: configuration) { 1 }
        case .within:
          try await Worker.withWorker(name, configuration: configuration) { _ in
            _ = Issue.record("it was called")
          }
        }
        return nil
      } catch {
        return error
      }
    }
    let error = try #require(await open() as? WorkerError)
    #expect(error.code == .noThread)
    let errno = try #require(error.errno)
    #expect([EAGAIN, ENOMEM, EINVAL].contains(errno))
    #expect("\(error)".hasSuffix(" (errno \(errno))"))
    #expect(log.events.isEmpty)
    #expect(released.all.count == (opener == .loop ? 4 : 3))
    #expect(!Worker.live.contains { $0.name == name })
  }

  enum Opener { case worker, loop, confined, within }

  @Test(.enabled(if: refusesHugeStacks))
  func `a lazy worker tells of the refused thread with each request, and keeps nothing of it`()
    async throws
  {
    var configuration = Worker.Configuration()
    configuration.stackSize = 1 << 40
    configuration.lazy = true
    let worker = try Worker("no thread, lazy", configuration: configuration)
    let loop = try RequestLoop<Canary>("no thread, lazy", configuration: configuration) { batch in
      while batch.next() != nil {}
    }
    weak let canary: Canary?
    do {
      let captured = Canary()
      canary = captured
      func check(_ error: (any Error)?) {
        let error = error as? WorkerError
        #expect(error?.code == .noThread)
        #expect(error?.errno != nil)
      }
      let submitted = #expect(throws: WorkerError.self) {
        try worker.submit { [captured] in withExtendedLifetime(captured) {} }
      }
      check(submitted)
      let run = await #expect(throws: WorkerError.self) {
        try await worker.run { [captured] in withExtendedLifetime(captured) {} }
      }
      check(run)
      check(#expect(throws: WorkerError.self) { try blockingCall(worker) {} })
      let repeated = #expect(throws: WorkerError.self) {
        try worker.every(.seconds(1), weakly: captured) { [captured] _ in
          withExtendedLifetime(captured) {}
        }
      }
      check(repeated)
      check(#expect(throws: WorkerError.self) { try loop.trySend(captured) })
      let sent = await #expect(throws: WorkerError.self) { try await loop.send(captured) }
      check(sent)
    }
    #expect(canary == nil)
    #expect(worker.statistics.submitted == 0)
    await worker.close()
    await loop.close()
  }
}

/// Whether a stack of a TiB is refused, as it is where memory is not given without limit.
private let refusesHugeStacks =
  (try? String(contentsOfFile: "/proc/sys/vm/overcommit_memory", encoding: .utf8)) != "1\n"

/// What happened, in order, and on which threads.
private final class Log: Sendable {
  private let notes = Notes<String>()
  private let names = Notes<String>()

  var events: [String] { notes.all }
  var threads: Set<String> { Set(names.all) }

  func add(_ event: String) {
    names.add(currentThread())
    notes.add(event)
  }

  /// Hooks that are noted here. Each captures something whose end is noted there.
  func configuration(releasing released: Notes<String>? = nil) -> Worker.Configuration {
    var configuration = Worker.Configuration()
    let (atStart, atStop) = (Captured(released), Captured(released))
    configuration.onStart = { withExtendedLifetime(atStart) { self.add("start") } }
    configuration.onStop = { withExtendedLifetime(atStop) { self.add("stop") } }
    if released != nil {
      let inHook = Captured(released)
      configuration.interrupt = { withExtendedLifetime(inHook) {} }
    }
    return configuration
  }
}

/// Notes the thread on which it ends.
private final class Captured: Sendable {
  private let ends: Notes<String>?

  init(_ ends: Notes<String>?) {
    self.ends = ends
  }

  deinit { ends?.add(currentThread()) }
}

/// An interrupt that notes who calls it, and that a request can wait for.
private final class Hook: Sendable {
  let threads = Notes<String>()
  let called = DispatchSemaphore(value: 0)

  var configuration: Worker.Configuration {
    var configuration = Worker.Configuration()
    configuration.interrupt = {
      self.threads.add(currentThread())
      self.called.signal()
    }
    return configuration
  }
}

/// What runs while a hook looks: a victim, whose number is even, or the request behind it.
private final class Stage: Sendable {
  let violations = Notes<String>()
  private let count = Atomic<Int>(0)
  private let victim = Atomic<Int>(-2)
  private let started = Atomic<Int>(-1)

  /// How often the hook has been called.
  var calls: Int { count.load(ordering: .sequentiallyConsistent) }

  /// A new victim's number.
  func begin() -> Int {
    victim.add(2, ordering: .sequentiallyConsistent).newValue
  }

  func starts(_ number: Int) { started.store(number, ordering: .sequentiallyConsistent) }

  func hasStarted(_ number: Int) -> Bool {
    started.load(ordering: .sequentiallyConsistent) == number
  }

  /// In the hook. The victim may be before its first step or after its last one, but nothing behind it has
  /// started. What has started before it has ended: one request runs at a time.
  func look() {
    let victim = victim.load(ordering: .sequentiallyConsistent)
    let started = started.load(ordering: .sequentiallyConsistent)
    if started > victim { violations.add("called for \(victim) when \(started) had started") }
  }

  func leave() {
    count.add(1, ordering: .sequentiallyConsistent)
  }
}
