// Values, rows, and their way through the engine and back.

import LanyardDatabase
import LanyardTestSupport
import Testing

@Suite(.timeLimit(.native(minutes: 1)), .joinsAtExit)
struct ValueTests {
  @Test(
    arguments: [
      .null, .integer(0), .integer(.max), .integer(.min), .real(0.1), .real(-.infinity),
      .real(.greatestFiniteMagnitude),
      .text(""), .text("plain"), .text("zero \0 inside"), .text("Grüße 😀 \u{10FFFF}"),
      .text(String(repeating: "long ", count: 100_000)),
      .blob([]), .blob([0, 255, 1]), .blob(Array(repeating: 7, count: 100_000)),
    ] as [Value])
  func `a value of every kind comes back as it was`(value: Value) async throws {
    let database = try await Database.open(":memory:")
    try await database.execute("CREATE TABLE t (v)")
    try await database.execute("INSERT INTO t VALUES (\(value))")
    let row = try #require(try await database.query("SELECT v FROM t").first)
    #expect(row[0] == value)
    #expect(row["v"] == value)
    try await database.close()
  }

  @Test func `Swift's types come back as what they were`() async throws {
    let database = try await Database.open(":memory:")
    func same<T: ValueConvertible & Equatable>(_ value: T) async throws -> Bool {
      let rows = try await database.query("SELECT \(value) AS v")
      return try rows[0].value("v", as: T.self) == value
    }
    #expect(try await same(Int.min))
    #expect(try await same(Int8(-5)))
    #expect(try await same(UInt8(200)))
    #expect(try await same(Int16(-300)))
    #expect(try await same(UInt16(60_000)))
    #expect(try await same(Int32.min))
    #expect(try await same(UInt32.max))
    #expect(try await same(Int64.max))
    #expect(try await same(UInt(7)))
    #expect(try await same(UInt64(Int64.max)))
    #expect(try await same(1.5 as Double))
    #expect(try await same(1.5 as Float))
    #expect(try await same(true))
    #expect(try await same(false))
    #expect(try await same("text"))
    #expect(try await same("text".dropFirst()))
    #expect(try await same([1, 2, 3] as [UInt8]))
    #expect(try await same(nil as Int?))
    #expect(try await same(7 as Int?))
    #expect(try await same(Value.text("t")))
  }

  @Test func `a number that does not fit is an error, and nothing is written`() async throws {
    let database = try await Database.open(":memory:")
    try await database.execute("CREATE TABLE t (v)")
    let error = try await #require(throws: DatabaseError.self) {
      try await database.execute("INSERT INTO t VALUES (\(UInt64.max))")
    }
    #expect(error.code == .statement)
    #expect(try await database.values("SELECT count(*) FROM t") == [0])
  }

  @Test func `a value of another type is an error that names the column, not the value`()
    async throws
  {
    let database = try await Database.open(":memory:")
    let row = try await database.query("SELECT 'secret' AS name, NULL AS note, 300 AS number")[0]
    let wrong = try #require(throws: DatabaseError.self) { try row.value("name", as: Int.self) }
    #expect(wrong.code == .wrongType)
    #expect("\(wrong)".contains("\"name\" holds text, which is no Int"))
    #expect(!"\(wrong)".contains("secret"))
    let null = try #require(throws: DatabaseError.self) { try row.value(at: 1, as: String.self) }
    #expect("\(null)".contains("String?"))
    #expect(throws: DatabaseError.self) { try row.value("number", as: Int8.self) }
    #expect(try row.value("note", as: String?.self) == nil)
    #expect(try row.value("number", as: Double.self) == 300)
  }

  @Test func `a column that is not there is an error that lists those that are`() async throws {
    let database = try await Database.open(":memory:")
    let row = try await database.query("SELECT 1 AS a, 2 AS b")[0]
    let error = try #require(throws: DatabaseError.self) { try row.value("c", as: Int.self) }
    #expect(error.code == .noSuchColumn)
    #expect("\(error)".contains("\"a\", \"b\""))
    #expect(throws: DatabaseError.self) { try row.value(at: 2, as: Int.self) }
    #expect(row["c"] == nil)
  }
}
