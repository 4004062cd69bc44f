// The import, from a file to a table and back.

import Foundation
import Lanyard
import LanyardDatabase
import LanyardTestSupport
import Testing

@testable import LanyardCLI

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct ImporterTests {
  private static let table = "a \"table\""
  private static let everything: SQL = #"SELECT rowid, * FROM "a ""table""" ORDER BY rowid"#

  private struct Setting {
    var separator: Character = ";"
    var header: Bool?
    var types = true
    var replaces = false
    var resumes = false
    var batch = 1
    var stop = StopFlag()
    var lines = Notes<String>()
    var bad = Notes<String>()
  }

  @discardableResult
  private func run(_ text: String, _ setting: Setting = Setting(), into database: Database)
    async throws -> Importer.Report
  {
    try await withFile(text.utf8) { path in
      var importer = Importer(
        file: path, format: RecordFormat(separator: setting.separator.asciiValue!),
        table: Self.table, badPath: path + ".bad")
      importer.header = setting.header
      importer.types = setting.types
      importer.replacesTable = setting.replaces
      importer.resumes = setting.resumes
      importer.batch = setting.batch
      importer.writers = 8
      let report = try await importer.run(into: database, stop: setting.stop) {
        setting.lines.add($0)
      }
      if let bad = try? String(contentsOfFile: importer.badPath, encoding: .utf8) {
        setting.bad.add(bad)
      }
      return report
    }
  }

  private func withDatabase(_ body: (Database) async throws -> Void) async throws {
    let database = try await Database.open(":memory:")
    try await body(database)
    try await database.close()
  }

  @Test(arguments: [1, 7])
  func `every line becomes a row with its number, and rows share commits`(batch: Int) async throws {
    try await withDatabase { database in
      let count = max(8, scaled(1000))
      let text = (0..<count).map { "\($0);name \($0);') DROP TABLE x --\n" }.joined()
      let report = try await run(text, Setting(batch: batch), into: database)
      #expect(report.shape.columns.map(\.name) == ["c1", "c2", "c3"])
      #expect(report.rows == count)
      #expect(report.badRecords == 0)
      #expect(report.commits <= count)
      let rows = try await database.query(Self.everything)
      #expect(rows.count == count)
      #expect(
        rows[7].values == [.integer(8), .integer(7), .text("name 7"), .text("') DROP TABLE x --")])
      let notes = try await database.query(
        "SELECT 1 FROM sqlite_schema WHERE name = 'lanyard_import'")
      #expect(notes.isEmpty, "nothing is left to remember")
    }
  }

  @Test func `columns have the types that all their values are of`() async throws {
    try await withDatabase { database in
      let text = """
        id,code,price,big,long,mixed,empty,sign
        1,0041,1.5,9223372036854775807,0.1234567890123456,1,,1
        2,1,2,9223372036854775808,1,x,,+1
        ,12,-3e2,0,2,2,,

        """
      let report = try await run(text, Setting(separator: ","), into: database)
      #expect(
        report.shape.columns.map(\.type) == [
          .integer, .text, .real, .text, .text, .text, .text, .text,
        ])
      let rows = try await database.query(Self.everything)
      #expect(
        rows.map { Array($0.values.prefix(5)) } == [
          [.integer(2), .integer(1), .text("0041"), .real(1.5), .text("9223372036854775807")],
          [.integer(3), .integer(2), .text("1"), .real(2), .text("9223372036854775808")],
          [.integer(4), .null, .text("12"), .real(-300), .text("0")],
        ])
      #expect(rows[2]["empty"] == .text(""))
    }
  }

  @Test func `with all text every field is stored as it is`() async throws {
    try await withDatabase { database in
      try await run("1;1.50\n2;\n", Setting(types: false), into: database)
      let rows = try await database.query(Self.everything).map { Array($0.values.dropFirst()) }
      #expect(rows == [[.text("1"), .text("1.50")], [.text("2"), .text("")]])
    }
  }

  @Test(
    arguments: [
      ("id,name\n1,a\n", nil, true), ("id,name\n1,a\n", false, false), ("1,2\n3,4\n", nil, false),
      ("1,2\n3,4\n", true, true), ("a,a\n1,2\n", nil, false), ("a,\n1,2\n", nil, false),
      ("x,y\nz,w\n", nil, false), ("0000;<control>\n0001;<control>\n", nil, false),
    ] as [(String, Bool?, Bool)])
  func `a first line is a header if it looks like one, or was said to be`(
    text: String, said: Bool?, expected: Bool
  ) async throws {
    try await withDatabase { database in
      let report = try await run(text, Setting(separator: ",", header: said), into: database)
      #expect(report.shape.hasHeader == expected)
      #expect(report.rows == (expected ? 1 : 2))
    }
  }

  @Test func `a header names the columns, and quoted fields hold anything`() async throws {
    try await withDatabase { database in
      let report = try await run(
        "\u{FEFF}id,full name\r\n1,\"Ada, \"\"Countess\"\"\r\nof Lovelace\"\r\n2,Bob\r\n",
        Setting(separator: ","), into: database)
      #expect(report.rows == 2)
      let rows = try await database.query(Self.everything)
      #expect(rows[0].columns == ["rowid", "id", "full name"])
      #expect(
        try rows[0].value("full name", as: String.self) == "Ada, \"Countess\"\r\nof Lovelace")
      #expect(rows.map { $0[0] } == [.integer(2), .integer(4)], "the lines where they begin")
    }
  }

  @Test(arguments: [1, 4])
  func `a bad record is set aside with its line, and the others are imported`(batch: Int)
    async throws
  {
    try await withDatabase { database in
      let setting = Setting(header: false, batch: batch)
      let report = try await run("a;b\nonly one\nc;d\n1;2;3\ne;f\n", setting, into: database)
      #expect(report.rows == 3)
      #expect(report.badRecords == 2)
      let lines = setting.lines.all
      #expect(lines.contains { $0.contains("line 2 was not imported: it has 1 field, not 2") })
      #expect(lines.contains { $0.contains("line 4 was not imported: it has 3 fields, not 2") })
      #expect(lines.contains { $0.hasPrefix("2 bad rows, set aside in ") })
      let aside = try #require(setting.bad.all.first)
      #expect(aside.contains("# line 2: it has 1 field, not 2\nonly one\n"))
      #expect(aside.contains("# line 4: it has 3 fields, not 2\n1;2;3\n"))
    }
  }

  @Test func `a table that exists is not touched, unless it is to be replaced`() async throws {
    try await withDatabase { database in
      let setting = Setting(header: false)
      try await run("a;b\n", setting, into: database)
      await #expect(throws: ImportError.self) { try await run("c;d\n", setting, into: database) }
      let before = try await database.query(Self.everything).map { $0["c1"] }
      #expect(before == [.text("a")])
      try await run("c;d\n", Setting(header: false, replaces: true), into: database)
      let after = try await database.query(Self.everything).map { $0["c1"] }
      #expect(after == [.text("c")])
    }
  }

  @Test func `objects become rows, their keys columns, whatever they hold`() async throws {
    try await withDatabase { database in
      let setting = Setting(separator: "\0")
      let report = try await run(
        """
        {"id": 1, "name": "a\\n\\u00e9", "tags": ["x", {"y": 1}], "on": true}
        {"id": 2.5, "other": null, "mixed": 1}
        [1]
        {"id": 3, "mixed": "text"}
        """, setting, into: database)
      #expect(report.rows == 3)
      #expect(report.badRecords == 1)
      #expect(
        report.shape.columns == [
          TableColumn(name: "id", type: .real), TableColumn(name: "name", type: .text),
          TableColumn(name: "on", type: .integer), TableColumn(name: "tags", type: .text),
          TableColumn(name: "mixed", type: .any), TableColumn(name: "other", type: .text),
        ])
      let rows = try await database.query(Self.everything)
      #expect(
        rows[0].values == [
          .integer(1), .real(1), .text("a\né"), .integer(1), .text(#"["x",{"y":1}]"#), .null, .null,
        ])
      #expect(rows.map { $0["mixed"] } == [.null, .integer(1), .text("text")])
    }
  }

  // MARK: Interruption

  @Test(arguments: [1, 5])
  func `an import that is stopped keeps what was acknowledged, and goes on with the rest`(
    batch: Int
  )
    async throws
  {
    try await withDatabaseFile { database, folder in
      let count = max(100, scaled(2000))
      let file = folder.appending(path: "data.csv").path
      let text = "id,name\n" + (0..<count).map { "\($0),\"name\n\($0)\"\n" }.joined() + "bad\n"
      try Data(text.utf8).write(to: URL(fileURLWithPath: file))
      var importer = Importer(
        file: file, format: RecordFormat(separator: UInt8(ascii: ",")), table: "t",
        badPath: file + ".bad")
      importer.writers = 4
      importer.batch = batch
      var runs = 0
      var report: Importer.Report
      repeat {
        importer.resumes = runs > 0
        runs += 1
        let stop = StopFlag()
        let target = (runs * count) / 3
        async let stopped: Void = {
          // Stops it somewhere: after a third, two thirds, never.
          while runs < 3, !stop.isSet {
            let rows =
              (try? await database.query("SELECT count(*) FROM t", as: Int.self).first) ?? nil
            if let rows, rows >= target { stop.set() }
            try? await Task.sleep(for: .milliseconds(2))  // the import needs the processor more
          }
        }()
        report = try await importer.run(into: database, stop: stop, show: { _ in })
        stop.set()
        await stopped
        let rows = try await database.query("SELECT count(*) FROM t", as: Int.self)
        #expect(rows == [report.rows], "what was acknowledged is there, and nothing else")
      } while report.isInterrupted
      #expect(report.rows == count)
      #expect(report.badRecords == 1)
      let ids = try await database.query("SELECT id FROM t ORDER BY rowid", as: Int.self)
      #expect(ids == Array(0..<count), "each once")
      #expect(try String(contentsOfFile: importer.badPath, encoding: .utf8).contains("\nbad\n"))
      importer.resumes = true
      await #expect(throws: ImportError.self, "it is complete") {
        try await importer.run(into: database, show: { _ in })
      }
    }
  }

  @Test func `another file, or another schema, is not gone on with`() async throws {
    try await withDatabaseFile { database, folder in
      let file = folder.appending(path: "data.csv").path
      func write(_ text: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: file))
      }
      try write("1;2\n3;4\n")
      var importer = Importer(
        file: file, format: RecordFormat(separator: UInt8(ascii: ";")), table: "t",
        badPath: file + ".bad")
      let stop = StopFlag()
      stop.set()
      let report = try await importer.run(into: database, stop: stop, show: { _ in })
      #expect(report.isInterrupted && report.rows == 0)
      importer.resumes = true
      try write("1;2\n3;5\n")
      let changed = try await #require(throws: ImportError.self) {
        try await importer.run(into: database, show: { _ in })
      }
      #expect("\(changed)".contains("was changed"))
      try write("1;2\n3;4\n")
      try await database.execute("VACUUM")
      let vacuumed = try await #require(throws: ImportError.self) {
        try await importer.run(into: database, show: { _ in })
      }
      #expect("\(vacuumed)".contains("vacuumed"))
    }
  }

  private func withDatabaseFile(_ body: (Database, URL) async throws -> Void) async throws {
    try await withFolder { folder in
      let database = try await Database.open(folder.appending(path: "test.db").path)
      try await body(database, folder)
      try await database.close()
    }
  }

  // MARK: Bad input

  @Test func `what is wrong with a file is said`() async throws {
    try await withDatabase { database in
      func message(_ text: String, _ setting: Setting = Setting()) async -> String {
        do {
          try await run(text, setting, into: database)
          return "none"
        } catch {
          return "\(error)"
        }
      }
      #expect(await message("").contains("is empty"))
      #expect(await message("", Setting(separator: "\0")).contains("is empty"))
      #expect(await message("[]\n", Setting(separator: "\0")).contains("no line"))
      #expect(await message("a;A\n1;2\n", Setting(header: true)).contains("two columns"))
      #expect(await message("a;\n1;2\n", Setting(header: true)).contains("no name"))
      #expect(
        await message("rowid;oid;_rowid_\n1;2;3\n", Setting(header: true)).contains("rename one"))
      #expect(await message("1;2\n", Setting(resumes: true)).contains("leave --resume out"))
      let missing = try await #require(throws: ImportError.self) {
        try await Importer(
          file: "/nowhere", format: RecordFormat(separator: 59), table: "t", badPath: "/nowhere.bad"
        ).run(into: database) { _ in }
      }
      #expect("\(missing)".contains("cannot read /nowhere"))
      let tables = try await database.query("SELECT count(*) FROM sqlite_schema", as: Int.self)
      #expect(tables == [0])
    }
  }

  @Test func `bad rows do not replace what is read or written`() async throws {
    try await withFile("1;2\n3\n".utf8) { path in
      try await withDatabase { database in
        var importer = Importer(
          file: path, format: RecordFormat(separator: 59), table: "t", badPath: path)
        importer.databasePath = path + ".db"
        for bad in [path, path + ".db", path + ".db-wal", path + ".more/../data.txt.db"] {
          try Data("kept".utf8).write(to: URL(filePath: path + ".db"))
          importer.badPath = bad
          let error = try await #require(throws: ImportError.self) {
            try await importer.run(into: database) { _ in }
          }
          #expect("\(error)".contains("give another --bad"))
        }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "1;2\n3\n")
        #expect(try String(contentsOfFile: path + ".db", encoding: .utf8) == "kept")
      }
    }
  }

  @Test func `a list of characters shows one of them`() async throws {
    try await withDatabase { database in
      let setting = Setting()
      try await run("1F600;GRINNING FACE;So;0;ON;;;;;N;;;;;\n", setting, into: database)
      #expect(setting.lines.all.contains("sample: U+1F600 is GRINNING FACE, category So"))
    }
  }

  @Test func `progress is a line now and then, and on a terminal a bar with the time that is left`()
  {
    let start = ContinuousClock.now
    var plain = Progress(total: 100, done: 0, isTerminal: false)
    #expect(plain.line(10, at: start) == nil)
    #expect(plain.line(10, at: start + .seconds(2))?.hasPrefix("  10 rows, ") == true)
    #expect(plain.line(11, at: start + .milliseconds(2100)) == nil)
    #expect(plain.ending == "")
    var bar = Progress(total: 100, done: 40, isTerminal: true)
    let line = bar.line(10, at: start + .seconds(2))
    #expect(line?.hasPrefix("\r███████████████░") == true)
    #expect(line?.contains("50 % 50 rows") == true)
    #expect(line?.contains("s left") == true)
  }

  @Test func `numbers have commas`() {
    #expect(
      [0, 999, 1000, 34_924, 1_234_567, -1000].map(grouped) == [
        "0", "999", "1,000", "34,924", "1,234,567", "-1,000",
      ])
  }
}
