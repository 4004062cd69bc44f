// Rows as text, in each of the formats.

import LanyardDatabase
import Testing

@testable import LanyardCLI

@Suite struct RowPrinterTests {
  private func printed(_ format: RowFormat, _ sql: SQL) async throws -> String {
    let database = try await Database.open(":memory:")
    var printer = RowPrinter(format)
    var output = ""
    for row in try await database.query(sql) { printer.add(row, to: &output) }
    printer.end(&output)
    try await database.close()
    return output
  }

  private static let everything: SQL = """
    SELECT 1 AS "number", 2.5 AS "real", NULL AS "nothing", 'a,"b' || char(10) || 'c' AS "text",
      x'00ff' AS "bytes", '' AS "empty"
    """

  @Test func `a table has aligned columns, numbers to the right, and one line a row`() async throws
  {
    #expect(
      try await printed(.table, "SELECT 'a' AS name, 5 AS n UNION ALL SELECT 'long', 1000")
        == """
        name  n
        ----  ----
        a        5
        long  1000
        (2 rows)

        """)
    #expect(
      try await printed(.table, Self.everything)
        == """
        number  real  nothing  text    bytes    empty
        ------  ----  -------  ------  -------  -----
             1   2.5  NULL     a,"b c  x'00ff'
        (1 row)

        """)
  }

  @Test func `wide characters take two cells, and marks that combine none`() async throws {
    #expect(
      try await printed(.table, "SELECT '漢字' AS a, 1 AS b UNION ALL SELECT 'e\u{301}', 2")
        == "a     b\n----  -\n漢字  1\ne\u{301}     2\n(2 rows)\n")
  }

  @Test func `CSV quotes what must be, and tells NULL from an empty text`() async throws {
    #expect(
      try await printed(.csv, Self.everything)
        == "number,real,nothing,text,bytes,empty\r\n1,2.5,,\"a,\"\"b\nc\",00ff,\"\"\r\n")
  }

  @Test func `JSON is one array, and JSON lines an object each`() async throws {
    let object =
      #"{"number": 1, "real": 2.5, "nothing": null, "text": "a,\"b\nc", "bytes": "00ff", "empty": ""}"#
    #expect(try await printed(.json, Self.everything) == "[\n  \(object)\n]\n")
    #expect(try await printed(.jsonl, Self.everything) == object + "\n")
    #expect(
      try await printed(.json, "SELECT 9e999 AS a") == "[\n  {\"a\": null}\n]\n", "no infinity")
    #expect(
      try await printed(.jsonl, "SELECT char(1) || '\\' AS a") == #"{"a": "\u0001\\"}"# + "\n")
  }

  @Test func `no rows are no rows`() async throws {
    #expect(try await printed(.table, "SELECT 1 WHERE 0") == "")
    #expect(try await printed(.csv, "SELECT 1 WHERE 0") == "")
    #expect(try await printed(.json, "SELECT 1 WHERE 0") == "[]\n")
    #expect(try await printed(.jsonl, "SELECT 1 WHERE 0") == "")
  }
}
