// Counts what held.

import Foundation
import Lanyard
import Synchronization

final class Checks: Sendable {
  private let passed = Atomic<Int>(0)
  private let failed = Atomic<Int>(0)

  func expect(_ holds: Bool, _ text: String) {
    print(holds ? "ok      \(text)" : "FAILED  \(text)")
    if holds {
      passed.add(1, ordering: .relaxed)
    } else {
      failed.add(1, ordering: .relaxed)
    }
  }

  func expect(_ code: WorkerError.Code, _ text: String, _ body: () async throws -> Void) async {
    do {
      try await body()
      expect(false, "\(text): nothing was thrown")
    } catch let error as WorkerError {
      expect(error.code == code, "\(text): \(error)")
    } catch {
      expect(false, "\(text): \(error)")
    }
  }

  func run(_ name: String, _ body: (Checks) async throws -> Void) async {
    print("\(name):")
    do {
      try await body(self)
    } catch {
      expect(false, "\(name): \(error)")
    }
  }

  /// Prints the figures and ends the process: with 0 if all held.
  func finish() -> Never {
    let failures = failed.load(ordering: .relaxed)
    print("\(passed.load(ordering: .relaxed)) passed, \(failures) failed")
    exit(failures == 0 ? 0 : 1)
  }
}
