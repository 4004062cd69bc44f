// The handle: open, execute, query, close, let go.

import CSQLite
import Foundation
import Lanyard
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct DatabaseTests {
  // MARK: Opening

  @Test func `a file is opened with a WAL, full synchronisation and foreign keys`() async throws {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      #expect(try await database.values("PRAGMA journal_mode") == ["wal"])
      #expect(try await database.values("PRAGMA synchronous") == [2])
      #expect(try await database.values("PRAGMA foreign_keys") == [1])
      #expect(FileManager.default.fileExists(atPath: path))
      try await database.close()
    }
  }

  @Test(arguments: ["", "/nowhere/at/all/x.db", "/", "tcp://127.0.0.1:4444"])
  func `what cannot be opened is an error that says what can`(path: String) async throws {
    let error = try await #require(throws: DatabaseError.self) { _ = try await Database.open(path) }
    #expect(error.code == .cannotOpen)
    #expect("\(error)".contains(":memory:"))
  }

  @Test func `an address that is not understood does not show its password`() async throws {
    let error = try await #require(throws: DatabaseError.self) {
      _ = try await Database.open("postgres://me:secret@127.0.0.1/db")
    }
    #expect(!"\(error)".contains("secret"))
  }

  @Test func `a file that is no database is not touched`() async throws {
    try await withDatabaseFile { path in
      let text = String(repeating: "this is a text, no database\n", count: 100)
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      await #expect(throws: DatabaseError.self) { _ = try await Database.open(path) }
      #expect(try String(contentsOfFile: path, encoding: .utf8) == text)
    }
  }

  // MARK: Statements

  @Test func `a write says what it changed and which row it inserted`() async throws {
    let database = try await Database.open(":memory:")
    let created = try await database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    #expect(created == Database.Effect(changes: 0, lastInsertID: nil))
    let inserted = try await database.execute("INSERT INTO t VALUES (41, 'a'), (42, 'b')")
    #expect(inserted == Database.Effect(changes: 2, lastInsertID: 42))
    let updated = try await database.execute("UPDATE t SET v = 'c'")
    #expect(updated == Database.Effect(changes: 2, lastInsertID: nil))
    let ignored = try await database.execute("INSERT OR IGNORE INTO t VALUES (41, 'z')")
    #expect(ignored == Database.Effect(changes: 0, lastInsertID: nil))
    let read = try await database.execute("SELECT * FROM t")
    #expect(read == Database.Effect(changes: 0, lastInsertID: nil))
    let rows = try await database.query("DELETE FROM t RETURNING id")
    #expect(try rows.map { try $0.value("id", as: Int.self) }.sorted() == [41, 42])
  }

  @Test func `an error carries its codes, the engine's words and the SQL without its values`()
    async throws
  {
    let database = try await Database.open(":memory:")
    try await database.execute("CREATE TABLE t (v TEXT UNIQUE)")
    try await database.execute("INSERT INTO t VALUES (\("secret"))")
    let error = try await #require(throws: DatabaseError.self) {
      try await database.execute("INSERT INTO t VALUES (\("secret"))")
    }
    #expect(error.code == .constraint)
    #expect(error.engineCode == SQLITE_CONSTRAINT)
    #expect(error.extendedCode == 2067)
    #expect(error.message == "UNIQUE constraint failed: t.v")
    #expect(error.sql == "INSERT INTO t VALUES (?)")
    #expect(!"\(error)".contains("secret"))
  }

  @Test(arguments: [
    ("", "no statement"), ("  -- only a comment", "no statement"),
    ("SELECT 1; SELECT 2", "more than one"), ("SELECT 1; COMMIT", "more than one"),
    ("SELECT 1; PRAGMA foreign_keys = OFF", "more than one"),
    ("SELEC 1", "syntax error"), ("SELECT * FROM missing", "no such table"),
    ("SELECT ?", "1 places for values and got 0"),
  ])
  func `a statement that is wrong is an error that says how`(text: String, expected: String)
    async throws
  {
    let database = try await Database.open(":memory:")
    let error = try await #require(throws: DatabaseError.self) {
      try await database.execute(SQL(unsafeRaw: text))
    }
    #expect(error.code == .statement)
    #expect("\(error)".contains(expected))
    #expect(try await database.values("PRAGMA foreign_keys") == [1])
  }

  @Test func `a zero byte in a path or a statement is an error`() async throws {
    await #expect(throws: DatabaseError.self) { _ = try await Database.open("x\0y") }
    let database = try await Database.open(":memory:")
    await #expect(throws: DatabaseError.self) { try await database.execute("SELECT 1\0") }
    await #expect(throws: DatabaseError.self) { try await database.execute("SELECT 1\0; SELECT 2") }
  }

  @Test func `blanks, semicolons and comments may follow a statement`() async throws {
    let database = try await Database.open(":memory:")
    #expect(try await database.values("SELECT 1 ; \n -- the end\n /* really */ ;") == [1])
    #expect(try await database.values("SELECT 2 /* open") == [2])
  }

  @Test(arguments: [
    "BEGIN", "BEGIN IMMEDIATE", "COMMIT", "END", "ROLLBACK", "SAVEPOINT s", "RELEASE s",
    "ROLLBACK TO s",
    "PRAGMA journal_mode = DELETE", "PRAGMA synchronous = OFF", "pragma main.synchronous(0)",
  ])
  func `a statement that would end a shared transaction or its durability is refused`(text: String)
    async throws
  {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      let error = try await #require(throws: DatabaseError.self) {
        try await database.execute(SQL(unsafeRaw: text))
      }
      #expect(error.code == .refused)
      #expect(try await database.values("PRAGMA synchronous") == [2])
      #expect(try await database.values("PRAGMA journal_mode") == ["wal"])
      try await database.close()
    }
  }

  @Test func `statements that run alone do`() async throws {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      try await database.execute("CREATE TABLE t (v)")
      try await database.execute("VACUUM")
      try await database.execute("ANALYZE")
      try await database.execute("PRAGMA user_version = 7")
      #expect(try await database.values("PRAGMA user_version") == [7])
      try await database.execute("PRAGMA foreign_keys = OFF")
      #expect(try await database.values("PRAGMA foreign_keys") == [0])
      try await database.execute("ATTACH ':memory:' AS other")
      try await database.execute("CREATE TABLE other.t (v)")
      try await database.execute("DETACH other")
      #expect(try await database.query("EXPLAIN SELECT * FROM t").isEmpty == false)
      try await database.close()
    }
  }

  @Test func `a query sees a changed schema`() async throws {
    let database = try await Database.open(":memory:")
    try await database.execute("CREATE TABLE t (a)")
    try await database.execute("INSERT INTO t VALUES (1)")
    #expect(try await database.query("SELECT * FROM t")[0].columns == ["a"])
    try await database.execute("ALTER TABLE t ADD COLUMN b DEFAULT 2")
    let row = try await database.query("SELECT * FROM t")[0]
    #expect(row.columns == ["a", "b"])
    #expect(row.values == [.integer(1), .integer(2)])
  }

  // MARK: Cancellation

  @Test func `a statement that is cancelled before it starts leaves at once and never runs`()
    async throws
  {
    let database = try await Database.open(":memory:")
    try await database.execute("CREATE TABLE t (v)")
    let gate = await database.holdingWriter()
    let tasks = (0..<10).map { number in
      Task { try await database.execute("INSERT INTO t VALUES (\(number))") }
    }
    await until { database.waiting == 10 }
    for number in stride(from: 0, to: 10, by: 2) {
      tasks[number].cancel()
      await #expect(throws: CancellationError.self) { try await tasks[number].value }
    }
    gate.open()
    for number in stride(from: 1, to: 10, by: 2) { _ = try await tasks[number].value }
    #expect(try await database.values("SELECT v FROM t ORDER BY v") == [1, 3, 5, 7, 9])
  }

  @Test func `a task that was cancelled before sends nothing`() async throws {
    let database = try await Database.open(":memory:")
    let before = database.statistics.statements
    let task = Task {
      await until { Task.isCancelled }
      try await database.execute("CREATE TABLE t (v)")
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(try await database.values("SELECT count(*) FROM sqlite_schema") == [0])
    #expect(database.statistics.statements == before + 1)
  }

  @Test func `cancellations race the writer, each statement is answered once and says the truth`()
    async throws
  {
    let database = try await Database.open(":memory:")
    try await database.execute("CREATE TABLE t (v INTEGER PRIMARY KEY)")
    let rounds = scaled(100)
    let written = try await withThrowingTaskGroup(of: [Int].self) { group in
      for racer in 0..<20 {
        group.addTask {
          var written: [Int] = []
          for round in 0..<rounds {
            let number = racer * rounds + round
            let task = Task { try await database.execute("INSERT INTO t VALUES (\(number))") }
            for _ in 0..<((racer + round) % 5) { await Task.yield() }
            task.cancel()
            do {
              _ = try await task.value
              written.append(number)
            } catch is CancellationError {}
          }
          return written
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
    #expect(try await database.values("SELECT v FROM t ORDER BY v") == written.sorted())
  }

  // MARK: Closing, letting go

  @Test func `a database that is opened again has what was written`() async throws {
    try await withDatabaseFile { path in
      let first = try await Database.open(path)
      try await first.execute("CREATE TABLE t (v)")
      try await first.execute("INSERT INTO t VALUES ('kept')")
      try await first.close()
      let second = try await Database.open(path)
      #expect(try await second.values("SELECT v FROM t") == ["kept"])
      try await second.close()
    }
  }

  @Test func `close may be called again and by many, and the connection is gone afterwards`()
    async throws
  {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      try await database.execute("CREATE TABLE t (v)")
      #expect(FileManager.default.fileExists(atPath: path + "-wal"))
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<20 {
          group.addTask {
            try await database.close()
            // SQLite removes it when the last connection closes, so it did.
            #expect(!FileManager.default.fileExists(atPath: path + "-wal"))
          }
        }
        try await group.waitForAll()
      }
      try await database.close()
      let error = try await #require(throws: DatabaseError.self) {
        try await database.execute("SELECT 1")
      }
      #expect(error.code == .closed)
    }
  }

  @Test func `close finishes what was accepted`() async throws {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      try await database.execute("CREATE TABLE t (v)")
      let gate = await database.holdingWriter()
      let tasks = (0..<100).map { number in
        Task { try await database.execute("INSERT INTO t VALUES (\(number))") }
      }
      await until { database.waiting == 100 }
      async let closed: Void = database.close()
      await until { database.engine.writer.isClosed }
      gate.open()
      for task in tasks { _ = try await task.value }
      try await closed
    }
  }

  @Test func `closes race writers: what was acknowledged is there, the rest heard of the close`()
    async throws
  {
    for round in 0..<scaled(30) {
      try await withDatabaseFile { path in
        let database = try await Database.open(path)
        try await database.execute("CREATE TABLE t (v)")
        let acknowledged = try await withThrowingTaskGroup(of: Int.self) { group in
          for writer in 0..<16 {
            group.addTask {
              var acknowledged = 0
              do {
                while true {
                  try await database.execute("INSERT INTO t VALUES (\(writer))")
                  acknowledged += 1
                }
              } catch let error as DatabaseError where error.code == .closed {
                return acknowledged
              }
            }
          }
          group.addTask {
            for _ in 0..<(round * 20) { await Task.yield() }
            try await database.close()
            return 0
          }
          return try await group.reduce(0, +)
        }
        let again = try await Database.open(path)
        #expect(try await again.values("SELECT count(*) FROM t") == [acknowledged])
        try await again.close()
      }
    }
  }

  @Test func `letting go closes the connection and ends the thread`() async throws {
    try await withDatabaseFile { path in
      do {
        let database = try await Database.open(path)
        try await database.execute("CREATE TABLE t (v)")
        #expect(FileManager.default.fileExists(atPath: path + "-wal"))
      }
      // In a task letting go waits for a moment only, and what it began may end later.
      await until { !FileManager.default.fileExists(atPath: path + "-wal") }
    }
  }

  @Test func `a thousand opens and closes leave no worker, thread or file open`() async throws {
    try await withDatabaseFile { path in
      for round in 0..<scaled(1000) {
        let database = try await Database.open(path, line: 1_000_000)
        if round % 100 == 0 { try await database.execute("CREATE TABLE IF NOT EXISTS t (v)") }
        if round % 2 == 0 { try await database.close() }
      }
      await until {
        joinForAMoment()
        return !Worker.live.contains { $0.line == 1_000_000 }
      }
      #expect(openFiles(path) == 0)
    }
  }
}
