// Many small requests of one type, served in batches.

import Lanyard
import Synchronization

func useRequestLoop(_ checks: Checks) async throws {
  let sum = Sum()
  var configuration = Worker.Configuration()
  configuration.capacity = 64
  let loop = try RequestLoop<Int>("adder", configuration: configuration) { batch in
    while let number = batch.next() { sum.add(number) }
  }
  for number in 1...10_000 { try await loop.send(number) }
  await loop.close()

  let statistics = loop.statistics
  checks.expect(statistics.completed == 10_000, "ten thousand requests")
  checks.expect(sum.value == 50_005_000, "each once")
  checks.expect(statistics.batches <= 10_000, "in \(statistics.batches) batches")
  await checks.expect(.closed, "a request after close") { try loop.trySend(1) }
}

private final class Sum: Sendable {
  private let atomic = Atomic<Int>(0)

  var value: Int { atomic.load(ordering: .relaxed) }

  func add(_ number: Int) {
    atomic.add(number, ordering: .relaxed)
  }
}
