// What rows become, and what is said when they cannot.

import Foundation
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 1)))
struct DecodingTests {
  private enum Colour: String, Decodable {
    case red, green
  }

  private struct Thing: Decodable, Equatable {
    let id: Int8
    let name: String
    let weight: Double?
    let colour: Colour
    let isGood: Bool
    let data: [UInt8]
    let missing: Int?
  }

  private struct Nested: Decodable {
    struct Inner: Decodable {
      let a: Int
    }
    let inner: Inner
  }

  private struct Listed: Decodable {
    let list: [Int]
  }

  private func withDatabase(_ body: (Database) async throws -> Void) async throws {
    let database = try await Database.open(":memory:")
    try await body(database)
    try await database.close()
  }

  @Test func `values, optionals and tuples`() async throws {
    try await withDatabase { database in
      #expect(try await database.query("SELECT 7", as: Int.self) == [7])
      #expect(try await database.query("SELECT NULL", as: Int?.self) == [nil])
      #expect(try await database.query("SELECT 7", as: Double.self) == [7])
      #expect(try await database.query("SELECT x'0102'", as: [UInt8].self) == [[1, 2]])
      #expect(try await database.query("SELECT x''", as: [UInt8].self) == [[]])
      let rows = try await database.query(
        "SELECT 1, 'a', NULL, 2.5 UNION ALL SELECT 2, 'b', 3, 4",
        as: (Int, String, Int?, Double).self)
      #expect(rows.count == 2)
      #expect(rows[0] == (1, "a", nil, 2.5))
      #expect(rows[1] == (2, "b", 3, 4))
      #expect(try await database.query("SELECT 1 WHERE 0", as: (Int, Int).self).isEmpty)
    }
  }

  @Test func `properties have the columns' names`() async throws {
    try await withDatabase { database in
      let things = try await database.query(
        """
        SELECT 5 AS id, 'x' AS name, NULL AS weight, 'green' AS colour, 1 AS isGood, x'ff' AS data,
          'not asked for' AS more
        """, as: Thing.self)
      #expect(
        things == [
          Thing(
            id: 5, name: "x", weight: nil, colour: .green, isGood: true, data: [255], missing: nil)
        ])
      #expect(try await database.query("SELECT 'red'", as: Colour.self) == [.red])
      let first = try await database.query("SELECT 1 AS a, 2 AS a")[0]
      #expect(first["a"] == .integer(1), "the first of two")
    }
  }

  @Test func `what does not fit is an error that names the column and what to do`() async throws {
    try await withDatabase { database in
      func check(
        _ code: DatabaseError.Code, _ words: String..., body: () async throws -> Void
      ) async {
        guard let error = await databaseError(body) else {
          Issue.record("no error for \(words)")
          return
        }
        #expect(error.code == code)
        for word in words { #expect("\(error)".contains(word), "\(error)") }
        #expect(!error.advice.isEmpty)
      }
      await check(.wrongType, "\"n\"", "NULL", "Int?") {
        _ = try await database.query("SELECT NULL AS n", as: Int.self)
      }
      await check(.wrongType, "\"n\"", "text", "Int") {
        _ = try await database.query("SELECT '7' AS n", as: Int.self)
      }
      await check(.wrongType, "\"n\"", "Int8") {
        _ = try await database.query("SELECT 1 AS m, 300 AS n", as: (Int8, Int8).self)
      }
      await check(.wrongType, "3 columns", "2") {
        _ = try await database.query("SELECT 1, 2, 3", as: (Int, Int).self)
      }
      await check(.noSuchColumn, "\"name\"", "\"id\"") {
        _ = try await database.query("SELECT 1 AS id", as: Thing.self)
      }
      await check(.wrongType, "\"inner\"", "flat") {
        _ = try await database.query("SELECT 1 AS inner", as: Nested.self)
      }
      await check(.wrongType, "\"list\"") {
        _ = try await database.query("SELECT 1 AS list", as: Listed.self)
      }
      await check(.wrongType, "\"t\"", "UTF-8", "CAST(t AS BLOB)") {
        _ = try await database.query("SELECT CAST(x'61ff62' AS TEXT) AS t")
      }
      await check(.wrongType, "UTF-8") {
        for try await _ in database.rows("SELECT CAST(x'c0' AS TEXT)") {}
      }
      await check(.statement, "too big") {
        _ = try await database.query("SELECT zeroblob(2000000000)")
      }
      let one = try await database.query("SELECT 1", as: Int.self)
      #expect(one == [1], "the handle is as good as new")
    }
  }

  @Test func `every text arrives as it was sent`() async throws {
    try await withDatabase { database in
      for text in ["", "a", "äöü", "\u{0}inside\u{0}", "👩‍👩‍👧‍👦", String(repeating: "é", count: 100_000)]
      {
        let texts = try await database.query("SELECT \(text)", as: String.self)
        #expect(texts == [text])
      }
    }
  }

  private struct Wide: Decodable {
    let n: Int128
  }

  private struct Painted: Decodable, Equatable {
    let colour: Colour
    let second: Colour?
  }

  @Test func `a type wider than what is stored is decoded or refused, and does not recur`()
    async throws
  {
    try await withDatabase { database in
      let error = await #expect(throws: (any Error).self) {
        _ = try await database.query("SELECT 'x' AS n", as: Wide.self)
      }
      #expect(error.map { "\($0)".contains("n") } == true)
      if let wide = try? await database.query("SELECT 5 AS n", as: Wide.self) {
        #expect(wide.map(\.n) == [5])
      }
    }
  }

  @Test func `enums are decoded from their raw values, and a wrong one names its column`()
    async throws
  {
    try await withDatabase { database in
      let painted = try await database.query(
        "SELECT 'red' AS colour, 'green' AS second UNION ALL SELECT 'green', NULL", as: Painted.self
      )
      #expect(
        painted == [Painted(colour: .red, second: .green), Painted(colour: .green, second: nil)])
      let one = try await database.query("SELECT 'red' AS colour", as: Painted.self)
      #expect(one == [Painted(colour: .red, second: nil)])
      let wrong = await #expect(throws: DecodingError.self) {
        _ = try await database.query("SELECT 'red' AS colour, 'mauve' AS second", as: Painted.self)
      }
      guard case .dataCorrupted(let context) = wrong else { return }
      #expect(context.codingPath.map(\.stringValue) == ["second"])
      let number = await databaseError {
        _ = try await database.query("SELECT 7 AS colour", as: Painted.self)
      }
      #expect(number?.code == .wrongType)
      #expect(number?.message.contains("\"colour\"") == true)
    }
  }

  @Test func `a row is a dictionary too, and a date is its number`() async throws {
    try await withDatabase { database in
      let dictionaries = try await database.query("SELECT 1 AS a, 2 AS b", as: [String: Int].self)
      #expect(dictionaries == [["a": 1, "b": 2]])
      let dates = try await database.query("SELECT 0.5", as: Date.self)
      #expect(dates == [Date(timeIntervalSinceReferenceDate: 0.5)])
      let several = await databaseError {
        _ = try await database.query("SELECT 'red', 'green'", as: Colour.self)
      }
      #expect(several?.code == .wrongType)
      #expect(several?.message.contains("2 columns") == true)
    }
  }

  @Test func `a number fits or is an error, at every width`() async throws {
    try await withDatabase { database in
      func fits<T: ValueConvertible & FixedWidthInteger>(_ type: T.Type) async throws {
        let least = Int64(exactly: T.min) ?? 0
        let most = Int64(exactly: T.max) ?? .max
        let smallest = try await database.query("SELECT \(least)", as: T.self)
        #expect(smallest == [T(least)])
        let largest = try await database.query("SELECT \(most)", as: T.self)
        #expect(largest == [T(most)])
        for wrong in [least.subtractingReportingOverflow(1), most.addingReportingOverflow(1)]
        where !wrong.overflow {
          let error = await databaseError {
            _ = try await database.query("SELECT \(wrong.partialValue) AS n", as: T.self)
          }
          #expect(error?.code == .wrongType)
          #expect(error?.message == "column \"n\" holds an integer, which is no \(T.self)")
        }
      }
      try await fits(Int.self)
      try await fits(Int8.self)
      try await fits(Int16.self)
      try await fits(Int32.self)
      try await fits(Int64.self)
      try await fits(UInt.self)
      try await fits(UInt8.self)
      try await fits(UInt16.self)
      try await fits(UInt32.self)
      try await fits(UInt64.self)
      for (type, text) in [("a real", "1.5"), ("text", "'1'"), ("a blob", "x'31'")] {
        let error = await databaseError {
          _ = try await database.query("SELECT \(unsafeRaw: text) AS n", as: Int?.self)
        }
        #expect(error?.message.contains("\"n\" holds \(type)") == true)
      }
    }
  }

  @Test func `a value that is too long to be bound is an error, and is in no message`()
    async throws
  {
    try await withDatabase { database in
      let error = await databaseError {
        _ = try await database.query("SELECT \(UInt64.max)", as: Int.self)
      }
      #expect(error?.code == .statement)
      #expect(error?.message.contains("value 1 does not fit into 64 bits") == true)
      #expect(error.map { !"\($0)".contains("18446744073709551615") } == true)
    }
  }
}
