// Statements that share a transaction, and the ways in which one could harm its neighbours.

import CSQLite
import Dispatch
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct GroupCommitTests {
  /// Groups end when nobody waits, so that a slow machine does not divide them.
  private func open(members: Int = 1024, time: Duration = .seconds(3600)) async throws -> Database {
    var configuration = Database.Configuration()
    configuration.batchLimit = members
    configuration.batchTime = time
    return try await Database.open(":memory:", configuration: configuration)
  }

  private func database(members: Int = 1024, time: Duration = .seconds(3600)) async throws
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
    #expect(database.statistics.reruns == 2 + 4, "those before each of the two")
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
      var configuration = Database.Configuration()
      configuration.busyTimeout = .milliseconds(20)
      let database = try await Database.open(path, configuration: configuration)
      try await database.execute("CREATE TABLE t (v)")

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
}
