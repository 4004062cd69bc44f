// What the tests of this target share: a folder of their own, and a writer that is held.

import Dispatch
import Foundation
import Lanyard
import Testing

@testable import LanyardDatabase

/// Joins the threads of the library when the process of the tests ends: what asynchronous closes leave to
/// be joined later would be a leaked thread there.
struct JoinsAtExit: SuiteTrait {
  // A global's initializer runs once, whoever comes first.
  private static let registered: Void = {
    atexit { _ = Worker.quiesce(within: .seconds(10)) }
  }()

  func prepare(for test: Test) async throws {
    Self.registered
  }
}

extension Trait where Self == JoinsAtExit {
  static var joinsAtExit: Self { Self() }
}

/// Runs a test with the path of a file that does not exist yet, in a folder that goes afterwards.
func withDatabaseFile<Result>(_ body: (String) async throws -> Result) async throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appending(path: "lanyard-\(UUID())")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try await body(folder.appending(path: "test.db").path)
}

extension Database {
  /// Sends statements so that they wait while the writer is held, in this order, and then go together.
  ///
  /// Returns what became of each.
  func together(_ statements: [SQL]) async throws -> [Result<Effect, any Error>] {
    let opened = DispatchSemaphore(value: 0)
    try engine.worker.submit { opened.wait() }
    var tasks: [Task<Effect, any Error>] = []
    for statement in statements {
      tasks.append(Task { try await self.execute(statement) })
      await until { self.engine.group.backlog.count == tasks.count }
    }
    opened.signal()
    var results: [Result<Effect, any Error>] = []
    for task in tasks { results.append(await task.result) }
    return results
  }

  /// The first column of every row.
  func values<T: ValueConvertible>(_ sql: SQL, as type: T.Type = T.self) async throws -> [T] {
    try await query(sql).map { try $0.value(at: 0, as: T.self) }
  }
}

/// Waits for something that another thread or task brings about. The suite's time limit ends it.
func until(_ condition: () -> Bool) async {
  while !condition() { await Task.yield() }
}

/// The error in a result that should be one.
func code(_ result: Result<Database.Effect, any Error>) -> DatabaseError.Code? {
  guard case .failure(let error) = result else { return nil }
  return (error as? DatabaseError)?.code
}

/// A small generator that gives the same numbers for the same seed.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
