// Many small requests of one type, served in batches.

import Lanyard
import Synchronization

func useRequestLoop(_ checks: Checks) async throws {
  let sum = Atomic<Int>(0)
  let batches = Atomic<Int>(0)
  try await withLoop(adding: { sum.add($0, ordering: .relaxed) }) { loop in
    for number in 1...10_000 { try await loop.send(number) }
    await loop.close()
    let statistics = loop.statistics
    batches.store(Int(statistics.batches), ordering: .relaxed)
    checks.expect(statistics.completed == 10_000, "ten thousand requests")
    await checks.expect(.closed, "a request after close") { try loop.trySend(1) }
  }
  checks.expect(sum.load(ordering: .relaxed) == 50_005_000, "each once")
  checks.expect(batches.load(ordering: .relaxed) <= 10_000, "in batches")
}

private func withLoop(
  adding add: @escaping @Sendable (Int) -> Void, _ body: (RequestLoop<Int>) async throws -> Void
) async throws {
  var configuration = Worker.Configuration()
  configuration.capacity = 64
  let loop = try RequestLoop<Int>("adder", configuration: configuration) { batch in
    while let number = batch.next() { add(number) }
  }
  try await body(loop)
}
