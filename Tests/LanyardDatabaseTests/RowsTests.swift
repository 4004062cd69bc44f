// Streams of rows: complete, bounded, of one state, and over when the caller leaves.

import Foundation
import Lanyard
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct RowsTests {
  private struct Numbered: Decodable, Sendable {
    let id: Int
    let v: String?
  }

  /// A file with a table of so many rows, read by one reader.
  private func withTable(
    of rows: Int, readers: Int = 1, _ body: (Database) async throws -> Void
  ) async throws {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.readers = readers
      let database = try await Database.open(path, configuration: configuration)
      try await database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
      try await database.execute(
        """
        INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT \(rows))
        SELECT i, 'row ' || i FROM n
        """)
      try await body(database)
      try await database.close()
    }
  }

  /// Whether the WAL can be emptied: no reader keeps a state of the database.
  private func isReleased(_ database: Database) async throws -> Bool {
    try await database.exclusive { connection in
      try connection.query("PRAGMA wal_checkpoint(TRUNCATE)")[0].value(at: 0, as: Int.self)
    } == 0
  }

  @Test func `every row comes once and in order, as rows, tuples, values and properties`()
    async throws
  {
    let count = scaled(100_000)
    try await withTable(of: count) { database in
      var next = 1
      for try await row in database.rows("SELECT id, v FROM t ORDER BY id") {
        try #require(row[0] == .integer(Int64(next)))
        next += 1
      }
      #expect(next == count + 1)
      next = 1
      for try await (id, v) in database.rows(
        "SELECT id, v FROM t ORDER BY id", as: (Int, String).self)
      {
        try #require(id == next && v == "row \(id)")
        next += 1
      }
      #expect(next == count + 1)
      next = 1
      for try await id in database.rows("SELECT id FROM t ORDER BY id", as: Int.self) {
        try #require(id == next)
        next += 1
      }
      #expect(next == count + 1)
      next = 1
      for try await one in database.rows("SELECT * FROM t ORDER BY id", as: Numbered.self) {
        try #require(one.id == next && one.v == "row \(next)")
        next += 1
      }
      #expect(next == count + 1)
    }
  }

  @Test func `leaving the loop lets go of what was read`() async throws {
    try await withTable(of: 50_000) { database in
      for try await row in database.rows("SELECT id FROM t") {
        // Something newer than what the stream sees, so that the stream is in the way.
        try await database.execute("UPDATE t SET v = 'new' WHERE id = 1")
        let released = try await isReleased(database)
        #expect(!released)
        #expect(row[0] == .integer(1))
        break
      }
      while try await !isReleased(database) { await Task.yield() }
    }
  }

  @Test func `a stream sees one state, whatever is written meanwhile`() async throws {
    let size = isUnder(.memcheck) ? 2000 : 20_000
    try await withTable(of: size) { database in
      var sum = 0
      var count = 0
      for try await (id, v) in database.rows("SELECT id, v FROM t", as: (Int, String).self) {
        if count % (size / 20) == 0 {
          try await database.execute("UPDATE t SET v = 'new'")
          try await database.execute("INSERT INTO t VALUES (NULL, 'later')")
          try await database.execute("DELETE FROM t WHERE id = \(size - count)")
        }
        try #require(v == "row \(id)")
        sum += id
        count += 1
      }
      #expect(count == size)
      #expect(sum == size * (size + 1) / 2)
    }
  }

  @Test func `streams and queries share one reader, and none waits for another`() async throws {
    let size = isUnder(.memcheck) ? 500 : 2000
    try await withTable(of: size) { database in
      var streams = (0..<5).map { _ in
        database.rows("SELECT id FROM t ORDER BY id", as: Int.self).makeAsyncIterator()
      }
      for id in 1...size {
        for index in streams.indices {
          let next = try await streams[index].next()
          #expect(next == id)
        }
        if id % 100 == 0 {
          #expect(try await database.query("SELECT count(*) FROM t", as: Int.self) == [size])
        }
      }
      for index in streams.indices {
        for _ in 0..<2 {
          let next = try await streams[index].next()
          #expect(next == nil)
        }
      }
    }
  }

  @Test func `each iteration asks anew, and none runs before its first row is asked for`()
    async throws
  {
    try await withTable(of: 3) { database in
      let rows = database.rows("SELECT count(*) FROM t", as: Int.self)
      var early = rows.makeAsyncIterator()
      try await database.execute("DELETE FROM t WHERE id = 1")
      let count = try await early.next()
      #expect(count == 2)
      try await database.execute("DELETE FROM t")
      for try await count in rows { #expect(count == 0) }
    }
  }

  @Test func `an error in the middle comes after the rows before it and ends the stream`()
    async throws
  {
    try await withTable(of: 5000) { database in
      var iterator = database.rows(
        "SELECT CASE id WHEN 4000 THEN abs(-9223372036854775808) ELSE id END FROM t ORDER BY id",
        as: Int.self
      ).makeAsyncIterator()
      var seen = 0
      let error = await databaseError {
        while try await iterator.next() != nil { seen += 1 }
      }
      #expect(error?.message.contains("overflow") == true)
      #expect(seen < 4000)
      let next = try await iterator.next()
      #expect(next == nil)
      let released = try await isReleased(database)
      #expect(released)
    }
  }

  @Test func `what is no query runs all the same, once, and so does a stream in memory`()
    async throws
  {
    try await withTable(of: 0) { database in
      var returned: [Int] = []
      for try await id in database.rows(
        "INSERT INTO t VALUES (7, ''), (8, '') RETURNING id", as: Int.self)
      {
        returned.append(id)
      }
      #expect(returned == [7, 8])
      #expect(try await database.query("SELECT id FROM t", as: Int.self) == [7, 8])
    }
    let memory = try await Database.open(":memory:")
    var values: [Int] = []
    for try await value in memory.rows("VALUES (1), (2), (3)", as: Int.self) {
      values.append(value)
    }
    #expect(values == [1, 2, 3])
    try await memory.close()
  }

  @Test func `a wrong statement is the first row's error`() async throws {
    try await withTable(of: 0) { database in
      for sql in ["SELECT * FROM missing", "SELEC", "", "SELECT 1; SELECT 2"] {
        let error = await databaseError {
          for try await _ in database.rows(SQL(unsafeRaw: sql)) {}
        }
        #expect(error?.code == .statement)
      }
      let error = await databaseError {
        for try await _ in database.rows("COMMIT") {}
      }
      #expect(error?.code == .refused)
    }
  }

  @Test func `cancelling ends a stream that computes for ever`() async throws {
    try await withTable(of: 1) { database in
      let task = Task {
        let forever: SQL =
          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0 OR i = 1"
        for try await _ in database.rows(forever) {}
      }
      await until { database.engine.reads > 0 }
      task.cancel()
      await #expect(throws: CancellationError.self) { try await task.value }
      let count = try await database.query("SELECT count(*) FROM t", as: Int.self)
      #expect(count == [1])
    }
  }

  @Test func `close ends the streams that are open, and says so to whoever goes on`() async throws {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      var iterator = database.rows(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT i FROM n",
        as: Int.self
      ).makeAsyncIterator()
      let first = try await iterator.next()
      #expect(first == 1)
      try await database.close()
      let error = await databaseError {
        while try await iterator.next() != nil {}
      }
      #expect(error?.code == .closed)
    }
  }

  @Test func `a thousand streams that were left leave no connection behind`() async throws {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.readers = 2
      let database = try await Database.open(path, configuration: configuration)
      try await database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
      try await database.execute(
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) SELECT i FROM n"
      )
      for _ in 0..<scaled(1000) {
        for try await _ in database.rows("SELECT id FROM t") { break }
      }
      // The writer, and two readers with a connection and two more for the next streams: two files each,
      // and the shared memory that all have in common.
      while openFiles(path) > 7 * 2 + 1 {
        for _ in 0..<2 { _ = try await database.query("SELECT 1") }
      }
      try await database.close()
      #expect(openFiles(path) == 0)
    }
  }

  // MARK: Blocks

  /// Around the ends of the first blocks, which have 64, 128 and 256 rows.
  @Test(arguments: [0, 1, 63, 64, 65, 191, 192, 193, 448])
  func `a stream ends after its last row, wherever a block ends, and stays ended`(count: Int)
    async throws
  {
    try await withTable(of: 1000) { database in
      var iterator = database.rows(
        "SELECT id FROM t WHERE id <= \(count) ORDER BY id", as: Int.self
      ).makeAsyncIterator()
      var rows: [Int] = []
      while let row = try await iterator.next() { rows.append(row) }
      #expect(rows == Array((1...1000).prefix(count)))
      for _ in 0..<2 {
        let next = try await iterator.next()
        #expect(next == nil)
      }
    }
  }

  @Test func `large rows come a few at a time, and all of them come`() async throws {
    try await withTable(of: 20) { database in
      var ids: [Int] = []
      for try await (id, bytes) in database.rows(
        "SELECT id, zeroblob(200000) FROM t ORDER BY id", as: (Int, [UInt8]).self)
      {
        #expect(bytes.count == 200_000)
        ids.append(id)
      }
      #expect(ids == Array(1...20))
    }
  }

  /// Counts how many were decoded.
  private struct Counted: ValueConvertible, Sendable {
    static let decoded = Counter()
    var databaseValue: Value? { .null }
    init?(databaseValue: Value) { Self.decoded.increment() }
  }

  @Test func `a stream that nobody asks does not run on, and its reader serves others`()
    async throws
  {
    try await withTable(of: 0) { database in
      let forever: SQL =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
      var taken = 0
      for try await _ in database.rows(forever, as: Counted.self) {
        taken += 1
        try #require(Counted.decoded.value - taken < 4096, "a block")
        if taken % 1000 == 0 {
          let one = try await database.query(
            "SELECT 1", as: Int.self, deadline: .now + patience(seconds: 20))
          #expect(one == [1])
        }
        if taken == (isUnder(.memcheck) ? 6000 : 20_000) { break }
      }
    }
  }

  @Test func `a stream sees what was acknowledged before its first row was asked for`()
    async throws
  {
    try await withTable(of: 0, readers: 2) { database in
      for number in 1...scaled(200) {
        try await database.execute("INSERT INTO t VALUES (\(number), NULL)")
        for try await last in database.rows("SELECT max(id) FROM t", as: Int.self) {
          try #require(last == number)
        }
      }
    }
  }

  // MARK: Where a stream runs

  @Test func `a stream of what only the writer has, or may do, is the writer's`() async throws {
    try await withTable(of: 1) { database in
      func count(_ sql: SQL) async throws -> Int {
        try await database.rows(sql).reduce(0) { count, _ in count + 1 }
      }
      try await database.execute("CREATE TEMP TABLE own AS SELECT 1 AS v UNION SELECT 2")
      try await database.execute("ATTACH ':memory:' AS other")
      try await database.execute("CREATE TABLE other.far AS SELECT 1 AS v")
      #expect(try await count("SELECT v FROM own") == 2)
      #expect(try await count("SELECT v FROM far") == 1)
      #expect(try await count("PRAGMA synchronous") == 1)
      #expect(try await count("PRAGMA table_info(own)") == 1)
      #expect(try await count("CREATE TABLE made (v)") == 0)
      #expect(try await count("SELECT name FROM sqlite_schema WHERE name = 'made'") == 1)
      #expect(try await count("VACUUM") == 0)
    }
  }

  @Test(arguments: [
    "PRAGMA synchronous = OFF", "SELECT ?", "SELECT * FROM missing",
    "INSERT INTO t VALUES (1, NULL) RETURNING id", "SELECT abs(-9223372036854775808)",
  ])
  func `a stream of what fails throws what a query throws`(text: String) async throws {
    try await withTable(of: 1) { database in
      let ofQuery = await databaseError { _ = try await database.query(SQL(unsafeRaw: text)) }
      let ofStream = await databaseError {
        for try await _ in database.rows(SQL(unsafeRaw: text)) {}
      }
      #expect(ofQuery != nil)
      #expect(ofStream == ofQuery)
    }
  }

  // MARK: Ends before the last row

  @Test(arguments: [1, 64, 65, 300])
  func `a stream that is left lets go of its state, wherever it was`(place: Int) async throws {
    try await withTable(of: 10_000) { database in
      for round in 0..<scaled(20) {
        var taken = 0
        for try await _ in database.rows("SELECT id FROM t") {
          taken += 1
          if taken == place { break }
        }
        try await database.execute("UPDATE t SET v = \(round) WHERE id = 1")
        // The checkpoint waits for who is in the way; nobody asks the reader anything.
        let released = try await isReleased(database)
        try #require(released)
      }
    }
  }

  @Test func `leaving the loop ends what was asked for ahead, even if that has no end`()
    async throws
  {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.readers = 1
      let database = try await Database.open(path, configuration: configuration, line: 2_000_000)
      for try await _ in database.rows(
        """
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT i FROM n WHERE i <= 64
        """)
      {
        // The search for row 65 begins.
        await until { Worker.live.allSatisfy { $0.line != 2_000_000 || $0.depth == 0 } }
        for _ in 0..<100 { await Task.yield() }
        break
      }
      let one = try await database.query(
        "SELECT 1", as: Int.self, deadline: .now + patience(seconds: 10))
      #expect(one == [1])
      try await database.close()
    }
  }

  @Test func `a stream that was cancelled before its turn lets go of its state`() async throws {
    try await withTable(of: 10_000) { database in
      try await Task {
        var iterator = database.rows("SELECT id FROM t").makeAsyncIterator()
        for _ in 0..<64 { _ = try await iterator.next() }
        let gate = Gate()
        let held = Task { try await database.read { _ in gate.pass() } }
        await gate.arrived()
        for _ in 0..<128 { _ = try await iterator.next() }
        // The next block waits behind the gate.
        let error = await Task.cancelled { _ = try await iterator.next() }
        #expect(error is CancellationError)
        gate.open()
        try await held.value
        // The reader has passed by the question before the iterator goes.
        _ = try await Task { try await database.query("SELECT 1") }.value
        withExtendedLifetime(iterator) {}
      }.value
      try await database.execute("UPDATE t SET v = 'new' WHERE id = 1")
      let released = try await isReleased(database)
      #expect(released)
    }
  }

  @Test func `cancellations race the reader, and leave nothing behind`() async throws {
    try await withTable(of: 2000, readers: 2) { database in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for racer in 0..<4 {
          group.addTask {
            for round in 0..<scaled(50) {
              let task = Task {
                var seen = 0
                for try await id in database.rows("SELECT id FROM t ORDER BY id", as: Int.self) {
                  seen += 1
                  try #require(id == seen)
                }
                return seen
              }
              for _ in 0..<((7 * racer + round) % 40) { await Task.yield() }
              task.cancel()
              switch await task.result {
              case .success(let seen): try #require(seen == 2000)
              case .failure(let error): try #require(error is CancellationError)
              }
            }
          }
        }
        try await group.waitForAll()
      }
      try await database.execute("UPDATE t SET v = 'new' WHERE id = 1")
      let released = try await isReleased(database)
      #expect(released)
    }
  }

  @Test(arguments: [("CAST(x'ff' AS TEXT)", "UTF-8"), ("zeroblob(2000000000)", "too big")])
  func `a row that cannot be read comes after whole blocks, and lets go of the state`(
    value: String, expected: String
  ) async throws {
    try await withTable(of: 3000) { database in
      var iterator = database.rows(
        "SELECT CASE id WHEN 1000 THEN \(unsafeRaw: value) ELSE id END FROM t ORDER BY id",
        as: Int.self
      ).makeAsyncIterator()
      var seen = 0
      let error = await databaseError {
        while let id = try await iterator.next() {
          seen += 1
          try #require(id == seen)
        }
      }
      #expect(error?.message.contains(expected) == true)
      #expect(error?.sql?.contains(value) == true)
      #expect(seen == 64 + 128 + 256 + 512)
      let next = try await iterator.next()
      #expect(next == nil)
      try await database.execute("UPDATE t SET v = 'new' WHERE id = 1")
      let released = try await isReleased(database)
      #expect(released)
    }
  }

  @Test func `a row of another type ends the loop with an error, and the state is let go of`()
    async throws
  {
    try await withTable(of: 1000) { database in
      let error = await databaseError {
        for try await _ in database.rows("SELECT id FROM t", as: String.self) {}
      }
      #expect(error?.code == .wrongType)
      try await database.execute("UPDATE t SET v = 'new' WHERE id = 1")
      let released = try await isReleased(database)
      #expect(released)
    }
  }

  // MARK: Closing, letting go

  @Test func `after a close a stream has what it had asked for, and no file is open`()
    async throws
  {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      var iterator = database.rows(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        as: Int.self
      ).makeAsyncIterator()
      _ = try await iterator.next()
      try await database.close()
      #expect(openFiles(path) == 0)
      var seen = 1
      let error = await databaseError {
        while let number = try await iterator.next() {
          seen += 1
          try #require(number == seen)
        }
      }
      #expect(error?.code == .closed)
      #expect(seen == 64 + 128, "the block in use, and the one asked for ahead")
      let later = await databaseError {
        for try await _ in database.rows("SELECT 1") {}
      }
      #expect(later?.code == .closed)
    }
  }

  @Test func `an iteration keeps the database open, and its end lets go of it`() async throws {
    try await withDatabaseFile { path in
      var database: Database? = try await Database.open(path)
      var rows = database?.rows(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000) SELECT i FROM n"
      )
      database = nil
      do {
        var iterator = try #require(rows?.makeAsyncIterator())
        rows = nil
        var count = 0
        while try await iterator.next() != nil { count += 1 }
        #expect(count == 10_000)
      }
      await until {
        joinForAMoment()
        return openFiles(path) == 0
      }
    }
  }

  @Test func `letting go of a database in the middle of a stream closes everything`() async throws {
    try await withDatabaseFile { path in
      for _ in 0..<scaled(50) {
        let database = try await Database.open(path)
        for try await _ in database.rows(
          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n")
        {
          break
        }
      }
      await until {
        joinForAMoment()
        return openFiles(path) == 0
      }
    }
  }

  @Test func `many streams at once have a connection each, and give it back`() async throws {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.readers = 1
      let database = try await Database.open(path, configuration: configuration)
      let numbers = database.rows(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        as: Int.self)
      // SQLite keeps the file of a closed connection as long as another has a lock on it, and uses it
      // again: so a second round leaves no more than a first.
      var files: [Int] = []
      for _ in 0..<2 {
        var iterators = (0..<(isUnder(.memcheck) ? 10 : 40)).map { _ in numbers.makeAsyncIterator()
        }
        for number in 1...70 {
          for index in iterators.indices {
            let next = try await iterators[index].next()
            try #require(next == number)
          }
        }
        iterators = []
        _ = try await database.query("SELECT 1")
        files.append(openFiles(path))
      }
      #expect(files[1] <= files[0])
      try await database.close()
      #expect(openFiles(path) == 0)
    }
  }
}
