// every: what a worker does again and again for an owner that it does not keep.
//
// Times are read from the core's clock, by which the worker goes.

import Dispatch
import Foundation
import LanyardTestSupport
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct WorkerRepeatTests {
  // MARK: When

  @Test func `the calls come on the worker's thread, with the owner, and none before its time`()
    async throws
  {
    let worker = try Worker("regular")
    let owner = Canary()
    let times = Notes<UInt64>()
    let threads = Notes<String>()
    let thread = try await worker.run { currentThread() }
    let interval: UInt64 = 5_000_000
    let begin = WorkerHandle.now
    try worker.every(.milliseconds(5), weakly: owner) { [weak owner] given in
      #expect(given === owner)
      threads.add(currentThread())
      times.add(WorkerHandle.now)
    }
    await until { times.all.count >= 20 }
    await worker.close()
    for (number, time) in times.all.enumerated() {
      #expect(time >= begin + UInt64(number + 1) * interval)
    }
    #expect(Set(threads.all) == [thread])
    withExtendedLifetime(owner) {}
  }

  // Times that drift would stay as far behind as one slow call has put them; regular ones are caught up with
  // by the next call that comes in time, and one of many does.
  @Test func `the times are regular, whatever a call takes`() async throws {
    let worker = try Worker("no drift")
    let owner = Canary()
    let times = Notes<UInt64>()
    let interval: UInt64 = 50_000_000
    let begin = WorkerHandle.now
    try worker.every(.milliseconds(50), weakly: owner) { _ in
      times.add(WorkerHandle.now)
      if times.all.count == 1 { usleep(30_000) }
    }
    let end = WorkerHandle.now
    func isInTime(_ time: UInt64) -> Bool {
      // The regular times are `interval` apart and began between `begin` and `end`.
      (time - begin) % interval < interval / 4 + (end - begin)
    }
    await until { times.all.count >= 2 && (isInTime(times.all.last!) || times.all.count == 40) }
    #expect(isInTime(times.all.last!))
    await worker.close()
    withExtendedLifetime(owner) {}
  }

  @Test func `what a busy worker misses is left out, not made up for`() async throws {
    let worker = try Worker("missed")
    let owner = Canary()
    let times = Notes<UInt64>()
    let gate = Gate()
    let interval: UInt64 = 5_000_000
    try worker.every(.milliseconds(5), weakly: owner) { _ in
      if times.all.isEmpty { gate.pass() }
      times.add(WorkerHandle.now)
    }
    await gate.arrived()
    let held = WorkerHandle.now
    await until { WorkerHandle.now > held + 20 * interval }
    gate.open()
    await until { times.all.count >= 12 }
    await worker.close()
    let noted = Array(times.all.prefix(12))
    // The call that was held, and then at most one for each regular time.
    let took = noted[11] - noted[0]
    #expect(took >= 9 * interval, "twelve calls within \(took) ns, after 20 missed times")
    withExtendedLifetime(owner) {}
  }

  @Test func `two on one worker keep to their own intervals`() async throws {
    let worker = try Worker("two")
    let owner = Canary()
    let calls = Notes<(isFast: Bool, time: UInt64)>()
    let begin = WorkerHandle.now
    // The slow one first, so that the other has to go before it in the list.
    try worker.every(.milliseconds(20), weakly: owner) { _ in calls.add((false, WorkerHandle.now)) }
    try worker.every(.milliseconds(4), weakly: owner) { _ in calls.add((true, WorkerHandle.now)) }
    await until { calls.all.count(where: { !$0.isFast }) >= 3 }
    await worker.close()
    for (isFast, interval) in [(true, UInt64(4_000_000)), (false, 20_000_000)] {
      let times = calls.all.filter { $0.isFast == isFast }.map(\.time)
      for (number, time) in times.enumerated() {
        #expect(time >= begin + UInt64(number + 1) * interval)
      }
    }
    #expect(calls.all.first?.isFast == true)
    withExtendedLifetime(owner) {}
  }

  @Test func `many that are due at once each get one turn before any gets a second`() async throws {
    let worker = try Worker("many")
    let owner = Canary()
    let order = Notes<Int>()
    let gate = try await Gate.holding(worker)
    // The farthest first, all of them due before the worker looks.
    for number in (1...50).reversed() {
      try worker.every(.microseconds(number * 100), weakly: owner) { _ in order.add(number) }
    }
    let begin = WorkerHandle.now
    await until { WorkerHandle.now > begin + 6_000_000 }
    gate.open()
    await until { order.all.count >= 50 }
    await worker.close()
    #expect(Array(order.all.prefix(50)).sorted() == Array(1...50))
    withExtendedLifetime(owner) {}
  }

  @Test func `an interval that is not positive is refused with a sentence`() async throws {
    let worker = try Worker("no interval")
    weak let canary: Canary?
    do {
      let captured = Canary()
      canary = captured
      for interval in [
        Duration.zero, .seconds(-1), .nanoseconds(-1), .seconds(Int64.min), .seconds(Int64.min) * 2,
      ] {
        let error = try #require(throws: WorkerError.self) {
          try worker.every(interval, weakly: captured) { [captured] _ in
            withExtendedLifetime(captured) { _ = Issue.record("it was called") }
          }
        }
        #expect(error.code == .invalid)
        #expect("\(error)" == "the interval is \(interval): give one that is longer than zero")
      }
    }
    #expect(canary == nil)
    #expect(try await worker.run { 1 } == 1)
  }

  @Test func `an interval without end is accepted, and its time never comes`() async throws {
    let name = "no end"
    weak let canary: Canary?
    do {
      let owner = Canary()
      canary = owner
      let worker = try Worker(name)
      for interval in [
        Duration.seconds(Int64.max), .seconds(1 << 40), .seconds(18_446_744_073),
        .seconds(9_223_372_036_854_775_000) * 2, Duration(attoseconds: .max),
      ] {
        try worker.every(interval, weakly: owner) { [owner] _ in
          withExtendedLifetime(owner) { _ = Issue.record("it was called") }
        }
      }
      #expect(try await worker.run { 1 } == 1)
      await worker.close()
    }
    #expect(canary == nil)
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  // MARK: Between requests

  @Test func `it runs between the requests of a worker that is never idle`() async throws {
    let worker = try Worker("never idle")
    let owner = Canary()
    let events = Notes<Bool>()
    let isOver = Counter()
    // Each request hands over the next one before it ends, so the ring is never empty.
    @Sendable func submitNext() {
      try? worker.submit {
        guard isOver.value == 0 else { return }
        submitNext()
        events.add(true)
        usleep(50)
      }
    }
    submitNext()
    submitNext()
    try worker.every(.microseconds(500), weakly: owner) { _ in events.add(false) }
    await until { events.all.count(where: { !$0 }) >= 20 }
    isOver.increment()
    await worker.close()
    // Both make progress: between the first and the twentieth call requests have run.
    let first = try #require(events.all.firstIndex(of: false))
    let last = try #require(events.all.lastIndex(of: false))
    #expect(events.all[first...last].contains(true))
    withExtendedLifetime(owner) {}
  }

  @Test func `one that is always due starves neither requests nor close`() async throws {
    let worker = try Worker("always due")
    let owner = Canary()
    let calls = Counter()
    try worker.every(.nanoseconds(1), weakly: owner) { _ in calls.increment() }
    await until { calls.value >= 100 }
    for number in 0..<scaled(1000) { #expect(try await worker.run { number } == number) }
    await worker.close()
    let atClose = calls.value
    #expect(try await Worker("later").run { calls.value } == atClose, "none comes after close")
    withExtendedLifetime(owner) {}
  }

  @Test func `it is no request: it is not counted, and takes no room`() async throws {
    var configuration = Worker.Configuration()
    configuration.capacity = 2
    let worker = try Worker("uncounted", configuration: configuration)
    let owner = Canary()
    let gate = try await Gate.holding(worker)
    for _ in 0..<2 { try worker.submit {} }
    let calls = Counter()
    for _ in 0..<10 {
      try worker.every(.milliseconds(1), weakly: owner) { _ in calls.increment() }
    }
    gate.open()
    await until { calls.value >= 20 }
    await worker.close()
    #expect(worker.statistics.submitted == 3)
    #expect(worker.statistics.completed == 3)
    withExtendedLifetime(owner) {}
  }

  // A request that has not started is withdrawn at once, whatever the worker is doing, and what it is doing
  // here is a call of `every`, which nobody has asked to interrupt.
  //
  //     worker                            test
  //     waits in a first request          hands over a second one; the time of `every` comes
  //     calls `every`'s closure, waits    cancels the second request
  @Test(arguments: [false, true])
  func `a request that waits behind a call is withdrawn at once, and the call is not interrupted`(
    canInterrupt: Bool
  ) async throws {
    let interrupted = Counter()
    var configuration = Worker.Configuration()
    if canInterrupt { configuration.interrupt = { interrupted.increment() } }
    let worker = try Worker("behind a call", configuration: configuration)
    let owner = Canary()
    let call = Gate()
    let isArmed = Counter()
    let calls = Counter()
    try worker.every(.milliseconds(2), weakly: owner) { _ in
      guard isArmed.value == 1 else { return }
      calls.increment()
      if calls.value == 1 { call.pass() }
    }
    try await worker.run {}  // by now it knows the time of the next call
    let first = try await Gate.holding(worker)
    isArmed.increment()
    let held = WorkerHandle.now
    await until { WorkerHandle.now > held + 4_000_000 }
    let isAnswered = Counter()
    let ran = Counter()
    let request = Task {
      defer { isAnswered.increment() }
      try await worker.run { ran.increment() }
    }
    await until { worker.statistics.submitted == 3 }
    first.open()
    await call.arrived()
    request.cancel()
    // The task needs no more than its own turn now.
    for _ in 0..<10_000 where isAnswered.value == 0 { await Task.yield() }
    #expect(isAnswered.value == 1, "it waits for the call")
    #expect(interrupted.value == 0, "a call of `every` was interrupted, not the request")
    call.open()
    let result = await request.result
    #expect(throws: CancellationError.self) { try result.get() }
    await worker.close()
    #expect(ran.value == 0)
    withExtendedLifetime(owner) {}
  }

  // MARK: The owner

  @Test func `it keeps neither its owner nor the worker`() async throws {
    let name = "kept by nobody"
    weak let observedOwner: Canary?
    weak let observedWorker: Worker?
    weak let captured: Canary?
    do {
      let owner = Canary()
      let canary = Canary()
      let worker = try Worker(name)
      observedOwner = owner
      observedWorker = worker
      captured = canary
      // Its time does not come.
      try worker.every(.seconds(3600), weakly: owner) { [canary] _ in
        withExtendedLifetime(canary) { _ = Issue.record("it was called") }
      }
      #expect(try await worker.run { 1 } == 1)
    }
    #expect(observedOwner == nil)
    #expect(observedWorker == nil)
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(captured == nil)
  }

  @Test
  func `at the first time after the owner has gone it ends, and releases what it captured there`()
    async throws
  {
    let worker = try Worker("owner goes")
    let thread = try await worker.run { currentThread() }
    let ends = Notes<String>()
    let calls = Counter()
    func own() async throws {
      let owner = Canary()
      try worker.every(.milliseconds(2), weakly: owner) { [captured = Captured(ends)] _ in
        withExtendedLifetime(captured) { calls.increment() }
      }
      await until { calls.value >= 3 }
      #expect(ends.all.isEmpty)
      withExtendedLifetime(owner) {}
    }
    try await own()
    let callsOfOwner = calls.value
    // The worker stays open.
    await until { ends.all.count == 1 }
    #expect(ends.all == [thread])
    // One call may have been about to come when the owner went.
    #expect(calls.value <= callsOfOwner + 1)
    #expect(!worker.isClosed)
    #expect(try await worker.run { 1 } == 1)
    await worker.close()
  }

  @Test func `the owner lives until the call that was given it returns`() async throws {
    let worker = try Worker("owner lives")
    let gate = Gate()
    let isThere = Notes<Bool>()
    weak let observed: Canary?
    do {
      let owner = Canary()
      observed = owner
      try worker.every(.milliseconds(1), weakly: owner) { [weak owner] given in
        gate.pass()
        isThere.add(owner === given)
      }
      await gate.arrived()
      withExtendedLifetime(owner) {}
    }
    #expect(observed != nil, "the call holds it")
    gate.open()
    await until { observed == nil }
    #expect(isThere.all == [true])
    await worker.close()
  }

  // The owner owns the worker, and goes in a call: on the thread that would have to be joined.
  //
  //     test                     worker
  //     owner, worker      <-    waits in a call, and holds the owner
  //     lets go            ->    returns: the owner goes here, and the worker with it
  @Test func `a thousand owners that go in their own calls leave no worker`() async throws {
    let name = "goes in its call"
    let ends = Counter()
    let released = Notes<String>()
    let rounds = scaled(1000)
    for _ in 0..<rounds {
      let isAlone = DispatchSemaphore(value: 0)
      let isThere = Gate()
      func own() async throws {
        let owner = try Owner(name) { isCurrent in
          #expect(isCurrent)
          ends.increment()
        }
        try owner.worker.every(.nanoseconds(1), weakly: owner) {
          [captured = Captured(released)] _ in
          isThere.pass()
          isAlone.wait()
          withExtendedLifetime(captured) {}
        }
        await isThere.arrived()
        isThere.open()
        withExtendedLifetime(owner) {}
      }
      try await own()
      isAlone.signal()
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(ends.value == rounds)
    #expect(released.all.count == rounds)
  }

  @Test func `an owner of its worker goes, and takes the repetition with it, between two calls`()
    async throws
  {
    let name = "goes between calls"
    let released = Notes<String>()
    let rounds = scaled(200)
    for _ in 0..<rounds {
      let owner = try Owner(name) { _ in }
      let calls = Counter()
      try owner.worker.every(.microseconds(50), weakly: owner) {
        [captured = Captured(released)] owner in
        calls.increment()
        withExtendedLifetime(captured) { _ = owner.worker.isCurrent }
      }
      await until { calls.value >= 2 }
      withExtendedLifetime(owner) {}
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(released.all.count == rounds)
  }

  // MARK: Close

  @Test func `close releases what waits for its time, on the worker's thread, before it returns`()
    async throws
  {
    for mode in [Worker.CloseMode.drain, .discard] {
      for isBlocking in [false, true] {
        let worker = try Worker("closed")
        let thread = try await worker.run { currentThread() }
        let owner = Canary()
        let ends = Notes<String>()
        for seconds in 1...3 {
          try worker.every(.seconds(3600 * seconds), weakly: owner) {
            [captured = Captured(ends)] _ in
            withExtendedLifetime(captured) { _ = Issue.record("it was called") }
          }
        }
        if isBlocking { blockingClose(worker, mode) } else { await worker.close(mode) }
        #expect(ends.all == Array(repeating: thread, count: 3))
        withExtendedLifetime(owner) {}
      }
    }
  }

  @Test func `close returns and releases it although an executor keeps the thread`() async throws {
    let worker = try Worker("kept thread")
    let executor = worker.executor
    let owner = Canary()
    let ends = Notes<String>()
    try worker.every(.seconds(3600), weakly: owner) { [captured = Captured(ends)] _ in
      withExtendedLifetime(captured) { _ = Issue.record("it was called") }
    }
    await worker.close()
    #expect(ends.all.count == 1)
    #expect(throws: WorkerError(.closed)) {
      try worker.every(.seconds(1), weakly: owner) { _ in }
    }
    withExtendedLifetime((owner, executor)) {}
  }

  @Test func `close waits for a call, and none comes after it`() async throws {
    let worker = try Worker("close waits")
    let owner = Canary()
    let gate = Gate()
    let calls = Counter()
    try worker.every(.nanoseconds(1), weakly: owner) { _ in
      gate.pass()
      calls.increment()
    }
    await gate.arrived()
    let closed = Counter()
    let close = Task {
      await worker.close()
      closed.increment()
    }
    await until { worker.isClosed }
    #expect(closed.value == 0)
    gate.open()
    gate.open()  // so that a call that should not come does not wait for ever
    await close.value
    #expect(calls.value == 1)
    withExtendedLifetime(owner) {}
  }

  @Test func `a call may close its worker, and is the last one`() async throws {
    let worker = try Worker("closes itself")
    let owner = Canary()
    let calls = Counter()
    let ends = Notes<String>()
    for _ in 0..<3 {
      try worker.every(.milliseconds(1), weakly: owner) {
        [worker, captured = Captured(ends)] _ in
        withExtendedLifetime(captured) {
          if worker.isClosed { Issue.record("it was called after close") }
          worker.closeAndWait()
          calls.increment()
        }
      }
    }
    await worker.close()
    #expect(ends.all.count == 3)
    #expect(calls.value <= 1)
    withExtendedLifetime(owner) {}
  }

  @Test func `after close it is refused and keeps nothing`() async throws {
    let worker = try Worker("refuses")
    await worker.close()
    weak let canary: Canary?
    do {
      let captured = Canary()
      canary = captured
      #expect(throws: WorkerError(.closed)) {
        try worker.every(.seconds(1), weakly: captured) { [captured] _ in
          withExtendedLifetime(captured) {}
        }
      }
    }
    #expect(canary == nil)
  }

  @Test func `repetitions that begin while the worker closes are called no more, and are released`()
    async throws
  {
    for round in 0..<scaled(200) {
      let worker = try Worker("raced")
      let owner = Canary()
      let ends = Counter()
      let begun = Counter()
      let closed = Counter()
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<4 {
          group.addTask {
            for number in 0..<20 {
              do {
                try worker.every(
                  number % 2 == 0 ? .nanoseconds(1) : .seconds(3600), weakly: owner
                ) { [captured = Ending(ends)] _ in
                  withExtendedLifetime(captured) {
                    if closed.value > 0 { Issue.record("it was called after close") }
                  }
                }
                begun.increment()
              } catch {
                #expect(error as? WorkerError == WorkerError(.closed))
                begun.increment()
              }
            }
          }
        }
        group.addTask {
          for _ in 0..<(round % 20) { await Task.yield() }
          await worker.close()
          closed.increment()
        }
      }
      #expect(begun.value == 80)
      #expect(ends.value == 80)
      withExtendedLifetime(owner) {}
    }
  }

  // MARK: From where

  @Test func `it may be asked for on the worker's own thread, in a call and in a request`()
    async throws
  {
    let worker = try Worker("own thread")
    let owner = Canary()
    let inner = Counter()
    let outer = Counter()
    try await worker.run { [worker] in
      try worker.every(.milliseconds(1), weakly: owner) { [weak worker] owner in
        outer.increment()
        guard outer.value == 1 else { return }
        do {
          try worker?.every(.milliseconds(1), weakly: owner) { _ in inner.increment() }
        } catch {
          Issue.record(error)
        }
      }
    }
    await until { inner.value >= 3 && outer.value >= 3 }
    await worker.close()
    withExtendedLifetime(owner) {}
  }

  @Test func `a lazy worker starts its thread for it`() async throws {
    let name = "lazy"
    var configuration = Worker.Configuration()
    configuration.lazy = true
    let calls = Counter()
    func use() async throws {
      let worker = try Worker(name, configuration: configuration)
      let owner = Canary()
      let threads = Notes<String>()
      try worker.every(.milliseconds(1), weakly: owner) { _ in
        threads.add(currentThread())
        calls.increment()
      }
      await until { calls.value >= 3 }
      #expect(try await worker.run { currentThread() } == threads.all[0])
      withExtendedLifetime(owner) {}
    }
    try await use()
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `an owner that asks from many tasks at once is served each time`() async throws {
    let worker = try Worker("from many")
    let ends = Counter()
    let total = Counter()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<8 {
        group.addTask {
          for _ in 0..<scaled(200) {
            let owner = Canary()
            let calls = Counter()
            try worker.every(.microseconds(20), weakly: owner) { [captured = Ending(ends)] _ in
              withExtendedLifetime(captured) { calls.increment() }
            }
            total.increment()
            if total.value % 8 == 0 { await until { calls.value > 0 } }
            withExtendedLifetime(owner) {}
          }
        }
      }
      try await group.waitForAll()
    }
    // The owners have gone, and the worker is open.
    await until { ends.value == total.value }
    #expect(try await worker.run { 1 } == 1)
    await worker.close()
  }
}

/// Owns a worker, and tells at its end whether it is on that worker's thread.
private final class Owner: Sendable {
  let worker: Worker
  private let ended: @Sendable (Bool) -> Void

  init(_ name: String, ended: @escaping @Sendable (Bool) -> Void) throws {
    worker = try Worker(name)
    self.ended = ended
  }

  deinit { ended(worker.isCurrent) }
}

/// Notes the thread on which it ends.
private final class Captured: Sendable {
  private let ends: Notes<String>

  init(_ ends: Notes<String>) {
    self.ends = ends
  }

  deinit { ends.add(currentThread()) }
}

/// Counts its end.
private final class Ending: Sendable {
  private let ends: Counter

  init(_ ends: Counter) {
    self.ends = ends
  }

  deinit { ends.increment() }
}
