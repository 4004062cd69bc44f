// The statement's text and values.

import LanyardDatabase
import LanyardTestSupport
import Testing

@Suite(.timeLimit(.native(minutes: 1)))
struct SQLTests {
  @Test func `an interpolated value is bound and never part of the text`() {
    let evil = "'); DROP TABLE t; --"
    let sql: SQL = "INSERT INTO t VALUES (\(evil), \(7), \(nil as Int?))"
    #expect(sql.text == "INSERT INTO t VALUES (?, ?, ?)")
    #expect(sql.values == [.text(evil), .integer(7), .null])
  }

  @Test func `a list is bound with commas between its values`() {
    let sql: SQL = "VALUES (\(list: ["a", "b", "c"]))"
    #expect(sql.text == "VALUES (?, ?, ?)")
    #expect(sql.values == [.text("a"), .text("b"), .text("c")])
    #expect(("IN (\(list: [] as [Int]))" as SQL).text == "IN ()")
  }

  @Test func `an identifier is quoted, its own quotes doubled`() {
    let sql: SQL = "SELECT \(identifier: "a \"b\"") FROM \(identifier: "t")"
    #expect(sql.text == #"SELECT "a ""b""" FROM "t""#)
    #expect(sql.values.isEmpty)
  }

  @Test func `raw text goes in as it is`() {
    #expect(SQL(unsafeRaw: "SELECT 1").text == "SELECT 1")
    #expect(("SELECT \(unsafeRaw: "1 + 1")" as SQL).text == "SELECT 1 + 1")
  }

  @Test func `its description has no values`() {
    let sql: SQL = "SELECT \("secret")"
    #expect("\(sql)" == "SELECT ?")
  }
}
