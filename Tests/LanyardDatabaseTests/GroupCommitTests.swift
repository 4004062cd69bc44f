// Statements that share a transaction, and the ways in which one could harm its neighbours.

import CSQLite
import Dispatch
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct GroupCommitTests {
  /// Groups end when nobody waits, so that a slow machine does not divide them.
  private func open(members: Int = .max, time: Duration = .seconds(3600)) async throws -> Database {
    Database(
      try await SQLiteEngine.open(
        ":memory:", limits: GroupCommit.Limits(members: members, time: time)))
  }

  private func database(members: Int = .max, time: Duration = .seconds(3600)) async throws
    -> Database
  {
    let database = try await open(members: members, time: time)
    try await database.execute("CREATE TABLE t (v INTEGER PRIMARY KEY)")
    return database
  }

  private func commits(of database: Database, _ body: () async throws -> Void) async throws -> Int {
    let before = database.statistics.commits
    try await body()
    return database.statistics.commits - before
  }

  @Test func `statements that wait together share one commit, and each says what it did`()
    async throws
  {
    let database = try await database()
    let commits = try await commits(of: database) {
      let results = try await database.together((1...100).map { "INSERT INTO t VALUES (\($0))" })
      for (number, result) in zip(1..., results) {
        #expect(try result.get() == Database.Effect(changes: 1, lastInsertID: Int64(number)))
      }
    }
    #expect(commits == 1)
    #expect(try await database.values("SELECT count(*) FROM t") == [100])
  }

  @Test(arguments: [1, 2, 10, 99])
  func `a group ends at its number of members`(limit: Int) async throws {
    let database = try await database(members: limit)
    let commits = try await commits(of: database) {
      let results = try await database.together((1...100).map { "INSERT INTO t VALUES (\($0))" })
      for result in results { _ = try result.get() }
    }
    #expect(commits == (100 + limit - 1) / limit)
  }

  @Test func `a group ends at its time`() async throws {
    let database = try await database(time: .zero)
    let commits = try await commits(of: database) {
      let results = try await database.together((1...10).map { "INSERT INTO t VALUES (\($0))" })
      for result in results { _ = try result.get() }
    }
    #expect(commits == 10)
  }

  @Test func `a statement that comes alone is a commit of its own`() async throws {
    let database = try await database()
    let commits = try await commits(of: database) {
      for number in 1...10 { try await database.execute("INSERT INTO t VALUES (\(number))") }
    }
    #expect(commits == 10)
  }

  @Test func `a failing statement fails alone`() async throws {
    let database = try await database()
    let commits = try await commits(of: database) {
      let results = try await database.together([
        "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)", "INSERT INTO missing VALUES (1)",
        "INSERT INTO t VALUES (2), (1)", "INSERT INTO t VALUES (3)",
      ])
      #expect(results.map(code) == [nil, .constraint, .statement, .constraint, nil])
    }
    #expect(commits == 1)
    #expect(try await database.values("SELECT v FROM t ORDER BY v") == [1, 3])
  }

  @Test func `a statement that rolls everything back has not undone its neighbours`() async throws {
    let database = try await database()
    try await database.execute(
      "CREATE TRIGGER r BEFORE INSERT ON t WHEN NEW.v = 13 BEGIN SELECT RAISE(ROLLBACK, 'thirteen'); END"
    )
    let results = try await database.together([
      "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)",
      "INSERT OR ROLLBACK INTO t VALUES (1)",
      "INSERT INTO t VALUES (3)", "INSERT INTO t VALUES (4)", "INSERT INTO t VALUES (13)",
      "INSERT INTO t VALUES (5)",
    ])
    #expect(results.map(code) == [nil, nil, .constraint, nil, nil, .constraint, nil])
    #expect(try await database.values("SELECT v FROM t ORDER BY v") == [1, 2, 3, 4, 5])
    #expect(database.statistics.reruns == 4)
  }

  @Test func `OR FAIL keeps the rows before the failure, as it does alone`() async throws {
    let database = try await database()
    let results = try await database.together([
      "INSERT INTO t VALUES (1)", "INSERT OR FAIL INTO t VALUES (2), (1), (3)",
      "INSERT INTO t VALUES (4)",
    ])
    #expect(results.map(code) == [nil, .constraint, nil])
    #expect(try await database.values("SELECT v FROM t ORDER BY v") == [1, 2, 4])
  }

  @Test
  func `a broken deferred foreign key is told to the one who broke it, and nobody can repair it`()
    async throws
  {
    let database = try await database()
    try await database.execute(
      "CREATE TABLE child (v REFERENCES t(v) DEFERRABLE INITIALLY DEFERRED)")
    let results = try await database.together([
      "INSERT INTO t VALUES (1)", "INSERT INTO child VALUES (7)", "INSERT INTO t VALUES (7)",
      "INSERT INTO child VALUES (1)",
    ])
    #expect(results.map(code) == [nil, .constraint, nil, nil])
    guard case .failure(let error as DatabaseError) = results[1] else { return }
    #expect(error.extendedCode == 787)
    #expect(try await database.values("SELECT v FROM child") == [1])
    #expect(try await database.values("SELECT v FROM t ORDER BY v") == [1, 7])
  }

  @Test func `a database without room refuses the large and takes the small`() async throws {
    let database = try await open()
    try await database.execute("CREATE TABLE t (v)")
    let pages = try await database.values("PRAGMA page_count", as: Int.self)[0]
    try await database.execute("PRAGMA max_page_count = \(unsafeRaw: "\(pages + 2)")")
    let large = Array(repeating: 1 as UInt8, count: 1_000_000)
    let results = try await database.together([
      "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (\(large))", "INSERT INTO t VALUES (2)",
    ])
    #expect(results.map(code) == [nil, .full, nil])
    #expect(try await database.values("SELECT v FROM t ORDER BY v") == [1, 2])
  }

  @Test func `transaction control in a group is refused and does not end it`() async throws {
    let database = try await database()
    let commits = try await commits(of: database) {
      let results = try await database.together([
        "INSERT INTO t VALUES (1)", "COMMIT", "INSERT INTO t VALUES (2)", "ROLLBACK",
        "RELEASE lanyard_member", "INSERT INTO t VALUES (3)",
      ])
      #expect(results.map(code) == [nil, .refused, nil, .refused, .refused, nil])
    }
    #expect(commits == 1)
    #expect(try await database.values("SELECT v FROM t ORDER BY v") == [1, 2, 3])
  }

  @Test func `a statement that must run alone does, between two groups`() async throws {
    let database = try await database()
    let results = try await database.together([
      "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)", "PRAGMA foreign_keys = OFF",
      "CREATE TABLE u (v)", "INSERT INTO u VALUES (1)", "INSERT INTO t VALUES (3)", "VACUUM",
      "INSERT INTO t VALUES (4)",
    ])
    #expect(results.map(code) == Array(repeating: nil, count: 8))
    #expect(try await database.values("PRAGMA foreign_keys") == [0])
    #expect(try await database.values("SELECT v FROM t ORDER BY v") == [1, 2, 3, 4])
  }

  @Test func `what a group does is seen outside only after it was acknowledged, and then at once`()
    async throws
  {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      let observer = try await Database.open(path)
      try await database.execute("CREATE TABLE t (v)")
      try await withThrowingTaskGroup(of: Void.self) { group in
        for writer in 0..<16 {
          group.addTask {
            for round in 0..<10 {
              let value = writer * 100 + round
              try await database.execute("INSERT INTO t VALUES (\(value))")
              #expect(try await observer.values("SELECT v FROM t WHERE v = \(value)") == [value])
            }
          }
        }
        try await group.waitForAll()
      }
      let statistics = database.statistics
      #expect(statistics.statements == 161)
      #expect(statistics.commits < 161, "some shared a commit")
      try await observer.close()
      try await database.close()
    }
  }

  @Test func `while someone else writes, a group hears that the database is busy, readers do not`()
    async throws
  {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      try await database.execute("CREATE TABLE t (v)")
      try await database.execute("PRAGMA busy_timeout = 20")

      var other: OpaquePointer?
      #expect(sqlite3_open(path, &other) == SQLITE_OK)
      defer { sqlite3_close(other) }
      #expect(sqlite3_exec(other, "BEGIN IMMEDIATE", nil, nil, nil) == SQLITE_OK)
      let results = try await database.together([
        "INSERT INTO t VALUES (1)", "SELECT * FROM t", "INSERT INTO t VALUES (2)",
        "SELECT * FROM missing",
      ])
      #expect(results.map(code) == [.busy, nil, .busy, .statement])
      #expect(sqlite3_exec(other, "COMMIT", nil, nil, nil) == SQLITE_OK)

      try await database.execute("INSERT INTO t VALUES (3)")
      #expect(try await database.values("SELECT v FROM t") == [3])
      try await database.close()
    }
  }

  // The oracle: the same statements, one by one. Answers and tables must be the same, whatever was grouped.
  @Test(arguments: 0..<20 as Range<UInt64>)
  func `a group does what its statements do one by one`(seed: UInt64) async throws {
    var random = SplitMix(seed: seed)
    func statement() -> SQL {
      let value = Int.random(in: 0..<30, using: &random)
      let other = Int.random(in: 0..<30, using: &random)
      return switch Int.random(in: 0..<14, using: &random) {
      case 0...3: "INSERT INTO t VALUES (\(value), \(other))"
      case 4: "INSERT OR REPLACE INTO t VALUES (\(value), \(other))"
      case 5: "INSERT OR FAIL INTO t VALUES (\(value), 1), (\(other), 2), (\(value), 3)"
      case 6: "INSERT OR ROLLBACK INTO t VALUES (\(value), 1), (\(other), 2)"
      case 7: "UPDATE t SET v = \(value) WHERE id = \(other)"
      case 8: "UPDATE OR IGNORE t SET id = \(value) WHERE v < \(other)"
      case 9: "DELETE FROM t WHERE id = \(value)"
      case 10: "INSERT INTO child VALUES (\(value))"
      case 11: "INSERT INTO t SELECT id + 100 + \(value), v FROM t WHERE id < \(other)"
      case 12: "COMMIT"
      default: "CREATE TABLE IF NOT EXISTS u\(unsafeRaw: "\(value % 3)") (v)"
      }
    }
    let schema: [SQL] = [
      "CREATE TABLE t (id INTEGER PRIMARY KEY, v CHECK (v <> 13))",
      "CREATE TABLE child (v REFERENCES t(id) DEFERRABLE INITIALLY DEFERRED)",
      "CREATE TRIGGER r AFTER INSERT ON t WHEN NEW.v = 17 BEGIN SELECT RAISE(ROLLBACK, 'seventeen'); END",
    ]
    let grouped = try await open()
    let oracle = try await Database.open(":memory:")
    for sql in schema {
      try await grouped.execute(sql)
      try await oracle.execute(sql)
    }
    for _ in 0..<scaled(5) {
      let statements = (0..<40).map { _ in statement() }
      let results = try await grouped.together(statements)
      for (sql, result) in zip(statements, results) {
        let expected: Result<Database.Effect, any Error>
        do { expected = .success(try await oracle.execute(sql)) } catch {
          expected = .failure(error)
        }
        switch (result, expected) {
        case (.success(let effect), .success(let expected)):
          #expect(effect == expected, "\(sql) \(sql.values)")
        case (.failure(let error as DatabaseError), .failure(let expected as DatabaseError)):
          #expect(error == expected, "\(sql) \(sql.values)")
        default:
          Issue.record("\(sql) \(sql.values): \(result) in the group, \(expected) alone")
        }
      }
      for table in ["t", "child"] {
        let rows = try await grouped.query("SELECT * FROM \(identifier: table) ORDER BY 1")
        #expect(try await rows == oracle.query("SELECT * FROM \(identifier: table) ORDER BY 1"))
      }
    }
    #expect(grouped.statistics.commits < oracle.statistics.commits)
  }
}
