// The oracle: the same requests, each alone and in order, on a database of their own. Answers and tables must
// be the same, whatever shared a transaction.
//
// LANYARD_TEST_SEED runs one seed, which a failure names.

import Foundation
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(
  .timeLimit(.native(minutes: 4)), .joinsAtExit,
  .enabled(if: !isUnder(.memcheck), "what shares a transaction, not memory, is its subject"))
struct OracleTests {
  private static let seeds: [UInt64] =
    ProcessInfo.processInfo.environment["LANYARD_TEST_SEED"].flatMap(UInt64.init).map { [$0] }
    ?? Array(0..<20)

  private struct Mine: Error, Equatable {
    let number: Int
  }

  /// What a request is told.
  private enum Told: Equatable {
    case effect(Database.Effect)
    case rows([Row])
    case count(Int)
    case error(DatabaseError)
    case mine(Int)
    case other(String)
  }

  private typealias Request = @Sendable (Database) async throws -> Told

  private static let schema: [SQL] = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY, v CHECK (v <> 13))",
    "CREATE TABLE child (v REFERENCES t(id) DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE strict (v REFERENCES t(id) ON DELETE CASCADE, w UNIQUE)",
    "CREATE TABLE log (n)",
    """
    CREATE TRIGGER r AFTER INSERT ON t BEGIN
      INSERT INTO log VALUES (NEW.id);
      SELECT CASE NEW.v WHEN 17 THEN RAISE(ROLLBACK, 'seventeen') WHEN 18 THEN RAISE(ABORT, 'eighteen')
        WHEN 19 THEN RAISE(FAIL, 'nineteen') WHEN 20 THEN RAISE(IGNORE) END;
    END
    """,
  ]

  private static func statement(_ random: inout SplitMix) -> SQL {
    let value = Int.random(in: 0..<30, using: &random)
    let other = Int.random(in: 0..<30, using: &random)
    return switch Int.random(in: 0..<24, using: &random) {
    case 0...3: "INSERT INTO t VALUES (\(value), \(other))"
    case 4: "INSERT OR REPLACE INTO t VALUES (\(value), \(other))"
    case 5: "INSERT OR FAIL INTO t VALUES (\(value), 1), (\(other), 2), (\(value), 3)"
    case 6: "INSERT OR ROLLBACK INTO t VALUES (\(value), 1), (\(other), 2)"
    case 7: "UPDATE t SET v = \(value) WHERE id = \(other)"
    case 8: "UPDATE OR IGNORE t SET id = \(value) WHERE v < \(other)"
    case 9: "DELETE FROM t WHERE id = \(value)"
    case 10, 11: "INSERT INTO child VALUES (\(value))"
    case 12: "INSERT INTO t SELECT id + 100 + \(value), v FROM t WHERE id < \(other)"
    case 13: "INSERT INTO strict VALUES (\(value), \(other))"
    case 14: "INSERT INTO t VALUES (\(value), \(other)) ON CONFLICT (id) DO UPDATE SET v = v + 1"
    case 15: "INSERT INTO log SELECT count(*) FROM t"
    case 16: "DELETE FROM child WHERE v = \(value)"
    case 17: "COMMIT"
    case 18: "PRAGMA user_version = \(unsafeRaw: "\(value)")"
    case 19: "SELECT abs(-9223372036854775808 + \(value % 2))"
    case 20: "INSERT INTO missing VALUES (\(value))"
    case 21: "DELETE FROM t WHERE id >= 100"
    case 22: "INSERT INTO u\(unsafeRaw: "\(value % 3)") VALUES (\(other))"
    default: "CREATE TABLE IF NOT EXISTS u\(unsafeRaw: "\(value % 3)") (v)"
    }
  }

  private static func request(_ random: inout SplitMix) -> Request {
    let number = Int.random(in: 0..<30, using: &random)
    let statements = (0..<Int.random(in: 1...4, using: &random)).map { _ in statement(&random) }
    switch Int.random(in: 0..<10, using: &random) {
    case 0:  // swallows what fails
      return { database in
        try await database.write { connection in
          var done = 0
          for sql in statements {
            do {
              try connection.execute(sql)
              done += 1
            } catch {
              continue
            }
          }
          return .count(done)
        }
      }
    case 1:  // passes on what fails
      return { database in
        try await database.write { connection in
          for sql in statements { try connection.execute(sql) }
          return .count(statements.count)
        }
      }
    case 2:  // fails by itself
      return { database in
        try await database.write { connection in
          for sql in statements { _ = try? connection.execute(sql) }
          throw Mine(number: number)
        }
      }
    case 3:  // undoes a part
      return { database in
        try await database.write { connection in
          try connection.execute("INSERT INTO log VALUES (\(number))")
          var isDone = true
          do {
            try connection.savepoint { inner in
              for sql in statements { try inner.execute(sql) }
              if number % 3 == 0 { throw Mine(number: number) }
            }
          } catch {
            isDone = false
          }
          return .rows(try connection.query("SELECT \(isDone), count(*), sum(id) FROM t"))
        }
      }
    case 4:
      return { .rows(try await $0.query("INSERT INTO t VALUES (\(number), 1) RETURNING id, v")) }
    default:
      let sql = statements[0]
      return { .effect(try await $0.execute(sql)) }
    }
  }

  private static func told(_ result: Result<Told, any Error>) -> Told {
    switch result {
    case .success(let told): told
    case .failure(let error as DatabaseError): .error(error)
    case .failure(let error as Mine): .mine(error.number)
    case .failure(let error): .other("\(error)")
    }
  }

  @Test(arguments: seeds)
  func `a group does what its members do one by one`(seed: UInt64) async throws {
    var random = SplitMix(seed: seed)
    var configuration = Database.Configuration()
    configuration.batchTime = .seconds(3600)
    let grouped = try await Database.open(":memory:", configuration: configuration)
    let oracle = try await Database.open(":memory:")
    for sql in Self.schema {
      try await grouped.execute(sql)
      try await oracle.execute(sql)
    }
    let batches = scaled(500)
    for batch in 0..<batches {
      let requests = (0..<Int.random(in: 2...12, using: &random)).map { _ in Self.request(&random) }
      let results = await grouped.together(requests).map(Self.told)
      for (number, request) in requests.enumerated() {
        let alone: Result<Told, any Error>
        do { alone = .success(try await request(oracle)) } catch { alone = .failure(error) }
        try #require(
          results[number] == Self.told(alone), "seed \(seed), batch \(batch), request \(number)")
      }
      let tables = try await grouped.query(
        "SELECT name FROM sqlite_schema WHERE type = 'table'", as: String.self)
      for table in tables {
        let sql: SQL = "SELECT rowid, * FROM \(identifier: table) ORDER BY rowid"
        let rows = try await (grouped.query(sql), oracle.query(sql))
        try #require(rows.0 == rows.1, "seed \(seed), batch \(batch), table \(table)")
      }
      let versions = try await (
        grouped.query("PRAGMA user_version"), oracle.query("PRAGMA user_version")
      )
      try #require(versions.0 == versions.1)
    }
    #expect(grouped.statistics.commits < oracle.statistics.commits, "some shared a commit")
    if batches >= 100 {  // of a few it may be none
      #expect(grouped.statistics.reruns > 0, "some lost a transaction")
    }
    try await grouped.close()
    try await oracle.close()
  }
}
