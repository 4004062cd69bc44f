// What the tests of this target share: a file of their own, and a writer that is held.

import Foundation
import Lanyard
import LanyardTestSupport
public import Testing

@testable import LanyardDatabase

/// Runs a test with the path of a file that does not exist yet, in a folder that goes afterwards.
func withDatabaseFile<Result>(_ body: (String) async throws -> Result) async throws -> Result {
  try await withFolder { try await body($0.appending(path: "test.db").path) }
}

/// How many of this process's open files are the database's.
func openFiles(_ path: String) -> Int {
  let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
  return names.count {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)"))?
      .hasPrefix(path) ?? false
  }
}

extension Database {
  /// Keeps the writer's thread from serving until the gate is opened.
  func holdingWriter() async -> Gate {
    let gate = Gate()
    Task { try await exclusive { _ in gate.pass() } }
    await gate.arrived()
    return gate
  }

  /// How many requests wait for the writer.
  var waiting: Int { engine.writer.statistics.depth }

  /// Sends requests so that they wait while the writer is held, in this order, and then go together.
  ///
  /// Returns what became of each.
  func together<Answer: Sendable>(
    _ requests: [@Sendable (Database) async throws -> Answer]
  ) async -> [Result<Answer, any Error>] {
    let gate = await holdingWriter()
    var tasks: [Task<Answer, any Error>] = []
    for request in requests {
      tasks.append(Task { try await request(self) })
      await until { self.waiting == tasks.count }
    }
    gate.open()
    var results: [Result<Answer, any Error>] = []
    for task in tasks { results.append(await task.result) }
    return results
  }

  func together(_ statements: [SQL]) async throws -> [Result<Effect, any Error>] {
    await together(statements.map { sql in { try await $0.execute(sql) } })
  }

  /// The first column of every row.
  func values<T: ValueConvertible>(_ sql: SQL, as type: T.Type = T.self) async throws -> [T] {
    try await query(sql).map { try $0.value(at: 0, as: T.self) }
  }
}

/// The database's error that a closure throws; nil if it throws none, or another.
func databaseError(_ body: () async throws -> Void) async -> DatabaseError? {
  do {
    try await body()
    return nil
  } catch {
    return error as? DatabaseError
  }
}

extension Task where Success == Never, Failure == Never {
  /// The error of a closure that runs in the calling task, which is cancelled first and stays so.
  static func cancelled(_ body: () async throws -> Void) async -> (any Error)? {
    withUnsafeCurrentTask { $0?.cancel() }
    do {
      try await body()
      return nil
    } catch {
      return error
    }
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
