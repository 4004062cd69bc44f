// The import, from a file to a table and back.

import Lanyard
import LanyardDatabase
import LanyardTestSupport
import Testing

@testable import LanyardCLI

@Suite(.timeLimit(.native(minutes: 1)), .joinsAtExit)
struct ImporterTests {
  private func run(
    _ text: String, separator: Character = ";", hasHeader: Bool = false,
    replacesTable: Bool = false,
    into database: Database, lines: Notes<String> = Notes()
  ) async throws -> Importer.Report {
    try await withFile(text.utf8) { path in
      let importer = Importer(
        file: path, format: RecordFormat(separator: separator.asciiValue!), hasHeader: hasHeader,
        table: "a \"table\"", replacesTable: replacesTable, writers: 8)
      return try await importer.run(into: database) { lines.add($0) }
    }
  }

  @Test func `every line becomes a row, and rows share commits`() async throws {
    let database = try await Database.open(":memory:")
    let count = max(8, scaled(1000))
    let text = (0..<count).map { "\($0);name \($0);') DROP TABLE x --\n" }.joined()
    let report = try await run(text, into: database)
    #expect(report.columns == ["c1", "c2", "c3"])
    #expect(report.rows == count)
    #expect(report.badRows == 0)
    #expect(report.commits <= count + 1)
    let rows = try await database.query(
      #"SELECT * FROM "a ""table""" ORDER BY CAST(c1 AS INTEGER)"#)
    #expect(rows.count == count)
    #expect(rows[7].values == [.text("7"), .text("name 7"), .text("') DROP TABLE x --")])
    try await database.close()
  }

  @Test func `a header names the columns`() async throws {
    let database = try await Database.open(":memory:")
    let report = try await run(
      "id,full name\n1,\"Ada, Countess\"\n", separator: ",", hasHeader: true, into: database)
    #expect(report.rows == 1)
    let row = try #require(try await database.query(#"SELECT * FROM "a ""table""""#).first)
    #expect(row.columns == ["id", "full name"])
    #expect(try row.value("full name", as: String.self) == "Ada, Countess")
  }

  @Test func `a bad row is reported with its line and counted, the others are imported`()
    async throws
  {
    let database = try await Database.open(":memory:")
    let lines = Notes<String>()
    let report = try await run("a;b\nonly one\nc;d\n1;2;3\ne;f\n", into: database, lines: lines)
    #expect(report.rows == 3)
    #expect(report.badRows == 2)
    #expect(lines.all.contains { $0.contains("line 2 was not imported: it has 1 field, not 2") })
    #expect(lines.all.contains { $0.contains("line 4 was not imported: it has 3 fields, not 2") })
    #expect(lines.all.contains("2 bad rows"))
  }

  @Test func `a table that exists is not touched, unless it is to be replaced`() async throws {
    let database = try await Database.open(":memory:")
    _ = try await run("a;b\n", into: database)
    await #expect(throws: ImportError.self) { try await run("c;d\n", into: database) }
    #expect(
      try await database.query(#"SELECT c1 FROM "a ""table""""#).map { $0[0] } == [.text("a")])
    _ = try await run("c;d\n", replacesTable: true, into: database)
    #expect(
      try await database.query(#"SELECT c1 FROM "a ""table""""#).map { $0[0] } == [.text("c")])
  }

  @Test func `a file that is empty or missing is an error that says so`() async throws {
    let database = try await Database.open(":memory:")
    let empty = try await #require(throws: ImportError.self) { try await run("", into: database) }
    #expect("\(empty)".contains("is empty"))
    let missing = try await #require(throws: ImportError.self) {
      try await Importer(file: "/nowhere", format: RecordFormat(separator: 59), table: "t")
        .run(into: database) { _ in }
    }
    #expect("\(missing)".contains("cannot read /nowhere"))
  }

  @Test func `a database error ends the import`() async throws {
    let database = try await Database.open(":memory:")
    let error = try await #require(throws: DatabaseError.self) {
      try await run("a;a\n1;2\n", hasHeader: true, into: database)
    }
    #expect("\(error)".contains("duplicate column name"))
  }

  @Test func `a list of characters shows one of them`() async throws {
    let database = try await Database.open(":memory:")
    let lines = Notes<String>()
    _ = try await run("1F600;GRINNING FACE;So;0;ON;;;;;N;;;;;\n", into: database, lines: lines)
    #expect(lines.all.contains("sample: U+1F600 is GRINNING FACE, category So"))
  }

  @Test func `numbers have commas`() {
    #expect(
      [0, 999, 1000, 34_924, 1_234_567, -1000].map(grouped) == [
        "0", "999", "1,000", "34,924", "1,234,567", "-1,000",
      ])
  }
}
