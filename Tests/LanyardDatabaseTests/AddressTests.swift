// Which database an address means, and what is said of one that means none.

import CSQLite
import Foundation
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 1)), .joinsAtExit)
struct AddressTests {
  @Test(
    arguments: [
      (":memory:", .memory), ("sqlite::memory:", .memory), ("app.db", .file("app.db")),
      ("/a/b.db", .file("/a/b.db")), ("sqlite:app.db", .file("app.db")),
      ("sqlite:///a/b.db", .file("/a/b.db")), ("SQLITE:x", .file("x")), ("file:x", .file("x")),
      ("//a/b.db", .file("//a/b.db")), ("./tcp:x", .file("./tcp:x")), ("a b?c#d", .file("a b?c#d")),
    ] as [(String, DatabaseAddress)])
  func `addresses of files and of memory`(address: String, meaning: DatabaseAddress) throws {
    #expect(try DatabaseAddress(address, name: "") == meaning)
  }

  @Test func `a folder and a name are a file`() async throws {
    try await withFolder { folder in
      let database = try await Database.open(folder.path, name: "people")
      try await database.execute("CREATE TABLE t (v)")
      try await database.close()
      #expect(FileManager.default.fileExists(atPath: folder.appending(path: "people.db").path))
      for name in ["", "..", "a/b", "."] {
        let error = await databaseError { _ = try await Database.open(folder.path, name: name) }
        #expect(error?.code == .cannotOpen)
      }
    }
  }

  @Test(arguments: [
    ("", "empty"), ("sqlite:", "names no file"), ("tcp://127.0.0.1:1", "tcp:"),
    ("postgres://me:secret@host/db", "postgres:"), ("mysql:x", "mysql:"), ("a\u{0}b", "zero byte"),
    ("/nowhere/at/all.db", "/nowhere/at/all.db"),
  ])
  func `what is wrong with an address is said, and what would be right`(
    address: String, words: String
  )
    async throws
  {
    let error = await databaseError { _ = try await Database.open(address) }
    #expect(error?.code == .cannotOpen)
    #expect(error?.message.contains(words) == true, "\(String(describing: error))")
    #expect(error?.advice.contains(":memory:") == true)
    #expect(error.map { !"\($0)".contains("secret") } == true)
  }

  @Test func `a file that another connection holds is busy, and is opened when it is free`()
    async throws
  {
    try await withDatabaseFile { path in
      var other: OpaquePointer?
      #expect(sqlite3_open(path, &other) == SQLITE_OK)
      #expect(
        sqlite3_exec(
          other, "PRAGMA locking_mode = EXCLUSIVE; CREATE TABLE t (v); INSERT INTO t VALUES (1)",
          nil,
          nil, nil) == SQLITE_OK)
      var configuration = Database.Configuration()
      configuration.busyTimeout = .milliseconds(20)
      let error = await databaseError {
        _ = try await Database.open(path, configuration: configuration)
      }
      #expect(error?.code == .busy)
      #expect(error?.advice.contains("another process") == true)
      #expect(sqlite3_close(other) == SQLITE_OK)
      let database = try await Database.open(path)
      let values = try await database.query("SELECT v FROM t", as: Int.self)
      #expect(values == [1])
      try await database.close()
    }
  }

  @Test func `a damaged file says that it is no database`() async throws {
    try await withDatabaseFile { path in
      try Data(repeating: 7, count: 4096).write(to: URL(fileURLWithPath: path))
      let error = await databaseError { _ = try await Database.open(path) }
      #expect(error?.code == .cannotOpen)
      #expect(error?.advice.contains("something else") == true)
      #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == Data(repeating: 7, count: 4096))
    }
  }

  @Test func `a configuration out of range says which number and what range`() async throws {
    let changes: [(String, @Sendable (inout Database.Configuration) -> Void)] = [
      ("readers", { $0.readers = 0 }), ("readers", { $0.readers = 100_000 }),
      ("statementCache", { $0.statementCache = 0 }), ("capacity", { $0.capacity = 1 }),
      ("capacity", { $0.capacity = .max }), ("batchLimit", { $0.batchLimit = 0 }),
      ("busyTimeout", { $0.busyTimeout = .seconds(-1) }),
      ("batchTime", { $0.batchTime = .seconds(-1) }),
    ]
    for (name, change) in changes {
      var configuration = Database.Configuration()
      change(&configuration)
      let error = await databaseError {
        _ = try await Database.open(":memory:", configuration: configuration)
      }
      #expect(error?.code == .invalid)
      #expect(error?.message.contains(name) == true)
    }
  }

  @Test(arguments: [(Database.Durability.full, 2), (.normal, 1)])
  func `durability is what was asked for, read back`(durability: Database.Durability, level: Int)
    async throws
  {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.durability = durability
      let database = try await Database.open(path, configuration: configuration)
      let found = try await database.query("PRAGMA synchronous", as: Int.self)
      #expect(found == [level])
      try await database.close()
    }
  }

  @Test func `a folder may end with a slash, and what is no file is said`() async throws {
    try await withFolder { folder in
      let database = try await Database.open(folder.path + "/", name: "people")
      try await database.close()
      let databases = ["people.db", "empty"].map { folder.appending(path: $0).path }
      #expect(FileManager.default.fileExists(atPath: databases[0]))

      // A folder where the file should be, a file where the folder should be, a folder that is missing.
      let inTheWay = folder.appending(path: "way.db")
      try FileManager.default.createDirectory(at: inTheWay, withIntermediateDirectories: false)
      for (address, name) in [
        (folder.path, "way"), (databases[0] + "/x", ""), (folder.path + "/missing/", "x"),
        (folder.path + "/missing/x.db", ""), (folder.path, "a\u{0}b"),
      ] {
        let error = await databaseError { _ = try await Database.open(address, name: name) }
        #expect(error?.code == .cannotOpen, "\(address) \(name)")
        #expect(error?.advice.contains(":memory:") == true, "\(address) \(name)")
      }
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == [
          "people.db", "way.db",
        ], "nothing was made")
    }
  }

  @Test func `an empty file becomes a database, and a name beside a file is unused`() async throws {
    try await withDatabaseFile { path in
      #expect(FileManager.default.createFile(atPath: path, contents: nil))
      let database = try await Database.open(path, name: "unused")
      try await database.execute("CREATE TABLE t (v)")
      try await database.close()
      let again = try await Database.open("sqlite://" + path)
      #expect(try await again.query("SELECT count(*) FROM t", as: Int.self) == [0])
      try await again.close()
    }
  }

  @Test func `a database that is cut off says that it is damaged or no database`() async throws {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      try await database.execute("CREATE TABLE t AS SELECT zeroblob(100000) AS v")
      try await database.close()
      let whole = try Data(contentsOf: URL(fileURLWithPath: path))
      try (whole.prefix(50) + Data(repeating: 0xff, count: 50) + whole.dropFirst(100))
        .write(to: URL(fileURLWithPath: path))
      let error = await databaseError { _ = try await Database.open(path) }
      #expect(error?.code == .cannotOpen)
      #expect(error?.message.contains(path) == true)
      #expect(openFiles(path) == 0)
    }
  }

  @Test(.enabled(if: geteuid() != 0, "root may write every file"))
  func `a file that cannot be written says so, and who should be let write it`() async throws {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      try await database.execute("CREATE TABLE t (v)")
      try await database.close()
      try FileManager.default.setAttributes([.posixPermissions: 0o444], ofItemAtPath: path)
      let error = await databaseError { _ = try await Database.open(path) }
      #expect(error?.code == .cannotOpen)
      #expect(error?.advice.contains("let this user write") == true)
    }
  }

  @Test func `waiting for who holds the file is over when he lets go`() async throws {
    try await withDatabaseFile { path in
      let other = try PlainSQLite(path)
      try other.rows("CREATE TABLE t (v)")
      try other.rows("BEGIN EXCLUSIVE")
      // By a thread of its own: in the pool it could wait behind the opening, and behind other tests for longer
      // than the opening is ready to wait.
      nonisolated(unsafe) let holder = other
      let ending = Notes<String>()
      Thread.detachNewThread {
        usleep(50_000)
        #expect(throws: Never.self) { try holder.rows("COMMIT") }
        ending.add(currentThread())
      }
      var configuration = Database.Configuration()
      configuration.busyTimeout = .seconds(3600)  // the thread may be slow to run
      let database = try await Database.open(path, configuration: configuration)
      try await database.execute("INSERT INTO t VALUES (1)")
      try await database.close()
      // A thread that is about to end when the process does counts as a leak.
      await until { ending.all.contains { !threadExists($0) } }
    }
  }
}
