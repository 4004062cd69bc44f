// What the tests of this target share: a file of their own, and a writer that is held.

import Foundation
import LanyardTestSupport
public import Testing

@testable import LanyardDatabase

/// Runs a test with the path of a file that does not exist yet, in a folder that goes afterwards.
func withDatabaseFile<Result>(_ body: (String) async throws -> Result) async throws -> Result {
  try await withFolder { try await body($0.appending(path: "test.db").path) }
}

extension Database {
  /// Sends statements so that they wait while the writer is held, in this order, and then go together.
  ///
  /// Returns what became of each.
  func together(_ statements: [SQL]) async throws -> [Result<Effect, any Error>] {
    let gate = try await Gate.holding(engine.worker)
    var tasks: [Task<Effect, any Error>] = []
    for statement in statements {
      tasks.append(Task { try await self.execute(statement) })
      await until { self.engine.group.backlog.count == tasks.count }
    }
    gate.open()
    var results: [Result<Effect, any Error>] = []
    for task in tasks { results.append(await task.result) }
    return results
  }

  /// The first column of every row.
  func values<T: ValueConvertible>(_ sql: SQL, as type: T.Type = T.self) async throws -> [T] {
    try await query(sql).map { try $0.value(at: 0, as: T.self) }
  }
}

/// The error in a result that should be one.
func code(_ result: Result<Database.Effect, any Error>) -> DatabaseError.Code? {
  guard case .failure(let error) = result else { return nil }
  return (error as? DatabaseError)?.code
}

extension Value: CustomTestStringConvertible {
  /// As an argument of a test, which is printed: without a long value's every byte.
  var testDescription: String {
    switch self {
    case .text(let text) where text.utf8.count > 40: "text of \(text.utf8.count) bytes"
    case .blob(let bytes) where bytes.count > 40: "blob of \(bytes.count) bytes"
    default: "\(self)"
    }
  }
}
