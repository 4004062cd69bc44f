import LanyardDatabase

enum Lanyard {
  static func prepare(_ path: String, items: Int) async throws {
    let database = try await Database.open(path)
    try await database.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    try await database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    if items > 0 {
      try await database.execute(
        """
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT \(items))
        INSERT INTO item SELECT i, \(text) FROM n
        """)
    }
    try await database.close()
  }

  static let insert = Contender(name: "Lanyard execute") { path, callers, seconds in
    let database = try await Database.open(path)
    let result = try await measured(callers: callers, seconds: seconds) { _ in
      try await database.execute("INSERT INTO entry(text) VALUES (\(text))")
    }
    try await database.close()
    return result
  }

  static let write = Contender(name: "Lanyard write { }") { path, callers, seconds in
    let database = try await Database.open(path)
    let result = try await measured(callers: callers, seconds: seconds) { _ in
      try await database.write { connection in
        _ = try connection.execute("INSERT INTO entry(text) VALUES (\(text))")
      }
    }
    try await database.close()
    return result
  }

  static func select(items: Int) -> Contender {
    Contender(name: "Lanyard query") { path, callers, seconds in
      let database = try await Database.open(path)
      let result = try await measured(callers: callers, seconds: seconds) { random in
        let id = Int.random(in: 1...items, using: &random)
        let rows = try await database.query(
          "SELECT id, text FROM item WHERE id = \(id)", as: (Int, String).self)
        precondition(rows.count == 1 && rows[0].0 == id)
      }
      try await database.close()
      return result
    }
  }

  struct Item: Decodable, Sendable {
    let id: Int
    let text: String
  }

  static func scanTuples(_ path: String) async throws -> Int {
    let database = try await Database.open(path)
    var sum = 0
    for try await (id, text) in database.rows("SELECT id, text FROM item", as: (Int, String).self) {
      sum += id + text.utf8.count
    }
    try await database.close()
    return sum
  }

  static func scanDecodable(_ path: String) async throws -> Int {
    let database = try await Database.open(path)
    var sum = 0
    for try await item in database.rows("SELECT id, text FROM item", as: Item.self) {
      sum += item.id + item.text.utf8.count
    }
    try await database.close()
    return sum
  }
}
