// Closures on the engine's threads: `write` in a transaction that others share, `read`, and `exclusive`.

import LanyardTestSupport
import Testing

@testable import LanyardDatabase

private struct Mine: Error, Equatable {
  let number: Int
}

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct ClosureTests {
  private func withTable(_ body: (Database) async throws -> Void) async throws {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.batchTime = .seconds(3600)
      let database = try await Database.open(path, configuration: configuration)
      try await database.execute("CREATE TABLE t (v INTEGER PRIMARY KEY)")
      try await body(database)
      try await database.close()
    }
  }

  private func together(
    on database: Database, _ requests: [@Sendable (Database) async throws -> Void]
  ) async -> [(any Error)?] {
    await database.together(requests).map { result in
      guard case .failure(let error) = result else { return nil }
      return error
    }
  }

  @Test func `a write is all or nothing, and its value and its error arrive as themselves`()
    async throws
  {
    try await withTable { database in
      let sum = try await database.write { connection in
        for value in 1...10 { try connection.execute("INSERT INTO t VALUES (\(value))") }
        return try connection.query("SELECT sum(v) FROM t", as: Int.self)[0]
      }
      #expect(sum == 55)
      let error = await #expect(throws: Mine.self) {
        try await database.write { connection in
          try connection.execute("DELETE FROM t")
          throw Mine(number: 7)
        }
      }
      #expect(error == Mine(number: 7))
      let count = try await database.query("SELECT count(*) FROM t", as: Int.self)
      #expect(count == [10])
    }
  }

  @Test func `closures and statements that wait together share one commit, each for itself`()
    async throws
  {
    try await withTable { database in
      let before = database.statistics.commits
      let errors = await together(
        on: database,
        [
          { try await $0.execute("INSERT INTO t VALUES (1)") },
          { try await $0.write { _ = try $0.execute("INSERT INTO t VALUES (2)") } },
          {
            try await $0.write { connection in
              try connection.execute("INSERT INTO t VALUES (3)")
              throw Mine(number: 3)
            }
          },
          { try await $0.write { _ = try $0.execute("INSERT INTO t VALUES (1)") } },
          { try await $0.execute("INSERT INTO t VALUES (4)") },
        ])
      #expect(errors.map { $0 == nil } == [true, true, false, false, true])
      #expect(errors[2] as? Mine == Mine(number: 3))
      #expect((errors[3] as? DatabaseError)?.code == .constraint)
      #expect(database.statistics.commits == before + 1)
      let values = try await database.query("SELECT v FROM t ORDER BY v", as: Int.self)
      #expect(values == [1, 2, 4])
    }
  }

  @Test func `a closure that loses its transaction to a neighbour runs again, with one effect`()
    async throws
  {
    try await withTable { database in
      let counter = Counter()
      let errors = await together(
        on: database,
        [
          {
            try await $0.write { connection in
              counter.increment()
              try connection.execute("INSERT INTO t SELECT coalesce(max(v), 0) + 1 FROM t")
            }
          },
          { try await $0.execute("INSERT OR ROLLBACK INTO t VALUES (5), (5)") },
          { try await $0.execute("INSERT INTO t VALUES (9)") },
        ])
      #expect(errors.map { $0 == nil } == [true, false, true])
      #expect(counter.value == 2)
      #expect(database.statistics.reruns == 1)
      let values = try await database.query("SELECT v FROM t ORDER BY v", as: Int.self)
      #expect(values == [1, 9])
    }
  }

  @Test func `a statement that failed may be swallowed, an undone transaction may not`()
    async throws
  {
    try await withTable { database in
      try await database.write { connection in
        try connection.execute("INSERT INTO t VALUES (1)")
        do {
          try connection.execute("INSERT INTO t VALUES (2), (1)")
        } catch {
          try connection.execute("INSERT INTO t VALUES (3)")
        }
      }
      let error = await databaseError {
        try await database.write { connection in
          try connection.execute("INSERT INTO t VALUES (10)")
          _ = try? connection.execute("INSERT OR ROLLBACK INTO t VALUES (1)")
          // SQLite would commit these by themselves.
          _ = try? connection.execute("INSERT INTO t VALUES (11)")
          _ = try? connection.savepoint { try $0.execute("INSERT INTO t VALUES (12)") }
          _ = try? connection.query("SELECT 1")
        }
      }
      #expect(error?.code == .transactionLost)
      let values = try await database.query("SELECT v FROM t ORDER BY v", as: Int.self)
      #expect(values == [1, 3])
    }
  }

  @Test(arguments: [false, true])
  func `savepoints nest, and undo what is theirs`(isExclusive: Bool) async throws {
    try await withTable { database in
      let body: @Sendable (borrowing Connection) throws -> Int = { connection in
        try connection.savepoint { outer in
          try outer.execute("INSERT INTO t VALUES (1)")
          #expect(throws: Mine.self) {
            try outer.savepoint { inner in
              try inner.execute("INSERT INTO t VALUES (2)")
              try inner.savepoint { _ = try $0.execute("INSERT INTO t VALUES (3)") }
              throw Mine(number: 0)
            }
          }
          try outer.savepoint { _ = try $0.execute("INSERT INTO t VALUES (4)") }
        }
        return try connection.query("SELECT count(*) FROM t", as: Int.self)[0]
      }
      let count =
        isExclusive
        ? try await database.exclusive(body) : try await database.write(body)
      #expect(count == 2)
      let values = try await database.query("SELECT v FROM t ORDER BY v", as: Int.self)
      #expect(values == [1, 4])
    }
  }

  @Test func `a transaction can change the schema, and undo that too`() async throws {
    try await withTable { database in
      try await database.write { connection in
        try connection.execute("CREATE TABLE u (v)")
        try connection.execute("INSERT INTO u VALUES (1)")
      }
      _ = try? await database.write { connection in
        try connection.execute("DROP TABLE u")
        throw Mine(number: 1)
      }
      let values = try await database.query("SELECT v FROM u", as: Int.self)
      #expect(values == [1])
    }
  }

  @Test(arguments: [
    "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "RELEASE lanyard_member",
    "ATTACH ':memory:' AS o", "PRAGMA foreign_keys = OFF", "PRAGMA synchronous = OFF",
    "PRAGMA journal_mode = DELETE",
  ])
  func `what would end a transaction or be lost in it is refused there`(sql: String) async throws {
    try await withTable { database in
      for isWrite in [true, false] {
        let body: @Sendable (borrowing Connection) throws -> Void = { connection in
          try connection.execute(SQL(unsafeRaw: sql))
        }
        let error = await databaseError {
          if isWrite { try await database.write(body) } else { try await database.read(body) }
        }
        #expect(error?.code == .refused, "\(sql)")
      }
      try await database.write { _ = try $0.execute("INSERT INTO t VALUES (1)") }
    }
  }

  @Test func `exclusive runs what no transaction can hold`() async throws {
    try await withTable { database in
      try await database.exclusive { connection in
        try connection.execute("VACUUM")
        try connection.execute("ATTACH ':memory:' AS other")
        try connection.execute("CREATE TABLE other.u (v)")
        try connection.execute("PRAGMA foreign_keys = OFF")
        #expect(try connection.query("PRAGMA foreign_keys", as: Int.self) == [0])
        try connection.execute("PRAGMA foreign_keys = ON")
      }
      for sql: SQL in ["PRAGMA synchronous = OFF", "PRAGMA journal_mode = DELETE", "BEGIN"] {
        let error = await databaseError {
          try await database.exclusive { _ = try $0.execute(sql) }
        }
        #expect(error?.code == .refused)
      }
      try await database.execute("INSERT INTO u VALUES (1)")
      let values = try await database.query("SELECT v FROM u", as: Int.self)
      #expect(values == [1], "what only the writer has is found by queries too")
    }
  }

  @Test func `what exclusive did before it threw stays`() async throws {
    try await withTable { database in
      await #expect(throws: Mine.self) {
        try await database.exclusive { connection in
          try connection.execute("INSERT INTO t VALUES (1)")
          throw Mine(number: 1)
        }
      }
      let values = try await database.query("SELECT v FROM t", as: Int.self)
      #expect(values == [1])
    }
  }

  @Test func `a read sees one state, and cannot write`() async throws {
    try await withTable { database in
      try await database.execute("INSERT INTO t VALUES (1)")
      let gate = Gate()
      let counts = Task {
        try await database.read { connection in
          let before = try connection.query("SELECT count(*) FROM t", as: Int.self)[0]
          gate.pass()
          return try [before, connection.query("SELECT count(*) FROM t", as: Int.self)[0]]
        }
      }
      await gate.arrived()
      try await database.execute("INSERT INTO t VALUES (2)")
      gate.open()
      let seen = try await counts.value
      #expect(seen == [1, 1])
      for sql: SQL in ["INSERT INTO t VALUES (3)", "CREATE TABLE u (v)", "PRAGMA user_version = 3"]
      {
        let error = await databaseError { try await database.read { _ = try $0.execute(sql) } }
        #expect(error?.code == .refused, "\(sql)")
      }
      let values = try await database.query("SELECT v FROM t", as: Int.self)
      #expect(values == [1, 2])
    }
  }

  @Test func `a broken deferred foreign key fails its own closure`() async throws {
    try await withTable { database in
      try await database.execute(
        "CREATE TABLE child (v REFERENCES t(v) DEFERRABLE INITIALLY DEFERRED)")
      let errors = await together(
        on: database,
        [
          { try await $0.write { _ = try $0.execute("INSERT INTO child VALUES (7)") } },
          {
            try await $0.write { connection in
              try connection.execute("INSERT INTO child VALUES (8)")
              try connection.execute("INSERT INTO t VALUES (8)")
            }
          },
        ])
      #expect((errors[0] as? DatabaseError)?.extendedCode == 787)
      #expect(errors[1] == nil)
    }
  }

  @Test func `a closure that swallowed the loss of its transaction takes nobody with it`()
    async throws
  {
    try await withTable { database in
      let runs = Counter()
      let errors = await together(
        on: database,
        [
          { try await $0.write { _ = try $0.execute("INSERT INTO t VALUES (1)") } },
          {
            try await $0.write { connection in
              runs.increment()
              try connection.execute("INSERT INTO t VALUES (2)")
              try? connection.savepoint {
                _ = try $0.execute("INSERT OR ROLLBACK INTO t VALUES (2)")
              }
              _ = try? connection.execute("INSERT INTO t VALUES (3)")
            }
          },
          { try await $0.execute("INSERT INTO t VALUES (4)") },
        ])
      #expect(errors.map { ($0 as? DatabaseError)?.code } == [nil, .transactionLost, nil])
      #expect(runs.value == 1)
      let values = try await database.query("SELECT v FROM t ORDER BY v", as: Int.self)
      #expect(values == [1, 4])
    }
  }

  @Test func `a closure's own error after the loss of its transaction arrives as itself`()
    async throws
  {
    try await withTable { database in
      let error = await #expect(throws: Mine.self) {
        try await database.write { connection in
          try connection.execute("INSERT INTO t VALUES (1)")
          _ = try? connection.execute("INSERT OR ROLLBACK INTO t VALUES (1)")
          throw Mine(number: 5)
        }
      }
      #expect(error == Mine(number: 5))
      let count = try await database.query("SELECT count(*) FROM t", as: Int.self)
      #expect(count == [0])
    }
  }

  @Test func `after an undone savepoint of exclusive, which was a transaction, it goes on`()
    async throws
  {
    try await withTable { database in
      try await database.exclusive { connection in
        try connection.execute("INSERT INTO t VALUES (1)")
        let error = #expect(throws: DatabaseError.self) {
          try connection.savepoint { connection in
            try connection.execute("INSERT INTO t VALUES (2)")
            _ = try? connection.execute("INSERT OR ROLLBACK INTO t VALUES (1)")
            _ = try? connection.execute("INSERT INTO t VALUES (3)")
          }
        }
        #expect(error?.code == .transactionLost)
        try connection.execute("INSERT INTO t VALUES (4)")
        try connection.savepoint { _ = try $0.execute("INSERT INTO t VALUES (5)") }
      }
      let values = try await database.query("SELECT v FROM t ORDER BY v", as: Int.self)
      #expect(values == [1, 4, 5])
    }
  }

  @Test func `a savepoint of exclusive that breaks a deferred foreign key is undone`()
    async throws
  {
    try await withTable { database in
      try await database.execute(
        "CREATE TABLE child (v REFERENCES t(v) DEFERRABLE INITIALLY DEFERRED)")
      try await database.exclusive { connection in
        let error = #expect(throws: DatabaseError.self) {
          try connection.savepoint { _ = try $0.execute("INSERT INTO child VALUES (7)") }
        }
        #expect(error?.extendedCode == 787)
        try connection.execute("INSERT INTO t VALUES (1)")
      }
      #expect(try await database.query("SELECT v FROM child", as: Int.self) == [])
      #expect(try await database.query("SELECT v FROM t", as: Int.self) == [1])
    }
  }

  @Test(arguments: ["VACUUM", "VACUUM INTO '/nowhere/at/all.db'", "DETACH main"])
  func `what only exclusive can do is refused elsewhere, with that advice`(sql: String) async throws
  {
    try await withTable { database in
      let body: @Sendable (borrowing Connection) throws -> Void = { connection in
        try connection.execute(SQL(unsafeRaw: sql))
      }
      let ofWrite = await databaseError { try await database.write(body) }
      #expect(ofWrite?.code == .refused)
      #expect(ofWrite?.advice.contains("exclusive") == true)
      let ofRead = await databaseError { try await database.read(body) }
      #expect(ofRead?.code == .refused)
    }
  }

  @Test func `what only looks may be asked in every closure`() async throws {
    try await withTable { database in
      let looks: [SQL] = [
        "EXPLAIN DELETE FROM t", "EXPLAIN QUERY PLAN DELETE FROM t WHERE v = 1",
        "PRAGMA table_info(t)", "PRAGMA user_version", "SELECT * FROM pragma_table_info('t')",
        "VALUES (1)",
      ]
      let body: @Sendable (borrowing Connection) throws -> Void = { connection in
        for sql in looks {
          let rows = try connection.query(sql)
          #expect(!rows.isEmpty, "\(sql.text)")
        }
      }
      try await database.write(body)
      try await database.read(body)
      try await database.exclusive(body)
      #expect(try await database.query("SELECT count(*) FROM t", as: Int.self) == [0])
    }
  }

  private struct Item: Decodable, Equatable, Sendable {
    let id: Int
    let name: String?
  }

  @Test func `closures get rows, tuples, values and properties, in memory too`() async throws {
    let database = try await Database.open(":memory:")
    let body: @Sendable (borrowing Connection) throws -> Int = { connection in
      let sql: SQL = "SELECT 1 AS id, NULL AS name UNION ALL SELECT 2, 'b' ORDER BY id"
      let rows = try connection.query(sql)
      #expect(rows.map { $0[0] } == [.integer(1), .integer(2)])
      let pairs = try connection.query(sql, as: (Int, String?).self)
      #expect(pairs.map(\.1) == [nil, "b"])
      let items = try connection.query(sql, as: Item.self)
      #expect(items == [Item(id: 1, name: nil), Item(id: 2, name: "b")])
      return items.count
    }
    let counts = [
      try await database.write(body), try await database.read(body),
      try await database.exclusive(body),
    ]
    #expect(counts == [2, 2, 2])
    let error = await databaseError {
      try await database.read { _ = try $0.execute("CREATE TABLE t (v)") }
    }
    #expect(error?.code == .refused)
    try await database.close()
  }

  @Test func `after close every closure hears of it, and none runs`() async throws {
    let database = try await Database.open(":memory:")
    try await database.close()
    let runs = Counter()
    let errors = [
      await databaseError { try await database.write { _ in runs.increment() } },
      await databaseError { try await database.read { _ in runs.increment() } },
      await databaseError { try await database.exclusive { _ in runs.increment() } },
    ]
    #expect(errors.map(\.?.code) == [.closed, .closed, .closed])
    #expect(runs.value == 0)
  }

  @Test func `a closure may insert by the row that it inserted last`() async throws {
    try await withTable { database in
      try await database.execute("CREATE TABLE child (id INTEGER PRIMARY KEY, t REFERENCES t(v))")
      let effects = try await database.write { connection in
        [
          try connection.execute("INSERT INTO t VALUES (1)"),
          try connection.execute("INSERT OR IGNORE INTO t VALUES (1)"),
          try connection.execute("UPDATE t SET v = v"),
          try connection.execute("INSERT INTO child (t) VALUES (last_insert_rowid())"),
          try connection.execute("INSERT INTO t VALUES (9)"),
          try connection.execute("UPDATE child SET t = last_insert_rowid()"),
          try connection.execute("DELETE FROM t WHERE v = last_insert_rowid() - 8"),
        ]
      }
      #expect(effects.map(\.lastInsertID) == [1, nil, nil, 1, 9, nil, nil])
      #expect(try await database.query("SELECT t FROM child", as: Int.self) == [9])
      #expect(try await database.query("SELECT v FROM t", as: Int.self) == [9])
    }
  }
}
