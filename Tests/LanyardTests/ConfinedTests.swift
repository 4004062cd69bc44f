// State that one thread makes, uses and destroys, and the ways in which that may end.

import Dispatch
import Foundation
import LanyardTestSupport
import Synchronization
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct ConfinedTests {
  struct Failed: Error, Equatable {
    let reason: Int
  }

  // MARK: One thread

  @Test func `the value is made, used and destroyed on one thread, which is not the caller's`()
    async throws
  {
    let log = Log()
    let confined = try await Confined("one thread") { Instrument(log) }
    #expect(log.events == ["made"])
    for number in 1...10 {
      #expect(try await confined.run { try $0.use(number) } == number)
    }
    await confined.close()
    #expect(log.events == ["made"] + Array(repeating: "used", count: 10) + ["destroyed"])
    #expect(log.threads.count == 1)
    #expect(!log.threads.contains(currentThread()))
  }

  @Test func `a value that is not Sendable is used by one at a time, from many tasks`() async throws
  {
    let log = Log()
    let confined = try await Confined("ledger") { Ledger(log) }
    let each = scaled(500)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<20 {
        group.addTask {
          for _ in 0..<each {
            // Read and written in two steps, without a lock. ThreadSanitizer looks on.
            try await confined.run { ledger in
              let sum = ledger.sum
              ledger.sum = sum + 1
            }
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(try await confined.run { $0.sum } == 20 * each)
    await confined.close()
    #expect(log.events == ["made", "destroyed"], "nobody else has kept it")
    #expect(log.threads.count == 1)
  }

  @Test func `a result that shares nothing with the value may leave its thread`() async throws {
    let confined = try await Confined("results") { [1, 2, 3] }
    let ledger = try await confined.run { numbers in
      let ledger = Ledger(Log())
      ledger.sum = numbers.reduce(0, +)
      return ledger
    }
    ledger.sum += 1
    #expect(ledger.sum == 7)
    await confined.close()
  }

  @Test func `the value may be changed and replaced; what was there goes on its thread`()
    async throws
  {
    let log = Log()
    let confined = try await Confined("replaced") { Instrument(log) }
    try await confined.run { instrument in instrument = Instrument(log) }
    #expect(log.events == ["made", "made", "destroyed"])
    #expect(try await confined.run { try $0.use(5) } == 5)
    await confined.close()
    #expect(log.events == ["made", "made", "destroyed", "used", "destroyed"])
    #expect(log.threads.count == 1)
  }

  @Test func `closures run in the order in which one task handed them over`() async throws {
    let confined = try await Confined("ordered") { [Int]() }
    for number in 0..<500 {
      if number % 2 == 0 {
        try await confined.run { $0.append(number) }
      } else {
        try synchronously { try confined.call { $0.append(number) } }
      }
    }
    #expect(try await confined.run { $0 } == Array(0..<500))
    await confined.close()
  }

  // MARK: Making

  @Test func `what make throws is thrown as itself, and no worker is left`() async throws {
    let name = "not made"
    let log = Log()
    await #expect(throws: Failed(reason: 1)) {
      _ = try await Confined<Instrument>(name) {
        log.add("making")
        throw Failed(reason: 1)
      }
    }
    // Also when it looks like one of the worker's own.
    await #expect(throws: WorkerError(.closed)) {
      _ = try await Confined<Int>(name) { throw WorkerError(.closed) }
    }
    await #expect(throws: CancellationError.self) {
      _ = try await Confined<Int>(name) { throw CancellationError() }
    }
    #expect(log.events == ["making"])
    #expect(!Worker.live.contains { $0.name == name && !$0.isClosed })
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `what a failed make leaves half done goes, and so does what it captured`() async throws
  {
    let log = Log()
    weak let canary: Canary?
    do {
      let captured = Canary()
      canary = captured
      await #expect(throws: Failed(reason: 2)) {
        _ = try await Confined<Instrument>("half made") { [captured] in
          let instrument = Instrument(log)
          withExtendedLifetime(captured) {}
          guard instrument.isBroken else { throw Failed(reason: 2) }
          return instrument
        }
      }
    }
    #expect(log.events == ["made", "destroyed"])
    #expect(log.threads.count == 1)
    #expect(canary == nil)
  }

  @Test func `a task that was cancelled before makes nothing, and no worker is left`() async throws
  {
    let name = "cancelled before"
    let log = Log()
    let task = Task {
      await until { Task.isCancelled }
      let confined = try await Confined(name) { Instrument(log) }
      await confined.close()
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(log.events.isEmpty)
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `a cancellation while the thread starts makes nothing`() async throws {
    let name = "cancelled in the start"
    let log = Log()
    let gate = Gate()
    var configuration = Worker.Configuration()
    configuration.onStart = { gate.pass() }
    let task = Task { [configuration] in
      let confined = try await Confined(name, configuration: configuration) { Instrument(log) }
      await confined.close()
    }
    await gate.arrived()
    // `make` waits in the ring or is about to; the cancellation finds it in either place.
    task.cancel()
    await until { Worker.live.contains { $0.name == name && $0.isClosed } }
    gate.open()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(log.events.isEmpty)
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `a cancellation while make runs comes too late`() async throws {
    let log = Log()
    let gate = Gate()
    let task = Task {
      try await Confined("cancelled in make") {
        gate.pass()
        return Instrument(log)
      }
    }
    await gate.arrived()
    task.cancel()
    gate.open()
    let confined = try await task.value
    #expect(try await confined.run { try $0.use(3) } == 3)
    await confined.close()
    #expect(log.events == ["made", "used", "destroyed"])
  }

  @Test func `cancellations race make: what was made is destroyed, and no worker is left`()
    async throws
  {
    let name = "make is raced"
    let log = Log(notesThreads: false)
    let made = Counter()
    for round in 0..<scaled(1000) {
      let task = Task {
        do {
          let confined = try await Confined(name) { Instrument(log) }
          made.increment()
          await confined.close()
        } catch is CancellationError {
        }
      }
      for _ in 0..<(round % 10) { await Task.yield() }
      task.cancel()
      try await task.value
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(log.events.count(where: { $0 == "made" }) == made.value)
    #expect(log.events.count(where: { $0 == "destroyed" }) == made.value)
  }

  @Test func `a configuration out of range is refused before make`() async throws {
    var configuration = Worker.Configuration()
    configuration.capacity = 0
    let log = Log()
    let error = await #expect(throws: WorkerError.self) {
      _ = try await Confined("out of range", configuration: configuration) { Instrument(log) }
    }
    #expect(error?.code == .invalid)
    #expect(error.map { "\($0)" }?.hasPrefix("capacity is 0, ") == true)
    #expect(log.events.isEmpty)
  }

  @Test func `a lazy one starts its thread to make the value`() async throws {
    var configuration = Worker.Configuration()
    configuration.lazy = true
    let log = Log()
    let confined = try await Confined("lazy", configuration: configuration) { Instrument(log) }
    #expect(log.events == ["made"])
    await confined.close()
    #expect(log.events == ["made", "destroyed"])
  }

  @Test func `a live one is listed with its name and where it was made`() async throws {
    let confined = try await Confined("a listed value") { 1 }
    let line = #line - 1
    let info = try #require(Worker.live.first { $0.name == "a listed value" })
    #expect(info.fileID == #fileID)
    #expect(info.line == line)
    #expect(confined.name == "a listed value")
    #expect(!confined.isClosed)
    #expect(!confined.isCurrent)
    let isCurrent = try await confined.run { [confined] _ in confined.isCurrent }
    #expect(isCurrent)
    await confined.close()
    #expect(confined.isClosed)
    #expect(confined.statistics.completed == 2, "make and one use")
  }

  // MARK: Failing

  @Test func `what a closure throws reaches its caller as itself, and the next one runs`()
    async throws
  {
    let log = Log()
    let confined = try await Confined("throws") { Instrument(log) }
    await #expect(throws: Failed(reason: 7)) {
      try await confined.run { try $0.fail(7) }
    }
    #expect(try await confined.run { $0.uses } == 1, "what it did before it threw is kept")
    #expect(throws: Failed(reason: 8)) {
      try synchronously { try confined.call { try $0.fail(8) } }
    }
    #expect(try await confined.run { $0.uses } == 2)
    await #expect(throws: WorkerError(.closed)) {
      try await confined.run { _ in throw WorkerError(.closed) }
    }
    #expect(!confined.isClosed)
    await confined.close()
  }

  // MARK: Cancellation, deadlines

  @Test func `a cancelled task leaves at once, and its closure never sees the value`() async throws
  {
    let held = try await Held()
    let task = Task { try await held.confined.run { try $0.use(1) } }
    await until { held.confined.statistics.submitted == 3 }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(held.confined.statistics.cancelled == 1)
    await held.finish()
    #expect(held.log.events == ["made", "destroyed"])
  }

  @Test func `a closure that has started runs to its end although its task is cancelled`()
    async throws
  {
    let log = Log()
    let gate = Gate()
    let confined = try await Confined("started") { Instrument(log) }
    let task = Task {
      try await confined.run { instrument in
        gate.pass()
        return try instrument.use(4)
      }
    }
    await gate.arrived()
    task.cancel()
    gate.open()
    #expect(try await task.value == 4)
    await confined.close()
  }

  @Test func `at its deadline a closure that has not started is dropped`() async throws {
    let held = try await Held()
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await held.confined.run(deadline: .now + .milliseconds(20)) { try $0.use(1) }
    }
    await held.finish()
    #expect(held.log.events == ["made", "destroyed"])
  }

  @Test func `a deadline that has passed lets nothing run, one to come does`() async throws {
    let confined = try await Confined("deadlines") { 5 }
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await confined.run(deadline: .now - .seconds(1)) { $0 = 6 }
    }
    #expect(try await confined.run(deadline: .now + .seconds(3600)) { $0 } == 5)
    await confined.close()
  }

  @Test func `an interrupt is called for the closure that runs when its task is cancelled`()
    async throws
  {
    let interrupted = DispatchSemaphore(value: 0)
    var configuration = Worker.Configuration()
    configuration.interrupt = { interrupted.signal() }
    let isRunning = Gate()
    let confined = try await Confined("interrupted", configuration: configuration) { 0 }
    let task = Task {
      try await confined.run { value in
        isRunning.pass()
        interrupted.wait()
        value += 1
        return value
      }
    }
    await isRunning.arrived()
    isRunning.open()
    task.cancel()
    #expect(try await task.value == 1)
    await confined.close()
  }

  @Test func `an interrupt is called for make when its task is cancelled`() async throws {
    let interrupted = DispatchSemaphore(value: 0)
    var configuration = Worker.Configuration()
    configuration.interrupt = { interrupted.signal() }
    let isRunning = Gate()
    let task = Task { [configuration] in
      try await Confined("interrupted in make", configuration: configuration) {
        isRunning.pass()
        interrupted.wait()
        throw Failed(reason: 9)
      } as Confined<Int>
    }
    await isRunning.arrived()
    isRunning.open()
    task.cancel()
    await #expect(throws: Failed(reason: 9)) { _ = try await task.value }
  }

  // MARK: call

  @Test func `call runs on the value's thread and may use what its caller uses`() async throws {
    let log = Log()
    let confined = try await Confined("called") { Instrument(log) }
    await onThreadOfItsOwn {
      var thread = ""
      let result = try? confined.call { instrument in
        thread = currentThread()
        return try instrument.use(11)
      }
      #expect(result == 11)
      #expect(log.threads == [thread])
      #expect(thread != currentThread())
    }
    await confined.close()
  }

  @Test func `calls from many threads and closures of many tasks exclude each other`() async throws
  {
    let confined = try await Confined("both") { Ledger(Log()) }
    let each = scaled(500)
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<4 {
        group.addTask {
          await onThreadOfItsOwn {
            for _ in 0..<each { try? confined.call { $0.sum += 1 } }
          }
        }
        group.addTask {
          for _ in 0..<each { try? await confined.run { $0.sum += 1 } }
        }
      }
    }
    #expect(try await confined.run { $0.sum } == 8 * each)
    await confined.close()
  }

  @Test func `call on the value's own thread throws wouldDeadlock, or closed, and runs nothing`()
    async throws
  {
    let confined = try await Confined("own thread") { 1 }
    let errors = try await confined.run { [confined] value in
      var errors: [WorkerError] = []
      for closes in [false, true] {
        if closes { confined.closeAndWait() }
        do {
          try confined.call { _ in _ = Issue.record("it ran, with a value that is in use") }
        } catch let error as WorkerError {
          errors.append(error)
        } catch {
          Issue.record(error)
        }
      }
      value = 2
      return errors
    }
    #expect(errors == [WorkerError(.wouldDeadlock), WorkerError(.closed)])
    await confined.close()
  }

  @Test func `after close every use throws closed`() async throws {
    let confined = try await Confined("closed") { 1 }
    await confined.close()
    await confined.close(.discard)
    synchronously { confined.closeAndWait() }
    #expect(confined.isClosed)
    await #expect(throws: WorkerError(.closed)) { try await confined.run { $0 += 1 } }
    #expect(throws: WorkerError(.closed)) { try synchronously { try confined.call { $0 += 1 } } }
  }

  // MARK: The end

  enum End: CaseIterable { case drain, discard, blockingDrain, letGo }

  @Test(arguments: End.allCases)
  func `the value is destroyed on its thread, after what was accepted, before close returns`(
    end: End
  ) async throws {
    let name = "ends by \(end)"
    let log = Log()
    func use() async throws {
      let confined = try await Confined(name) { Instrument(log) }
      let gate = Gate()
      await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await confined.run { _ in gate.pass() } }
        await gate.arrived()
        for number in 0..<10 {
          group.addTask { _ = try await confined.run { try $0.use(number) } }
        }
        await until { confined.statistics.submitted == 12 }
        switch end {
        case .drain: group.addTask { await confined.close() }
        case .discard: group.addTask { await confined.close(.discard) }
        case .blockingDrain: group.addTask { await onThreadOfItsOwn { confined.closeAndWait() } }
        case .letGo: break
        }
        if end != .letGo { await until { confined.isClosed } }
        gate.open()
        while let result = await group.nextResult() {
          if case .failure(let error) = result {
            #expect(end == .discard)
            #expect(error as? WorkerError == WorkerError(.closed))
          }
        }
      }
      if end != .letGo { #expect(log.events.last == "destroyed") }
    }
    try await use()
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    let uses = end == .discard ? 0 : 10
    #expect(log.events == ["made"] + Array(repeating: "used", count: uses) + ["destroyed"])
    #expect(log.threads.count == 1)
  }

  @Test func `many closers all return after the value was destroyed`() async throws {
    let held = try await Held()
    let returned = Counter()
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<8 {
        group.addTask {
          await held.confined.close()
          #expect(held.log.events == ["made", "destroyed"])
          returned.increment()
        }
        group.addTask {
          await onThreadOfItsOwn {
            held.confined.closeAndWait()
            #expect(held.log.events == ["made", "destroyed"])
            returned.increment()
          }
        }
      }
      await until { held.confined.isClosed }
      #expect(returned.value == 0)
      held.gate.open()
    }
    #expect(returned.value == 16)
  }

  @Test func `close in a closure begins, and the value is there until the end`() async throws {
    let log = Log()
    let confined = try await Confined("closes itself") { Instrument(log) }
    let result = try await confined.run { [confined] instrument in
      confined.closeAndWait()
      return try instrument.use(1)
    }
    #expect(result == 1)
    await confined.close()
    #expect(log.events == ["made", "used", "destroyed"])
    #expect(log.threads.count == 1)
  }

  // The closure holds the last reference, and goes on the value's thread:
  //
  //     test                            worker
  //     hands over, lets go             waits until it is alone
  //     signals                    ->   ends: deinit runs here, then the value goes, here
  @Test func `ten thousand that are let go of on their own threads leave none`() async throws {
    let name = "value let go inside"
    let log = Log(notesThreads: false)
    let rounds = scaled(10_000)
    for _ in 0..<rounds {
      let isAlone = DispatchSemaphore(value: 0)
      func letGo() async throws {
        let confined = try await Confined(name) { OwnThread(Instrument(log), currentThread()) }
        try confined.worker.submit { [confined] in
          isAlone.wait()
          #expect(confined.isCurrent)
        }
      }
      try await letGo()
      isAlone.signal()
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(log.events.count(where: { $0 == "made" }) == rounds)
    #expect(log.events.count(where: { $0 == "destroyed" }) == rounds)
  }

  @Test func `a task that holds the last reference while it waits ends it too`() async throws {
    let name = "last in a task"
    let log = Log(notesThreads: false)
    let rounds = scaled(200)
    await withTaskGroup(of: Void.self) { group in
      for round in 0..<rounds {
        group.addTask {
          do {
            let confined = try await Confined(name) { Instrument(log) }
            #expect(try await confined.run { try $0.use(round) } == round)
          } catch {
            Issue.record(error)
          }
        }
      }
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(log.events.count(where: { $0 == "destroyed" }) == rounds)
  }

  @Test func `onStart comes before make, onStop after the value's destruction, all on one thread`()
    async throws
  {
    let log = Log()
    var configuration = Worker.Configuration()
    configuration.onStart = { log.add("start") }
    configuration.onStop = { log.add("stop") }
    let confined = try await Confined("hooked", configuration: configuration) { Instrument(log) }
    _ = try await confined.run { try $0.use(1) }
    await confined.close()
    #expect(log.events == ["start", "made", "used", "destroyed", "stop"])
    #expect(log.threads.count == 1)
  }

  @Test func `a failed make is followed by onStop, and destroys nothing`() async throws {
    let log = Log()
    var configuration = Worker.Configuration()
    configuration.onStart = { log.add("start") }
    configuration.onStop = { log.add("stop") }
    await #expect(throws: Failed(reason: 1)) {
      _ = try await Confined<Instrument>("hooked, fails", configuration: configuration) {
        throw Failed(reason: 1)
      }
    }
    #expect(log.events == ["start", "stop"])
  }

  // While the value is destroyed its owner may be asked, and refuses.
  @Test func `a value may ask its owner in its own end`() async throws {
    struct Asking: ~Copyable {
      let ask: @Sendable () -> Void
      deinit { ask() }
    }
    let answers = Notes<String>()
    let ownerOf = Lock<Confined<Asking>?>(nil)
    let confined = try await Confined("asked at the end") {
      Asking {
        guard let owner = ownerOf.withLock({ $0 }) else { return }
        answers.add("\(owner.isClosed) \(owner.isCurrent)")
        do {
          try owner.call { _ in }
        } catch let error as WorkerError {
          answers.add("\(error.code)")
        } catch {
          Issue.record(error)
        }
      }
    }
    ownerOf.withLock { $0 = confined }
    await confined.close()
    ownerOf.withLock { $0 = nil }
    #expect(answers.all == ["true true", "closed"])
  }

  // As with the worker's own `run`: whoever handed a closure over has given away what it captured.
  @Test func `what a closure captured is released on the value's thread before its caller goes on`()
    async throws
  {
    let confined = try await Confined("captured") { 0 }
    let thread = try await confined.run { _ in currentThread() }
    let ends = Notes<String>()
    let rounds = scaled(200)
    for round in 1...rounds {
      try await confined.run { [captured = Captured(ends)] value in
        withExtendedLifetime(captured) { value += 1 }
      }
      #expect(ends.all.count == round)
    }
    await confined.close()
    #expect(Set(ends.all) == [thread])
  }

  @Test func `what make captured is released on the value's thread before its caller goes on`()
    async throws
  {
    let ends = Notes<String>()
    for fails in [false, true] {
      let threads = Notes<String>()
      let confined = try? await Confined("captured by make") { [captured = Captured(ends)] in
        threads.add(currentThread())
        if fails { throw Failed(reason: 1) }
        return withExtendedLifetime(captured) { 0 }
      }
      #expect(ends.all.last == threads.all.first)
      await confined?.close()
    }
    #expect(ends.all.count == 2)
  }
}

// MARK: - What is confined

/// What happened to a value, in order, and on which threads.
private final class Log: Sendable {
  private let notes = Notes<String>()
  private let names = Notes<String>()
  private let notesThreads: Bool

  init(notesThreads: Bool = true) {
    self.notesThreads = notesThreads
  }

  var events: [String] { notes.all }
  var threads: Set<String> { Set(names.all) }

  func add(_ event: String) {
    if notesThreads { names.add(currentThread()) }
    notes.add(event)
  }
}

/// Can neither be copied nor sent, and tells its log where it is made, used and destroyed.
private struct Instrument: ~Copyable {
  private(set) var uses = 0
  private let log: Log
  private let isUnshared = NotSendable()

  init(_ log: Log) {
    self.log = log
    log.add("made")
  }

  deinit { log.add("destroyed") }

  var isBroken: Bool { uses < 0 }

  mutating func use(_ number: Int) throws -> Int {
    uses += 1
    log.add("used")
    return number
  }

  mutating func fail(_ reason: Int) throws(ConfinedTests.Failed) {
    uses += 1
    throw ConfinedTests.Failed(reason: reason)
  }
}

private final class NotSendable {
  var value = 0
}

/// A value that checks at its end, without a note, that it is still on its thread.
private struct OwnThread: ~Copyable {
  private let instrument: Instrument
  private let thread: String

  init(_ instrument: consuming Instrument, _ thread: String) {
    self.instrument = instrument
    self.thread = thread
  }

  deinit {
    #expect(currentThread() == thread)
  }
}

/// Neither Sendable nor locked.
private final class Ledger {
  var sum = 0
  private let log: Log

  init(_ log: Log) {
    self.log = log
    log.add("made")
  }

  deinit { log.add("destroyed") }
}

/// Notes the thread on which it ends.
private final class Captured: Sendable {
  private let ends: Notes<String>

  init(_ ends: Notes<String>) {
    self.ends = ends
  }

  deinit { ends.add(currentThread()) }
}

/// A value whose thread stands at a gate: with its making, two requests were accepted.
private final class Held: Sendable {
  let confined: Confined<Instrument>
  let log = Log()
  let gate = Gate()

  init() async throws {
    confined = try await Confined("held value") { [log] in Instrument(log) }
    try confined.worker.submit { [gate] in gate.pass() }
    await gate.arrived()
  }

  func finish() async {
    gate.open()
    await confined.close()
  }
}

/// Calls a blocking form from asynchronous code, where it is not to be had: the tests mean to.
private func synchronously<Result, Failure: Error>(
  _ body: () throws(Failure) -> Result
) throws(Failure) -> Result {
  try body()
}
