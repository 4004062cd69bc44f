// Closures on a thread of their own.

import Lanyard

func useWorker(_ checks: Checks) async throws {
  let worker = try Worker("consumer")
  checks.expect(try await worker.run { 6 * 7 } == 42, "a result comes back")
  checks.expect(try await worker.run { worker.isCurrent }, "it was the worker's thread")

  struct Refused: Error, Equatable {}
  do {
    try await worker.run { throw Refused() }
    checks.expect(false, "an error is thrown")
  } catch {
    checks.expect(error is Refused, "an error comes back as itself")
  }

  // A value that is not Sendable may be made over there and brought here.
  final class Ledger { var entries: [String] = [] }
  let ledger = try await worker.run {
    let ledger = Ledger()
    ledger.entries.append("opened")
    return ledger
  }
  ledger.entries.append("brought home")
  checks.expect(ledger.entries.count == 2, "a value that is not Sendable may leave the worker")

  await checks.expect(.deadlineExceeded, "a deadline in the past") {
    try await worker.run(deadline: .now - .seconds(1)) {}
  }
  await useFullRing(checks)
  await useRepetition(checks)

  await worker.close()
  await worker.close()
  await checks.expect(.closed, "after close") { try await worker.run {} }
  await checks.expect(.invalid, "a capacity out of range") {
    var configuration = Worker.Configuration()
    configuration.capacity = 1
    _ = try Worker(configuration: configuration)
  }
  await checks.expect(.invalid, "an empty name") { _ = try Worker("") }

  // The last reference goes inside of a closure, on the very thread that ends with it.
  let other = try Worker("let go of on itself")
  try other.submit { [other] in _ = other.isClosed }

  let sum = try await Worker.withWorker("scoped") { worker in
    try await worker.run { (1...10).reduce(0, +) }
  }
  checks.expect(sum == 55, "a worker for the time of a closure")
}

/// A worker that is held, a ring of two, and callers that wait for room.
private func useFullRing(_ checks: Checks) async {
  var configuration = Worker.Configuration()
  configuration.capacity = 2
  do {
    let worker = try Worker("full", configuration: configuration)
    let tasks = (0..<100).map { number in
      Task(executorPreference: worker.taskExecutor) { try await worker.run { number } }
    }
    var sum = 0
    for task in tasks { sum += try await task.value }
    checks.expect(sum == 4950, "a hundred callers of a ring of two")

    let held = Task(executorPreference: worker.taskExecutor) { try await worker.run {} }
    held.cancel()
    switch await held.result {
    case .success: checks.expect(true, "it ran before it could be cancelled")
    case .failure(let error): checks.expect(error is CancellationError, "a cancelled task leaves")
    }
    await worker.close(.discard)
  } catch {
    checks.expect(false, "a full ring: \(error)")
  }
}

/// A cache that looks after itself, and is not kept alive by that.
private func useRepetition(_ checks: Checks) async {
  final class Cache: Sendable {
    let worker: Worker
    init() throws {
      worker = try Worker("cache")
      try worker.every(.milliseconds(1), weakly: self) { cache in _ = cache.worker.isCurrent }
    }
  }
  do {
    var cache: Cache? = try Cache()
    weak let observed = cache
    try await cache?.worker.run {}
    cache = nil
    checks.expect(observed == nil, "what repeats does not keep its owner")
  } catch {
    checks.expect(false, "a repetition: \(error)")
  }
}
