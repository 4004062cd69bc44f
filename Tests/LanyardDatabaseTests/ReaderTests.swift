// Queries on the readers' threads: what they see, and where a statement goes that is no query.

import Lanyard
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct ReaderTests {
  private func withTable(
    readers: Int, _ body: (Database) async throws -> Void
  ) async throws {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.readers = readers
      let database = try await Database.open(path, configuration: configuration)
      try await database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
      try await body(database)
      try await database.close()
    }
  }

  @Test(arguments: [1, 2, 4])
  func `a query sees every write that was acknowledged before it was sent`(readers: Int)
    async throws
  {
    try await withTable(readers: readers) { database in
      let rounds = scaled(100)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for caller in 0..<32 {
          group.addTask {
            for round in 0..<rounds {
              try await database.execute(
                "INSERT OR REPLACE INTO t VALUES (\(caller), \(round))")
              let seen = try await database.query(
                "SELECT v FROM t WHERE id = \(caller)", as: Int.self)
              try #require(seen == [round])
            }
          }
        }
        try await group.waitForAll()
      }
    }
  }

  @Test(arguments: [
    "INSERT INTO t VALUES (7, 'x') RETURNING id", "  insert into t values (7, 'x') returning id",
    "WITH n AS (SELECT 7 AS i) INSERT INTO t SELECT i, 'x' FROM n RETURNING id",
    "/* SELECT */ INSERT INTO t VALUES (7, 'x') RETURNING id",
  ])
  func `a statement that writes and returns goes to the writer, once`(sql: String) async throws {
    try await withTable(readers: 2) { database in
      let returned = try await database.query(SQL(unsafeRaw: sql), as: Int.self)
      #expect(returned == [7])
      let count = try await database.query("SELECT count(*) FROM t", as: Int.self)
      #expect(count == [1])
    }
  }

  @Test func `temporary tables are found, and wrong names are not`() async throws {
    try await withTable(readers: 2) { database in
      try await database.execute("CREATE TEMP TABLE mine (v)")
      try await database.execute("INSERT INTO mine VALUES (1)")
      let values = try await database.query("SELECT v FROM mine", as: Int.self)
      #expect(values == [1])
      let error = await databaseError { _ = try await database.query("SELECT * FROM yours") }
      #expect(error?.code == .statement)
      #expect(error?.message.contains("yours") == true)
    }
  }

  @Test func `readers see a schema that changes`() async throws {
    try await withTable(readers: 2) { database in
      try await database.execute("INSERT INTO t VALUES (1, 'a')")
      for round in 0..<scaled(50) {
        for _ in 0..<4 {
          let row = try await database.query("SELECT * FROM t")[0]
          try #require(row.count == 2 + round)
        }
        try await database.execute("ALTER TABLE t ADD COLUMN \(identifier: "c\(round)")")
      }
    }
  }

  @Test func `reads go on while a write takes long`() async throws {
    try await withTable(readers: 1) { database in
      let gate = await database.holdingWriter()
      for _ in 0..<100 {
        let count = try await database.query("SELECT count(*) FROM t", as: Int.self)
        try #require(count == [0])
      }
      gate.open()
    }
  }

  @Test func `closes race reads: each is answered, or hears of the close`() async throws {
    for _ in 0..<scaled(30) {
      try await withDatabaseFile { path in
        let database = try await Database.open(path)
        try await database.execute("CREATE TABLE t (v)")
        try await withThrowingTaskGroup(of: Void.self) { group in
          for _ in 0..<8 {
            group.addTask {
              let error = await databaseError {
                while true {
                  let count = try await database.query("SELECT count(*) FROM t", as: Int.self)
                  try #require(count == [0])
                }
              }
              try #require(error?.code == .closed)
            }
          }
          await Task.yield()
          try await database.close()
          try await group.waitForAll()
        }
      }
    }
  }

  @Test func `more callers than the rings have room for wait their turn`() async throws {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.capacity = 2
      configuration.readers = 1
      let database = try await Database.open(path, configuration: configuration)
      try await database.execute("CREATE TABLE t (v INTEGER PRIMARY KEY)")
      try await withThrowingTaskGroup(of: Void.self) { group in
        for value in 0..<200 {
          group.addTask {
            try await database.execute("INSERT INTO t VALUES (\(value))")
            let seen = try await database.query("SELECT v FROM t WHERE v = \(value)", as: Int.self)
            try #require(seen == [value])
          }
        }
        try await group.waitForAll()
      }
      try await database.close()
    }
  }

  @Test func `reads that wait together see one state, and those that come later a newer one`()
    async throws
  {
    try await withTable(readers: 1) { database in
      try await database.execute("INSERT INTO t VALUES (1, NULL)")
      let first = Gate()
      let holding = Task { try await database.read { _ in first.pass() } }
      await first.arrived()
      // These are one batch. Its first one takes the view.
      let second = Gate()
      let looking = Task {
        try await database.read { connection in
          let count = try connection.query("SELECT count(*) FROM t", as: Int.self)[0]
          second.pass()
          return count
        }
      }
      await until { database.engine.reads == 2 }
      let waiting = (0..<10).map { _ in
        Task { try await database.query("SELECT count(*) FROM t", as: Int.self)[0] }
      }
      await until { database.engine.reads == 12 }
      // `reads` counts those who are about to send, too.
      let failing = Task { try await database.query("SELECT abs(-9223372036854775808)") }
      await until { database.engine.reads == 13 && depth(of: "lanyard-reader") >= 12 }
      first.open()
      await second.arrived()
      try await database.execute("INSERT INTO t VALUES (2, NULL)")
      let later = Task { try await database.query("SELECT count(*) FROM t", as: Int.self)[0] }
      second.open()
      try await holding.value
      #expect(try await looking.value == 1)
      for task in waiting { #expect(try await task.value == 1) }
      await #expect(throws: DatabaseError.self) { try await failing.value }
      #expect(try await later.value == 2)
    }
  }

  /// The most that waits for one of the loops of that name.
  private func depth(of name: String) -> Int {
    Worker.live.filter { $0.name == name }.map(\.depth).max() ?? 0
  }

  @Test func `what a query wrote is seen by others and is there after the close`() async throws {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      let observer = try await Database.open(path)
      try await database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
      for number in 1...scaled(20) {
        let commits = database.statistics.commits
        let sql: SQL =
          number % 2 == 0
          ? "INSERT INTO t VALUES (\(number)) RETURNING id"
          : "WITH n(i) AS (VALUES (\(number))) INSERT INTO t SELECT i FROM n RETURNING id"
        #expect(try await database.query(sql, as: Int.self) == [number])
        #expect(database.statistics.commits == commits + 1)
        #expect(try await observer.query("SELECT max(id) FROM t", as: Int.self) == [number])
      }
      try await observer.close()
      try await database.close()
    }
  }

  @Test func `close finishes the reads that were accepted`() async throws {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.readers = 1
      let database = try await Database.open(path, configuration: configuration, line: 3_000_000)
      let gate = Gate()
      let held = Task { try await database.read { _ in gate.pass() } }
      await gate.arrived()
      let reads = (0..<50).map { number in
        Task { try await database.query("SELECT \(number)", as: Int.self) }
      }
      await until {
        Worker.live.contains { $0.line == 3_000_000 && $0.depth == reads.count }
      }
      async let closed: Void = database.close()
      await until { Worker.live.contains { $0.line == 3_000_000 && $0.isClosed } }
      gate.open()
      try await held.value
      for (number, read) in reads.enumerated() { #expect(try await read.value == [number]) }
      try await closed
      #expect(openFiles(path) == 0)
    }
  }

  @Test func `opens and closes with reads in flight leave no thread and no file`() async throws {
    try await withDatabaseFile { path in
      for round in 0..<scaled(200) {
        let database = try await Database.open(path, line: 4_000_000)
        let reads = (0..<6).map { _ in Task { try await database.query("SELECT 1") } }
        for _ in 0..<(round % 7) { await Task.yield() }
        if round % 2 == 0 { try await database.close() }
        for read in reads {
          if case .failure(let error) = await read.result {
            #expect((error as? DatabaseError)?.code == .closed)
          }
        }
      }
      await until {
        joinForAMoment()
        return !Worker.live.contains { $0.line == 4_000_000 }
      }
      #expect(openFiles(path) == 0)
    }
  }

  @Test func `no reader has a connection before it is needed, and a failing query costs none`()
    async throws
  {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.readers = 8
      let database = try await Database.open(path, configuration: configuration)
      try await database.execute("CREATE TABLE t (v)")
      let alone = openFiles(path)
      for _ in 0..<100 { _ = try await database.query("SELECT * FROM t") }
      let one = openFiles(path)
      #expect(one > alone)
      #expect(one <= alone + 2, "one after the other, they need one reader")
      for _ in 0..<100 {
        _ = try? await database.query("SELECT * FROM missing")
        _ = try? await database.query("SELECT abs(-9223372036854775808)")
      }
      #expect(openFiles(path) == one)
      try await database.close()
      #expect(openFiles(path) == 0)
    }
  }
}
