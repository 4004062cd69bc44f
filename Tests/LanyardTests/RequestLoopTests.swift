// The typed loop: what is sent arrives, whole, in order and once, and nothing of it stays behind.

import Dispatch
import Foundation
import LanyardTestSupport
import Synchronization
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct RequestLoopTests {
  // MARK: Arriving

  @Test(arguments: [1, 20])
  func `a hundred thousand strings arrive whole, in the order of each sender, once`(senders: Int)
    async throws
  {
    // Long enough for the string to own memory.
    try await expectArrival(of: scaled(100_000), from: senders) { sender, number in
      "a string of sender \(sender) with the number \(number)"
    } read: { text in
      let words = text.split(separator: " ")
      return Origin(sender: Int(words[4])!, number: Int(words[8])!)
    }
  }

  @Test(arguments: [1, 20])
  func `structs that hold references arrive whole`(senders: Int) async throws {
    struct Order: Sendable {
      let origin: Origin
      let token: Token
      let items: [String]
    }
    let census = Census()
    try await expectArrival(of: scaled(20_000), from: senders) { sender, number in
      Order(
        origin: Origin(sender: sender, number: number), token: Token(number, in: census),
        items: ["the item \(number)"])
    } read: { order in
      #expect(order.token.number == order.origin.number)
      #expect(order.items == ["the item \(order.origin.number)"])
      return order.origin
    }
    #expect(census.made == scaled(20_000) / senders * senders)
    #expect(census.living == 0)
  }

  @Test(arguments: [1, 20])
  func `objects and structs that hold something weakly arrive with it`(senders: Int) async throws {
    final class Observer: Sendable {
      let origin: Origin
      weak let observed: Canary?
      init(_ origin: Origin, _ observed: Canary) {
        self.origin = origin
        self.observed = observed
      }
    }
    // A weak reference cannot be moved by copying its bytes, inside of a struct too.
    struct Observation: Sendable {
      let observer: Observer
      weak let observed: Canary?
    }
    let kept = Canary()
    try await expectArrival(of: scaled(20_000), from: senders) { sender, number in
      if number % 2 == 0 {
        return Observation(
          observer: Observer(Origin(sender: sender, number: number), kept), observed: kept)
      }
      let gone = Canary()
      return Observation(
        observer: Observer(Origin(sender: sender, number: number), gone), observed: gone)
    } read: { observation in
      let origin = observation.observer.origin
      let isKept = origin.number % 2 == 0
      #expect((observation.observed === kept) == isKept)
      #expect((observation.observer.observed === kept) == isKept)
      #expect(isKept || observation.observed == nil)
      return origin
    }
    withExtendedLifetime(kept) {}
  }

  @Test(arguments: [1, 20])
  func `large requests arrive whole, and vectors too`(senders: Int) async throws {
    #expect(MemoryLayout<Large>.size == 200)
    try await expectArrival(of: scaled(20_000), from: senders) { sender, number in
      Large(sender: sender, number: number)
    } read: { large in
      #expect(large.isWhole)
      return Origin(sender: large.words.0, number: large.words.1)
    }
    try await expectArrival(of: scaled(20_000), from: senders) { sender, number in
      SIMD8(sender, number, number, number, number, number, number, number)
    } read: { wide in
      #expect(wide == SIMD8(wide[0], wide[1], wide[1], wide[1], wide[1], wide[1], wide[1], wide[1]))
      return Origin(sender: wide[0], number: wide[1])
    }
  }

  @Test(arguments: [1, 20])
  func `optional requests arrive, those that are nil too`(senders: Int) async throws {
    // The sender tells by its number whether it sends nil, so that the loop can know what to expect.
    let census = Census()
    let nothing = Counter()
    try await expectArrival(of: scaled(20_000), from: senders) { sender, number -> Sent? in
      number % 3 == 1 ? nil : Sent(sender: sender, number: number, token: Token(number, in: census))
    } read: { sent in
      guard let sent else {
        nothing.increment()
        return nil
      }
      return Origin(sender: sent.sender, number: sent.number)
    }
    let each = scaled(20_000) / senders
    #expect(nothing.value == senders * ((each + 1) / 3))
    #expect(census.living == 0)
  }

  @Test(arguments: [1, 20])
  func `requests without a size are counted right`(senders: Int) async throws {
    struct Nothing: Sendable {}
    #expect(MemoryLayout<Nothing>.size == 0)
    try await expectArrival(of: scaled(20_000), from: senders) { _, _ in
      Nothing()
    } read: { _ in
      nil
    }
    try await expectArrival(of: scaled(20_000), from: senders) { _, _ in
    } read: { (_: Void) in
      nil
    }
  }

  /// Sends `total` requests from so many tasks at once, each in the order of its numbers, and expects that
  /// the loop meets each of them once and each sender's in that order. A request whose origin cannot be
  /// read from it is counted.
  private func expectArrival<Request: Sendable>(
    of total: Int, from senders: Int, make: @escaping @Sendable (Int, Int) -> Request,
    read: @escaping @Sendable (Request) -> Origin?,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let each = total / senders
    let counted = Counter()
    let disorder = Notes<Origin>()
    let lastNumbers = Notes<[Int]>()
    var configuration = Worker.Configuration()
    configuration.capacity = 64
    let loop = try RequestLoop<Request>("arrival", configuration: configuration) {
      // The loop's own: its thread alone touches it.
      [state = Expected(senders: senders)] batch in
      while let request = batch.next() {
        counted.increment()
        if let origin = read(request), !state.takes(origin) { disorder.add(origin) }
        if counted.value == each * senders { lastNumbers.add(state.last) }
      }
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for sender in 0..<senders {
        group.addTask {
          for number in 0..<each {
            let request = make(sender, number)
            if number % 2 == 0, (try? loop.trySend(request)) != nil { continue }
            try await loop.send(request)
          }
        }
      }
      try await group.waitForAll()
    }
    await loop.close()
    #expect(counted.value == each * senders, sourceLocation: sourceLocation)
    #expect(disorder.all.isEmpty, sourceLocation: sourceLocation)
    let statistics = loop.statistics
    #expect(statistics.completed == UInt64(each * senders), sourceLocation: sourceLocation)
    #expect(statistics.submitted == statistics.completed, sourceLocation: sourceLocation)
    #expect(
      try #require(lastNumbers.all.first).allSatisfy { $0 == -1 || $0 >= each - 3 },
      sourceLocation: sourceLocation)
  }

  // MARK: Batches

  @Test func `what queued up while the loop was busy comes as one batch`() async throws {
    let held = try await Held()
    for number in 0..<10 { try held.loop.trySend(.number(number)) }
    await held.finish()
    #expect(held.batches.all == [1, 10])
    #expect(held.numbers.all == Array(0..<10))
    #expect(held.loop.statistics.batches == 2)
    #expect(held.loop.statistics.completed == 11)
  }

  @Test(arguments: [
    (limit: 1, capacity: 16, batches: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    (limit: 4, capacity: 16, batches: [4, 4, 2]), (limit: 10, capacity: 16, batches: [10]),
    (limit: 1 << 20, capacity: 16, batches: [10]), (limit: 3, capacity: 10, batches: [3, 3, 3, 1]),
  ])
  func `no batch is larger than the limit, and none waits to be filled`(
    limit: Int, capacity: Int, batches: [Int]
  ) async throws {
    let held = try await Held(capacity: capacity, batchLimit: limit)
    for number in 0..<10 { try held.loop.trySend(.number(number)) }
    await held.finish()
    #expect(held.batches.all == [1] + batches)
    #expect(held.numbers.all == Array(0..<10))
  }

  @Test func `a batch says how many it had, and gives nothing after the last one`() async throws {
    let counts = Notes<[Int]>()
    let gate = Gate()
    let loop = try RequestLoop<Gate?>("counts") { batch in
      var seen = [batch.count]
      while let request = batch.next() {
        request?.pass()
        seen.append(batch.count)
      }
      for _ in 0..<3 { if batch.next() != nil { seen.append(-1) } }
      counts.add(seen)
    }
    try loop.trySend(gate)
    await gate.arrived()
    for _ in 0..<3 { try loop.trySend(nil) }
    gate.open()
    await loop.close()
    #expect(counts.all == [[1, 1], [3, 3, 3, 3]])
  }

  @Test func `a request that is taken out of its batch is the closure's alone`() async throws {
    let isGone = Notes<Bool>()
    let gate = Gate()
    let loop = try RequestLoop<Canary>("taken out") { [gates = Rest(of: [gate])] batch in
      gates.next()?.pass()
      while true {
        weak var canary: Canary?
        do {
          guard let request = batch.next() else { break }
          canary = request
        }
        isGone.add(canary == nil)
      }
    }
    // While the loop waits, so that nothing of a call of `trySend` is left when it goes on.
    try loop.trySend(Canary())
    await gate.arrived()
    for _ in 1..<100 { try loop.trySend(Canary()) }
    gate.open()
    await loop.close()
    #expect(isGone.all == Array(repeating: true, count: 100))
  }

  // `assert` stops the process in a debug build. (In a release build the rest is released instead; these
  // tests are not built that way.)
  @Test func `what is left in a batch stops a debug build, and the message says what to do`() async
  {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let gate = Gate()
      let loop = try RequestLoop<Gate?>("left") { batch in
        if let gate = batch.next() ?? nil { gate.pass() }
      }
      try loop.trySend(gate)
      await gate.arrived()
      for _ in 0..<3 { try loop.trySend(nil) }
      gate.open()
      await loop.close()
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(
      text.contains(
        "2 of 3 requests were left in a batch: take them all, while let request = batch.next()"),
      "\(text)")
  }

  // MARK: Every capacity

  // Each round moves the place in the ring on by one and the fill, so that every fill is tried at every
  // place, many times round the ring and the slots.
  @Test(arguments: 2...8)
  func `with every capacity, every fill at every place is accepted, in order, and no more`(
    capacity: Int
  ) async throws {
    let held = try await Held(capacity: capacity)
    let slots = held.loop.statistics.capacity
    #expect(slots == (capacity <= 2 ? 2 : capacity <= 4 ? 4 : 8))
    var sent = 0
    for _ in 0..<(2 * slots) {
      for fill in 0...slots {
        for _ in 0..<fill {
          try held.loop.trySend(.number(sent))
          sent += 1
        }
        if fill == slots {
          #expect(throws: WorkerError(.full)) { try held.loop.trySend(.number(-1)) }
        }
        // The next gate may not fit, so it is sent after those have been served.
        held.gate.open()
        await until { held.numbers.all.count == sent }
        try await held.hold()
      }
    }
    await held.finish()
    #expect(held.numbers.all == Array(0..<sent))
  }

  // The ring frees a slot before it is served, so there may be twice as many requests as the ring has slots:
  // one ring full in the batch that is being served, and one in the ring.
  //
  //     test                                   loop
  //     fills the ring                    ->   takes all of it as one batch, waits before the first
  //     fills the ring again, it is full       waits
  //     opens                             ->   takes out what it was given at first
  @Test(arguments: [2, 4, 8, 64])
  func `a full batch and a full ring at once keep apart, many times round`(capacity: Int)
    async throws
  {
    let rounds = 24
    let gates = (0..<rounds).map { _ in Gate() }
    let census = Census()
    let served = Notes<[Int]>()
    var configuration = Worker.Configuration()
    configuration.capacity = capacity
    configuration.batchLimit = capacity
    let loop = try RequestLoop<Token>("twice full", configuration: configuration) {
      [rest = Rest(of: gates)] batch in
      rest.next()?.pass()
      var numbers: [Int] = []
      while let token = batch.next() { numbers.append(token.number) }
      served.add(numbers)
    }
    try loop.trySend(Token(-1, in: census))
    var sent = 0
    for gate in gates {
      await gate.arrived()
      for _ in 0..<capacity {
        try loop.trySend(Token(sent, in: census))
        sent += 1
      }
      #expect(throws: WorkerError(.full)) { try loop.trySend(Token(-2, in: census)) }
      gate.open()
    }
    await loop.close()
    #expect(served.all.first == [-1])
    #expect(Array(served.all.dropFirst().joined()) == Array(0..<sent))
    #expect(served.all.dropFirst().allSatisfy { $0.count == capacity })
    #expect(sent > 4 * 2 * capacity)
    #expect(census.living == 0)
  }

  @Test(arguments: [2, 4, 8])
  func `many laps by many senders through a small ring lose and double nothing`(capacity: Int)
    async throws
  {
    let census = Census()
    let sums = Notes<Int>()
    var configuration = Worker.Configuration()
    configuration.capacity = capacity
    configuration.batchLimit = capacity
    let loop = try RequestLoop<Token>("laps", configuration: configuration) {
      [sum = Sum(noting: sums)] batch in
      while let token = batch.next() { sum.value += token.number }
    }
    let each = scaled(1000)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for sender in 0..<10 {
        group.addTask {
          for number in 0..<each {
            try await loop.send(Token(sender * each + number, in: census))
          }
        }
      }
      try await group.waitForAll()
    }
    await loop.close()
    let total = 10 * each
    #expect(sums.all == [total * (total - 1) / 2])
    #expect(census.made == total)
    #expect(census.living == 0)
  }

  // MARK: A full ring

  @Test(arguments: [2, 4, 8])
  func `senders that wait for room are served in the order in which they came`(capacity: Int)
    async throws
  {
    let held = try await Held(capacity: capacity)
    try held.fill(upTo: capacity)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<50 {
        group.addTask { try await held.loop.send(.number(number)) }
        await until { held.line.length == number + 1 }
      }
      held.gate.open()
      try await group.waitForAll()
    }
    await held.finish()
    #expect(held.numbers.all.filter { $0 >= 0 } == Array(0..<50))
  }

  @Test func `a full ring suspends a thousand senders, and they hold no thread`() async throws {
    let held = try await Held(capacity: 2)
    try held.fill(upTo: 2)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<1000 {
        group.addTask { try await held.loop.send(.number(number)) }
      }
      // This goes on, on the threads that the senders would otherwise hold.
      await until { held.line.length == 1000 }
      held.gate.open()
      try await group.waitForAll()
    }
    await held.finish()
    #expect(held.numbers.all.filter { $0 >= 0 }.sorted() == Array(0..<1000))
  }

  @Test func `trySend does not overtake senders that wait for room`() async throws {
    let held = try await Held(capacity: 2)
    try held.fill(upTo: 2)
    async let waits: Void = held.loop.send(.number(7))
    await until { held.line.length == 1 }
    #expect(throws: WorkerError(.full)) { try held.loop.trySend(.number(8)) }
    held.gate.open()
    try await waits
    await until { held.numbers.all.count == 3 }
    try held.loop.trySend(.number(9))
    await held.finish()
    #expect(held.numbers.all == [-1, -2, 7, 9])
  }

  // Whoever comes while somebody stands in line stands behind or is refused, in the moments in which the
  // ring has room too.
  @Test func `latecomers of both kinds stay behind those who wait`() async throws {
    for _ in 0..<scaled(20) {
      let held = try await Held(capacity: 2)
      try held.fill(upTo: 2)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<50 {
          group.addTask { try await held.loop.send(.number(number)) }
          await until { held.line.length == number + 1 }
        }
        held.gate.open()
        for _ in 0..<20 {
          group.addTask { try await held.loop.send(.number(100)) }
          _ = try? held.loop.trySend(.number(101))
        }
        try await group.waitForAll()
      }
      await held.finish()
      #expect(Array(held.numbers.all.prefix(52)) == [-1, -2] + Array(0..<50))
      #expect(held.numbers.all.dropFirst(52).allSatisfy { $0 >= 100 })
    }
  }

  @Test func `a cancelled sender leaves the line at once, the others keep their places`()
    async throws
  {
    let held = try await Held(capacity: 2)
    try held.fill(upTo: 2)
    var tasks: [Task<Void, any Error>] = []
    for number in 0..<10 {
      tasks.append(Task { try await held.loop.send(.number(number)) })
      await until { held.line.length == number + 1 }
    }
    for number in [0, 4, 9] {
      tasks[number].cancel()
      await #expect(throws: CancellationError.self) { try await tasks[number].value }
    }
    #expect(held.line.length == 7)
    held.gate.open()
    for number in [1, 2, 3, 5, 6, 7, 8] { try await tasks[number].value }
    await held.finish()
    #expect(held.numbers.all == [-1, -2, 1, 2, 3, 5, 6, 7, 8])
  }

  @Test func `at its deadline a sender leaves the line and is told`() async throws {
    let held = try await Held(capacity: 2)
    try held.fill(upTo: 2)
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await held.loop.send(.number(0), deadline: .now + .milliseconds(20))
    }
    #expect(held.line.isEmpty)
    await held.finish()
    #expect(held.numbers.all == [-1, -2])
  }

  @Test func `a sender that gets room before its deadline is served`() async throws {
    let held = try await Held(capacity: 2)
    try held.fill(upTo: 2)
    async let sent: Void = held.loop.send(.number(5), deadline: .now + .seconds(3600))
    await until { held.line.length == 1 }
    held.gate.open()
    try await sent
    await held.finish()
    #expect(held.numbers.all == [-1, -2, 5])
  }

  @Test func `a deadline that has passed, or a cancelled task, sends nothing though there is room`()
    async throws
  {
    let served = Counter()
    let loop = try RequestLoop<Int>("room, but late") { batch in
      while batch.next() != nil { served.increment() }
    }
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await loop.send(1, deadline: .now - .seconds(1))
    }
    let task = Task {
      await until { Task.isCancelled }
      try await loop.send(2)
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    await loop.close()
    #expect(served.value == 0)
    #expect(loop.statistics.submitted == 0)
  }

  @Test func `a sender that is cancelled before its deadline gets CancellationError`() async throws
  {
    let held = try await Held(capacity: 2)
    try held.fill(upTo: 2)
    let task = Task { try await held.loop.send(.number(0), deadline: .now + .seconds(3600)) }
    await until { held.line.length == 1 }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    await held.finish()
    #expect(held.numbers.all == [-1, -2])
  }

  @Test(arguments: [Worker.CloseMode.drain, .discard])
  func `close answers everybody in line with closed`(mode: Worker.CloseMode) async throws {
    let held = try await Held(capacity: 2)
    try held.fill(upTo: 2)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<100 {
        group.addTask {
          await #expect(throws: WorkerError(.closed)) { try await held.loop.send(.number(0)) }
        }
      }
      await until { held.line.length == 100 }
      group.addTask { await held.loop.close(mode) }
      await until { held.line.isEmpty }
      held.gate.open()
      try await group.waitForAll()
    }
    #expect(!held.numbers.all.contains(0))
  }

  // MARK: Acceptance and withdrawal, each step in its order

  //     sender                           withdrawer
  //     the core accepts the request
  //                                      unsubmitted -> cancelled; it stands in no line
  //     cannot say accepted, but it is no longer the sender's: it will be served
  @Test func `a withdrawal between the core's acceptance and the sender's word comes too late`()
    async throws
  {
    let bench = try await SlotBench()
    let request = SendRequest("kept", to: bench.slots)
    _ = try await Waiter<Void>.wait { waiter in
      request.resume(waiter)
      guard case .accepted(let ticket) = request.trySubmit(to: bench.worker.handle) else {
        Issue.record("there is room")
        return
      }
      request.withdraw(.cancelled, from: bench.worker.line)
      request.wasAccepted(as: ticket, by: bench.worker.handle)
    }
    #expect(bench.trySend("next"))
    await bench.finish()
    #expect(bench.served.all == ["kept", "next"])
    #expect(bench.worker.statistics.cancelled == 0)
  }

  @Test func `a withdrawal after the acceptance has no effect`() async throws {
    let bench = try await SlotBench()
    let request = SendRequest("kept", to: bench.slots)
    _ = try await Waiter<Void>.wait { waiter in
      request.resume(waiter)
      bench.worker.line.submit(request)
    }
    request.withdraw(.cancelled, from: bench.worker.line)
    request.withdraw(.expired, from: bench.worker.line)
    await bench.finish()
    #expect(bench.served.all == ["kept"])
    #expect(bench.worker.statistics.cancelled == 0)
  }

  @Test func `a withdrawal before the submission keeps the request out of the ring`() async throws {
    let bench = try await SlotBench()
    let request = SendRequest("withdrawn", to: bench.slots)
    await #expect(throws: CancellationError.self) {
      try await Waiter<Void>.wait { waiter in
        request.resume(waiter)
        request.withdraw(.cancelled, from: bench.worker.line)
        bench.worker.line.submit(request)
      }
    }
    await bench.finish()
    #expect(bench.served.all.isEmpty)
    #expect(bench.worker.statistics.submitted == 1, "the one that holds it")
  }

  @Test func `twenty thousand cancellations race the acceptance: what was accepted is served`()
    async throws
  {
    let census = Census()
    let served = Counter()
    var configuration = Worker.Configuration()
    configuration.capacity = 2
    let loop = try RequestLoop<Token>("cancelled sends", configuration: configuration) { batch in
      while batch.next() != nil { served.increment() }
    }
    let returned = Counter()
    let cancelled = Counter()
    let expired = Counter()
    let each = scaled(500)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for racer in 0..<40 {
        group.addTask {
          for round in 0..<each {
            let deadline: ContinuousClock.Instant? =
              (racer + round) % 4 == 0 ? .now + .microseconds(round % 50) : nil
            let task = Task {
              do {
                try await loop.send(Token(round, in: census), deadline: deadline)
                returned.increment()
              } catch is CancellationError {
                cancelled.increment()
              } catch let error as WorkerError where error.code == .deadlineExceeded {
                expired.increment()
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
    #expect(loop.worker.line.isEmpty)
    await loop.close()
    #expect(returned.value + cancelled.value + expired.value == 40 * each)
    #expect(served.value == returned.value)
    #expect(loop.statistics.submitted == UInt64(served.value))
    #expect(loop.statistics.cancelled == 0)
    #expect(census.living == 0)
  }

  // MARK: Nothing stays behind

  @Test func `served requests are released`() async throws {
    let census = Census()
    let held = try await Held()
    for number in 0..<100 { try held.loop.trySend(.token(Token(number, in: census))) }
    #expect(census.living == 100)
    await held.finish()
    #expect(census.living == 0)
  }

  @Test
  func `a discard releases what it does not serve, on the loop's thread, before close returns`()
    async throws
  {
    let census = Census(notesThreads: true)
    let held = try await Held()
    for number in 0..<100 { try held.loop.trySend(.token(Token(number, in: census))) }
    async let closed: Void = held.loop.close(.discard)
    await until { held.loop.isClosed }
    held.gate.open()
    await closed
    #expect(census.living == 0)
    #expect(census.ends == [held.thread])
    #expect(held.tokens.all.isEmpty)
    #expect(held.loop.statistics.discarded == 100)
  }

  @Test func `nothing is kept of a request that is refused`() async throws {
    let census = Census()
    let held = try await Held(capacity: 2)
    try held.fill(upTo: 2)
    let refusedBefore = held.loop.statistics.refusedFull
    for number in 0..<100 {
      #expect(throws: WorkerError(.full)) {
        try held.loop.trySend(.token(Token(number, in: census)))
      }
    }
    #expect(census.living == 0)
    #expect(held.loop.statistics.refusedFull == refusedBefore + 100)
    await held.finish()
    #expect(throws: WorkerError(.closed)) { try held.loop.trySend(.token(Token(0, in: census))) }
    await #expect(throws: WorkerError(.closed)) {
      try await held.loop.send(.token(Token(0, in: census)))
    }
    #expect(census.living == 0)
  }

  enum GivingUp: CaseIterable { case cancelled, expired, closed }

  @Test(arguments: GivingUp.allCases)
  func `nothing is kept of a request whose sender gives up waiting`(cause: GivingUp) async throws {
    let census = Census()
    let held = try await Held(capacity: 2)
    try held.fill(upTo: 2)
    await withTaskGroup(of: Void.self) { group in
      for number in 0..<100 {
        group.addTask {
          await #expect(throws: (any Error).self) {
            try await held.loop.send(
              .token(Token(number, in: census)),
              deadline: cause == .expired ? .now + .milliseconds(50) : nil)
          }
        }
      }
      if cause != .expired { await until { held.line.length == 100 } }
      switch cause {
      case .cancelled: group.cancelAll()
      case .expired: break
      case .closed: held.beginClose(.drain)
      }
    }
    // The loop is held all the while.
    #expect(census.made == 100)
    await until { census.living == 0 }
    await held.finish()
    #expect(held.tokens.all.isEmpty)
  }

  @Test func `a loop that is let go of with requests queued serves and releases them`() async throws
  {
    let name = "let go of, queued"
    let census = Census()
    func letGo() async throws -> Held {
      let held = try await Held(name)
      for number in 0..<100 { try held.loop.trySend(.token(Token(number, in: census))) }
      return held
    }
    var held: Held? = try await letGo()
    let tokens = held!.tokens
    let gate = held!.gate
    // In a task, where letting go waits for a moment only: the loop is still held then.
    held = nil
    #expect(census.living == 100)
    gate.open()
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(tokens.all == Array(0..<100))
    #expect(census.living == 0)
  }

  // MARK: Closing

  @Test func `a drain serves all that was accepted, a discard none of it`() async throws {
    for mode in [Worker.CloseMode.drain, .discard] {
      let held = try await Held()
      for number in 0..<100 { try held.loop.trySend(.number(number)) }
      async let closed: Void = held.loop.close(mode)
      await until { held.loop.isClosed }
      #expect(throws: WorkerError(.closed)) { try held.loop.trySend(.number(-1)) }
      await #expect(throws: WorkerError(.closed)) { try await held.loop.send(.number(-1)) }
      held.gate.open()
      await closed
      #expect(held.numbers.all == (mode == .drain ? Array(0..<100) : []))
      let statistics = held.loop.statistics
      #expect(statistics.submitted == statistics.completed + statistics.discarded)
    }
  }

  @Test func `a later discard turns a drain in progress into a discard`() async throws {
    let held = try await Held(batchLimit: 2)
    for number in 0..<100 { try held.loop.trySend(.number(number)) }
    let second = Gate()
    try held.loop.trySend(.gate(second))
    for number in 100..<200 { try held.loop.trySend(.number(number)) }
    async let drained: Void = held.loop.close(.drain)
    await until { held.loop.isClosed }
    held.gate.open()
    await second.arrived()
    held.beginClose(.discard)
    second.open()
    await drained
    #expect(held.numbers.all == Array(0...100), "the batch in which the gate lay goes to its end")
    #expect(held.loop.statistics.discarded == 99)
  }

  @Test func `a loop can be closed again, both ways, and keeps answering`() async throws {
    let loop = try RequestLoop<Int>("closed again") { batch in while batch.next() != nil {} }
    try await loop.send(1)
    await loop.close()
    await loop.close(.discard)
    blockingClose(loop)
    blockingClose(loop, .discard)
    #expect(loop.isClosed)
    #expect(loop.name == "closed again")
    #expect(!loop.isCurrent)
    #expect(loop.statistics.completed == 1)
  }

  @Test(arguments: [Worker.CloseMode.drain, .discard])
  func `closers of both kinds all return after the thread was joined`(mode: Worker.CloseMode)
    async throws
  {
    let held = try await Held()
    for number in 0..<10 { try held.loop.trySend(.number(number)) }
    let returned = Counter()
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<16 {
        group.addTask {
          await held.loop.close(mode)
          returned.increment()
        }
      }
      for _ in 0..<4 {
        group.addTask {
          await onThreadOfItsOwn {
            held.loop.closeAndWait(mode)
            returned.increment()
          }
        }
      }
      await until { held.loop.isClosed }
      #expect(returned.value == 0, "nobody returns while a request is served")
      held.gate.open()
    }
    #expect(returned.value == 20)
    await until { !threadExists(held.thread) }  // the system may list it for a moment after the join
    #expect(held.numbers.all.count == (mode == .drain ? 10 : 0))
  }

  @Test func `close on the loop's own thread begins, and what was accepted is served`() async throws
  {
    let served = Notes<Int>()
    let accepts = Notes<Bool>()
    let loopOf = Lock<RequestLoop<Int>?>(nil)
    let isReady = DispatchSemaphore(value: 0)
    let loop = try RequestLoop<Int>("closes itself") { batch in
      while let number = batch.next() {
        if number == 0 {
          isReady.wait()
          let loop = loopOf.withLock { $0 }
          loop?.closeAndWait()
          accepts.add((try? loop?.trySend(100)) != nil)
        }
        served.add(number)
      }
    }
    loopOf.withLock { $0 = loop }
    for number in 0..<10 { try loop.trySend(number) }
    isReady.signal()
    await loop.close()
    loopOf.withLock { $0 = nil }
    #expect(served.all == Array(0..<10))
    #expect(accepts.all == [false])
  }

  @Test func `the closure may send to its own loop, and is refused when that is full`() async throws
  {
    let refused = Notes<WorkerError>()
    let loopOf = Lock<RequestLoop<Int>?>(nil)
    let served = Counter()
    let isReady = DispatchSemaphore(value: 0)
    var configuration = Worker.Configuration()
    configuration.capacity = 4
    let loop = try RequestLoop<Int>("sends to itself", configuration: configuration) { batch in
      while let number = batch.next() {
        served.increment()
        guard number == 0, let loop = loopOf.withLock({ $0 }) else { continue }
        isReady.wait()
        #expect(loop.isCurrent)
        for number in 1...5 {
          do throws(WorkerError) { try loop.trySend(number) } catch { refused.add(error) }
        }
      }
    }
    loopOf.withLock { $0 = loop }
    try loop.trySend(0)
    isReady.signal()
    await until { served.value == 5 }
    await loop.close()
    loopOf.withLock { $0 = nil }
    #expect(refused.all == [WorkerError(.full)])
    #expect(served.value == 5)
  }

  @Test(arguments: [Worker.CloseMode.drain, .discard])
  func `senders race closers: what was accepted is served or discarded, and released`(
    mode: Worker.CloseMode
  ) async throws {
    for round in 0..<scaled(400) {
      let census = Census()
      let served = Counter()
      let accepted = Counter()
      var configuration = Worker.Configuration()
      configuration.capacity = round % 3 == 0 ? 64 : 2
      let loop = try RequestLoop<Token>("raced", configuration: configuration) { batch in
        while batch.next() != nil { served.increment() }
      }
      await withTaskGroup(of: Void.self) { group in
        for sender in 0..<8 {
          group.addTask {
            for number in 0..<20 {
              do {
                let token = Token(number, in: census)
                if sender % 2 == 0 { try await loop.send(token) } else { try loop.trySend(token) }
                accepted.increment()
              } catch let error as WorkerError where error.code == .full {
                await Task.yield()
              } catch {
                #expect(error as? WorkerError == WorkerError(.closed))
                return
              }
            }
          }
        }
        for closer in 0..<2 {
          group.addTask {
            for _ in 0..<((round + closer) % 16) { await Task.yield() }
            await loop.close(closer == 0 ? mode : .drain)
          }
        }
      }
      let statistics = loop.statistics
      #expect(statistics.submitted == UInt64(accepted.value))
      #expect(statistics.completed == UInt64(served.value))
      #expect(statistics.submitted == statistics.completed + statistics.discarded)
      if mode == .drain { #expect(served.value == accepted.value) }
      #expect(census.living == 0)
    }
  }

  // MARK: Letting go

  // The request holds the last reference to its loop, and goes on the loop's thread:
  //
  //     test                            loop
  //     sends a request that owns it    waits until it is alone
  //     lets go, then signals      ->   lets go of the request: deinit runs here, inside of serve
  @Test func `ten thousand loops let go of on their own threads leave none`() async throws {
    let name = "loop let go inside"
    let census = Census()
    let rounds = scaled(10_000)
    for round in 0..<rounds {
      let isAlone = DispatchSemaphore(value: 0)
      func letGo() throws {
        let loop = try RequestLoop<Baton>(name) { [token = Token(round, in: census)] batch in
          while let baton = batch.next() {
            baton.isAlone?.wait()
            let isInside = baton.loop?.isCurrent ?? true
            #expect(isInside)
          }
          withExtendedLifetime(token) {}
        }
        try loop.trySend(Baton(loop, isAlone))
        // Served by a loop that nobody owns any more.
        if round % 2 == 0 { try loop.trySend(Baton(nil)) }
      }
      try letGo()
      isAlone.signal()
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(census.made == rounds)
    #expect(census.living == 0)
  }

  // A request that refers to its own loop is a circle as long as it waits, and none after it was taken.
  @Test(arguments: [Worker.CloseMode.drain, .discard])
  func `requests that refer to their loop keep it until they are taken, not after close`(
    mode: Worker.CloseMode
  ) async throws {
    let name = "circle"
    let served = Counter()
    weak let observed: RequestLoop<Baton>?
    do {
      let gate = Gate()
      let loop = try RequestLoop<Baton>(name) { [gates = Rest(of: [gate])] batch in
        gates.next()?.pass()
        while batch.next() != nil { served.increment() }
      }
      observed = loop
      try loop.trySend(Baton(nil))
      await gate.arrived()
      for _ in 0..<100 { try loop.trySend(Baton(loop)) }
      async let closed: Void = loop.close(mode)
      await until { loop.isClosed }
      gate.open()
      await closed
    }
    #expect(observed == nil)
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(served.value == (mode == .drain ? 101 : 1))
  }

  @Test func `a circle through a queued request ends by itself when the request is served`()
    async throws
  {
    let name = "circle, let go of"
    for _ in 0..<scaled(200) {
      let gate = Gate()
      func letGo() throws {
        let loop = try RequestLoop<Baton>(name) { [gates = Rest(of: [gate])] batch in
          gates.next()?.pass()
          while batch.next() != nil {}
        }
        for _ in 0..<10 { try loop.trySend(Baton(loop)) }
      }
      try letGo()
      gate.open()
    }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `what the closure captured goes on the loop's thread, before close returns`()
    async throws
  {
    let census = Census(notesThreads: true)
    let threads = Notes<String>()
    let loop = try RequestLoop<Int>("captured") { [token = Token(0, in: census)] batch in
      while batch.next() != nil { threads.add(currentThread()) }
      withExtendedLifetime(token) {}
    }
    try await loop.send(1)
    await until { threads.all.count == 1 }
    #expect(census.living == 1)
    await loop.close()
    #expect(census.living == 0)
    #expect(census.ends == Set(threads.all))
    withExtendedLifetime(loop) {}
  }

  @Test func `what the closure captured goes on the loop's thread when the loop is let go of`()
    async throws
  {
    let name = "captured, let go of"
    let census = Census(notesThreads: true)
    let threads = Notes<String>()
    func letGo() async throws {
      let loop = try RequestLoop<Int>(name) { [token = Token(0, in: census)] batch in
        while batch.next() != nil { threads.add(currentThread()) }
        withExtendedLifetime(token) {}
      }
      try await loop.send(1)
    }
    try await letGo()
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(census.living == 0)
    #expect(census.ends == Set(threads.all))
  }

  @Test(arguments: [true, false])
  func `a lazy loop that was never used releases what its closure captured`(closes: Bool)
    async throws
  {
    let name = "lazy, never used"
    let census = Census()
    var configuration = Worker.Configuration()
    configuration.lazy = true
    func letGo() async throws {
      let loop = try RequestLoop<Int>(name, configuration: configuration) {
        [token = Token(0, in: census)] batch in
        while batch.next() != nil {}
        withExtendedLifetime(token) {}
      }
      if closes { await loop.close() }
    }
    try await letGo()
    #expect(census.made == 1)
    #expect(census.living == 0)
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `a lazy loop starts its thread with its first request`() async throws {
    var configuration = Worker.Configuration()
    configuration.lazy = true
    for sends in [true, false] {
      let threads = Notes<String>()
      let loop = try RequestLoop<Int>("lazy", configuration: configuration) { batch in
        while batch.next() != nil { threads.add(currentThread()) }
      }
      if sends { try await loop.send(1) } else { try loop.trySend(1) }
      await loop.close()
      #expect(threads.all.count == 1)
    }
  }

  // MARK: Configuration

  @Test func `a loop that cannot be opened leaves nothing behind`() async throws {
    let name = "never opened"
    let census = Census()
    var configuration = Worker.Configuration()
    configuration.capacity = 1
    let error = try #require(throws: WorkerError.self) {
      _ = try RequestLoop<Int>(name, configuration: configuration) {
        [token = Token(0, in: census)] batch in
        while batch.next() != nil {}
        withExtendedLifetime(token) {}
      }
    }
    #expect(error.code == .invalid)
    #expect("\(error)".hasPrefix("capacity is 1, "))
    #expect(census.made == 1)
    #expect(census.living == 0)
    #expect(!Worker.live.contains { $0.name == name })
  }

  @Test func `a live loop is listed with its name and where it was opened`() async throws {
    let loop = try RequestLoop<Int>("a listed loop") { batch in while batch.next() != nil {} }
    let line = #line - 1
    let info = try #require(Worker.live.first { $0.name == "a listed loop" })
    #expect(info.fileID == #fileID)
    #expect(info.line == line)
    #expect(loop.name == "a listed loop")
    await loop.close()
  }

  @Test func `onStart comes before the first batch, onStop after the last, all on one thread`()
    async throws
  {
    let events = Notes<String>()
    let threads = Notes<String>()
    @Sendable func note(_ event: String) {
      events.add(event)
      threads.add(currentThread())
    }
    var configuration = Worker.Configuration()
    configuration.onStart = { note("start") }
    configuration.onStop = { note("stop") }
    let loop = try RequestLoop<Int>("hooked", configuration: configuration) { batch in
      while let number = batch.next() { note("\(number)") }
    }
    for number in 0..<3 { try await loop.send(number) }
    await loop.close()
    #expect(events.all == ["start", "0", "1", "2", "stop"])
    #expect(Set(threads.all).count == 1)
    #expect(!threads.all.contains(currentThread()))
  }

  // A batch counts as one running request, but who sent a part of it waits only for its acceptance: there
  // is nothing left that could be interrupted.
  @Test func `an interrupt is accepted in the configuration and never called`() async throws {
    let interrupted = Counter()
    let served = Counter()
    var configuration = Worker.Configuration()
    configuration.capacity = 2
    configuration.interrupt = { interrupted.increment() }
    let gates = (0..<20).map { _ in Gate() }
    let loop = try RequestLoop<Int>("interrupt", configuration: configuration) {
      [rest = Rest(of: gates)] batch in
      rest.next()?.pass()
      while batch.next() != nil { served.increment() }
    }
    try loop.trySend(0)
    for (round, gate) in gates.enumerated() {
      await gate.arrived()
      while (try? loop.trySend(0)) != nil {}
      // The batch runs, the ring is full, one sender is cancelled and one late.
      let task = Task { try await loop.send(1) }
      await until { loop.worker.line.length == 1 }
      if round % 2 == 0 {
        task.cancel()
      } else {
        await #expect(throws: WorkerError(.deadlineExceeded)) {
          try await loop.send(2, deadline: .now + .milliseconds(1))
        }
      }
      gate.open()
      _ = await task.result
    }
    await loop.close(.discard)
    #expect(interrupted.value == 0)
    #expect(served.value > 0)
  }
}

// MARK: - What the tests send and see

/// Where a request comes from.
private struct Origin: Sendable, Hashable {
  let sender: Int
  let number: Int
}

/// A request that may be nil, without a way to tell from which sender it came if it is.
private struct Sent: Sendable {
  let sender: Int
  let number: Int
  let token: Token
}

/// What a loop expects of its senders: that their numbers rise.
private final class Expected {
  private(set) var last: [Int]

  init(senders: Int) {
    last = Array(repeating: -1, count: senders)
  }

  func takes(_ origin: Origin) -> Bool {
    defer { last[origin.sender] = origin.number }
    return last[origin.sender] < origin.number
  }
}

/// 200 bytes.
private struct Large: Sendable {
  typealias Words = (
    Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int, Int,
    Int, Int, Int, Int, Int, Int
  )
  var words: Words

  init(sender: Int, number: Int) {
    let n = number
    words = (
      sender, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n
    )
  }

  var isWhole: Bool {
    withUnsafeBytes(of: words) { bytes in
      bytes.bindMemory(to: Int.self).dropFirst().allSatisfy { $0 == words.1 }
    }
  }
}

/// Counts the tokens that live.
private final class Census: Sendable {
  private let count = Atomic<Int>(0)
  private let gone = Atomic<Int>(0)
  private let threads = Lock<Set<String>>([])
  private let notesThreads: Bool

  init(notesThreads: Bool = false) {
    self.notesThreads = notesThreads
  }

  var made: Int { count.load(ordering: .sequentiallyConsistent) }
  var living: Int { made - gone.load(ordering: .sequentiallyConsistent) }

  /// The threads on which tokens ended, if they are noted: it takes longer than all the rest.
  var ends: Set<String> { threads.withLock { $0 } }

  fileprivate func begin() {
    count.add(1, ordering: .sequentiallyConsistent)
  }

  fileprivate func end() {
    if notesThreads {
      let thread = currentThread()
      threads.withLock { _ = $0.insert(thread) }
    }
    gone.add(1, ordering: .sequentiallyConsistent)
  }
}

/// A request, or something captured, whose end is counted.
private final class Token: Sendable {
  let number: Int
  private let census: Census

  init(_ number: Int, in census: Census) {
    self.number = number
    self.census = census
    census.begin()
  }

  deinit { census.end() }
}

/// A request that may own the loop to which it is sent.
private final class Baton: Sendable {
  let loop: RequestLoop<Baton>?
  let isAlone: DispatchSemaphore?

  init(_ loop: RequestLoop<Baton>?, _ isAlone: DispatchSemaphore? = nil) {
    self.loop = loop
    self.isAlone = isAlone
  }
}

/// What is left of a list, for the one thread that takes from it.
private final class Rest<Element> {
  private var elements: ArraySlice<Element>

  init(of elements: [Element]) {
    self.elements = elements[...]
  }

  func next() -> Element? { elements.popFirst() }
}

/// Adds up, for one thread, and notes the sum at its end.
private final class Sum {
  var value = 0
  private let sums: Notes<Int>

  init(noting sums: Notes<Int>) {
    self.sums = sums
  }

  deinit { sums.add(value) }
}

// MARK: - Loops that wait

/// A loop that stands at a gate in its first request, so that a test can arrange what comes after it.
private final class Held: Sendable {
  enum Message: Sendable {
    case gate(Gate)
    case number(Int)
    case token(Token)
  }

  let loop: RequestLoop<Message>

  /// What it has served: the numbers, those of the tokens, and how large each batch was.
  let numbers = Notes<Int>()
  let tokens = Notes<Int>()
  let batches = Notes<Int>()

  private let threads = Notes<String>()
  private let current = Lock(Gate())

  init(_ name: String = "held", capacity: Int = 1024, batchLimit: Int = 1024) async throws {
    var configuration = Worker.Configuration()
    configuration.capacity = capacity
    configuration.batchLimit = batchLimit
    loop = try RequestLoop(name, configuration: configuration) {
      [numbers, tokens, batches, threads] batch in
      batches.add(batch.count)
      while let message = batch.next() {
        switch message {
        case .number(let number): numbers.add(number)
        case .token(let token): tokens.add(token.number)
        case .gate(let gate):
          threads.add(currentThread())
          gate.pass()
        }
      }
    }
    try await hold()
  }

  /// Where it stands.
  var gate: Gate { current.withLock { $0 } }

  /// The loop's thread.
  var thread: String { threads.all[0] }

  var line: RoomLine { loop.worker.line }

  /// Has it stand at a new gate, after it has gone on from the one before.
  func hold() async throws {
    let gate = Gate()
    current.withLock { $0 = gate }
    try loop.trySend(.gate(gate))
    await gate.arrived()
  }

  /// Fills the ring with -1, -2 and so on.
  func fill(upTo capacity: Int) throws {
    for number in 1...capacity { try loop.trySend(.number(-number)) }
    #expect(throws: WorkerError(.full)) { try loop.trySend(.number(0)) }
  }

  /// Begins to close and does not wait.
  func beginClose(_ mode: Worker.CloseMode) {
    #expect(!loop.worker.handle.close(mode, within: 0), "it is held, so it cannot have ended")
  }

  /// Lets it go on, and to its end.
  func finish() async {
    gate.open()
    await loop.close()
  }
}

/// Slots and a worker that serves from them, without the loop around: for steps that the loop does not show.
private final class SlotBench: Sendable {
  let worker: Worker
  let slots: Slots<String>
  let served: Notes<String>
  private let gate = Gate()

  private final class Hooks: WorkerHooks, @unchecked Sendable {
    // Used on the worker's thread alone.
    private let slots: Slots<String>
    private let served: Notes<String>
    private let gate: Gate

    init(
      _ configuration: Worker.Configuration, _ slots: Slots<String>, _ served: Notes<String>,
      _ gate: Gate
    ) {
      self.slots = slots
      self.served = served
      self.gate = gate
      super.init(configuration)
    }

    override var servesBatches: Bool { true }

    override func serve(_ count: Int) {
      for _ in 0..<count {
        let element = slots.takeNext()
        if element == "gate" { gate.pass() } else { served.add(element) }
      }
    }
  }

  /// It is held.
  init() async throws {
    var configuration = Worker.Configuration()
    configuration.capacity = 4
    slots = Slots(capacity: 4)
    served = Notes()
    worker = try Worker(
      "bench", configuration, hooks: Hooks(configuration, slots, served, gate), fileID: #fileID,
      line: #line)
    #expect(trySend("gate"))
    await gate.arrived()
  }

  func trySend(_ element: String) -> Bool {
    guard case .accepted = worker.handle.trySubmit(element, into: slots) else { return false }
    return true
  }

  func finish() async {
    gate.open()
    await worker.close()
  }
}

/// The blocking form is not to be had in asynchronous code; the tests mean to call it.
private func blockingClose<Request>(
  _ loop: RequestLoop<Request>, _ mode: Worker.CloseMode = .drain
) {
  loop.closeAndWait(mode)
}
