// Files into records, records into fields.

import LanyardTestSupport
import Testing

@testable import LanyardCLI

@Suite(.timeLimit(.native(minutes: 1)))
struct RecordTests {
  private func records(
    _ text: String, separator: Character = ";"
  ) async throws -> [(line: Int, text: String)] {
    try await withFile(text.utf8) { path in
      var reader = try RecordReader(
        path: path, format: RecordFormat(separator: separator.asciiValue!))
      var records: [(Int, String)] = []
      while let record = try reader.next() {
        records.append((record.line, String(decoding: record.bytes, as: UTF8.self)))
      }
      return records
    }
  }

  @Test(arguments: [
    ("", []), ("a", ["a"]), ("a\n", ["a"]), ("a\nb", ["a", "b"]), ("a\r\nb\r\n", ["a", "b"]),
    ("\n", [""]), ("a\n\nb\n", ["a", "", "b"]),
  ])
  func `a file is divided at its line ends, the last of which may be missing`(
    text: String, expected: [String]
  ) async throws {
    let records = try await records(text)
    #expect(records.map(\.text) == expected)
    #expect(records.map(\.line) == Array(1..<(expected.count + 1)))
  }

  @Test func `a record may be longer than a block, and blocks may end anywhere`() async throws {
    let lines =
      (0..<2000).map { String(repeating: "x\($0)", count: $0 % 97) } + [
        String(repeating: "y", count: 300_000)
      ]
    let records = try await records(lines.joined(separator: "\n"))
    #expect(records.map(\.text) == lines)
  }

  @Test func `a quoted field may go over several lines, which count`() async throws {
    let records = try await records("a,\"b\nc\"\nd,e\n", separator: ",")
    #expect(records.map(\.text) == ["a,\"b\nc\"", "d,e"])
    #expect(records.map(\.line) == [1, 3])
  }

  @Test(arguments: [
    ("a;b;c", ["a", "b", "c"]), ("", [""]), (";", ["", ""]), ("a;\"b;c\"", ["a", "\"b", "c\""]),
    ("Grüße;😀", ["Grüße", "😀"]),
  ])
  func `without quoting every separator separates`(text: String, expected: [String]) {
    #expect(RecordFormat(separator: UInt8(ascii: ";")).fields(Array(text.utf8)) == expected)
  }

  @Test(
    arguments: [
      ("a,b", ["a", "b"]), (#""a","b""#, ["a", "b"]), (#""a,b",c"#, ["a,b", "c"]),
      (#""say ""hi""",x"#, [#"say "hi""#, "x"]), (#""","#, ["", ""]), (#"a,"""#, ["a", ""]),
      ("\"x\ny\",z", ["x\ny", "z"]),
      (#"a"b,c"#, nil), (#""a"b,c"#, nil), (#""a,b"#, nil),
    ] as [(String, [String]?)])
  func `with commas a field may be quoted`(text: String, expected: [String]?) {
    #expect(RecordFormat(separator: UInt8(ascii: ",")).fields(Array(text.utf8)) == expected)
  }

  @Test func `what is not UTF-8 has no fields`() {
    #expect(RecordFormat(separator: UInt8(ascii: ";")).fields([0x61, 0xff]) == nil)
    #expect(RecordFormat(separator: UInt8(ascii: ",")).fields([0x22, 0xff, 0x22]) == nil)
  }

  @Test func `the suffix tells the separator, and --separator overrules it`() throws {
    #expect(try RecordFormat(separator: nil, file: "x.csv").separator == UInt8(ascii: ","))
    #expect(try RecordFormat(separator: nil, file: "X.TSV").separator == UInt8(ascii: "\t"))
    #expect(
      try RecordFormat(separator: nil, file: "UnicodeData.txt").separator == UInt8(ascii: ";"))
    #expect(try RecordFormat(separator: "|", file: "x.csv").separator == UInt8(ascii: "|"))
    #expect(throws: ImportError.self) { try RecordFormat(separator: nil, file: "x.dat") }
  }
}
