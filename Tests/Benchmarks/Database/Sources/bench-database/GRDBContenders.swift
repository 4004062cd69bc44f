import GRDB

/// GRDB as its documentation shows it, with its cache of statements.
enum GRDBPeer {
  /// Durable from here on: GRDB lowers `synchronous` to NORMAL whenever it turns WAL on, after what
  /// `prepareDatabase` set.
  private static func durable(_ path: String) throws -> DatabaseQueue {
    var configuration = Configuration()
    configuration.journalMode = .wal
    let queue = try DatabaseQueue(path: path, configuration: configuration)
    try queue.writeWithoutTransaction { db in
      try db.execute(sql: "PRAGMA synchronous = FULL")
      let level = try Int.fetchOne(db, sql: "PRAGMA synchronous")
      precondition(level == 2, "what is compared as durable has to be")
    }
    return queue
  }

  private static func insert(_ writer: some DatabaseWriter, _ callers: Int, _ seconds: Double)
    async throws
    -> Measured
  {
    let result = try await measured(callers: callers, seconds: seconds) { _ in
      try await writer.write { db in
        try db.cachedStatement(sql: "INSERT INTO entry(text) VALUES (?)").execute(arguments: [text])
      }
    }
    try writer.close()
    return result
  }

  static let queue = Contender(name: "GRDB DatabaseQueue, FULL") { path, callers, seconds in
    try await insert(durable(path), callers, seconds)
  }

  static let pool = Contender(name: "GRDB DatabasePool, not durable") { path, callers, seconds in
    try await insert(DatabasePool(path: path), callers, seconds)
  }

  static func select(items: Int) -> Contender {
    Contender(name: "GRDB DatabasePool read") { path, callers, seconds in
      let pool = try DatabasePool(path: path)
      let result = try await measured(callers: callers, seconds: seconds) { random in
        let id = Int.random(in: 1...items, using: &random)
        let row = try await pool.read { db -> (Int, String)? in
          let statement = try db.cachedStatement(sql: "SELECT id, text FROM item WHERE id = ?")
          return try Row.fetchOne(statement, arguments: [id]).map { ($0[0], $0[1]) }
        }
        precondition(row?.0 == id)
      }
      try pool.close()
      return result
    }
  }

  struct Fetched: FetchableRecord {
    let id: Int
    let text: String

    init(row: Row) {
      id = row[0]
      text = row[1]
    }
  }

  struct Decoded: FetchableRecord, Decodable {
    let id: Int
    let text: String
  }

  static func scanTuples(_ path: String) async throws -> Int {
    let pool = try DatabasePool(path: path)
    let sum = try await pool.read { db in
      var sum = 0
      let cursor = try Fetched.fetchCursor(db, sql: "SELECT id, text FROM item")
      while let item = try cursor.next() { sum += item.id + item.text.utf8.count }
      return sum
    }
    try pool.close()
    return sum
  }

  static func scanDecodable(_ path: String) async throws -> Int {
    let pool = try DatabasePool(path: path)
    let sum = try await pool.read { db in
      var sum = 0
      let cursor = try Decoded.fetchCursor(db, sql: "SELECT id, text FROM item")
      while let item = try cursor.next() { sum += item.id + item.text.utf8.count }
      return sum
    }
    try pool.close()
    return sum
  }
}
