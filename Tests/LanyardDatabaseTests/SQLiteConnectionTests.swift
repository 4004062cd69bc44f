// The connection by itself, on the thread of the test.

import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 1)))
struct SQLiteConnectionTests {
  private func compile(_ sql: String, on connection: SQLiteConnection) throws -> SQLiteStatement {
    guard case .statement(let statement) = try connection.statement(sql) else {
      throw DatabaseError(.engine, "not a statement", advice: "")
    }
    return statement
  }

  @Test func `the cache is bounded, and the statement used longest ago goes first`() throws {
    var configuration = Database.Configuration()
    configuration.statementCache = 16
    let connection = try SQLiteConnection(.memory, .writer, configuration)
    let kept = try compile("SELECT 'kept'", on: connection)
    for number in 0..<(3 * configuration.statementCache) {
      let statement = try compile("SELECT \(number)", on: connection)
      #expect(try statement.run([], returningRows: true).rows[0][0] == .integer(Int64(number)))
      #expect(try compile("SELECT 'kept'", on: connection) === kept)
      #expect(connection.cachedStatements <= configuration.statementCache)
    }
    #expect(connection.cachedStatements == configuration.statementCache)
    try connection.close()
  }

  @Test func `close finalizes what was left open, closes, and names it`() throws {
    let connection = try SQLiteConnection(.memory)
    _ = try compile("CREATE TABLE t (v)", on: connection)  // not cached, and never given back
    let error = try #require(throws: DatabaseError.self) { try connection.close() }
    #expect(error.code == .leftover)
    #expect(error.sql == "CREATE TABLE t (v)")
  }

  @Test(
    arguments: [
      ("SELECT 1", .read), ("SELECT * FROM t", .read), ("EXPLAIN DELETE FROM t", .read),
      (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3) SELECT * FROM n",
        .read
      ),
      ("INSERT INTO t VALUES (1)", .write), ("REPLACE INTO t VALUES (1)", .write),
      ("UPDATE t SET v = 1", .write), ("DELETE FROM t", .write),
      ("INSERT INTO t VALUES (1) RETURNING v", .write),
      ("CREATE TABLE u (v)", .schema), ("CREATE TABLE IF NOT EXISTS t (v)", .schema),
      ("DROP TABLE t", .schema), ("ALTER TABLE t ADD COLUMN w", .schema),
      ("CREATE INDEX i ON t(v)", .schema),
      ("CREATE TEMP TABLE u (v)", .schema), ("CREATE VIEW w AS SELECT 1", .schema),
      ("VACUUM", .outside), ("ANALYZE", .schema), ("REINDEX", .schema),
      ("ATTACH ':memory:' AS o", .outside),
    ] as [(String, SQLiteStatement.Kind)])
  func `a statement's kind is what SQLite says it will do`(
    sql: String, expected: SQLiteStatement.Kind
  ) throws {
    let connection = try SQLiteConnection(.memory)
    let table = try compile("CREATE TABLE t (v UNIQUE)", on: connection)
    _ = try table.run([], returningRows: false)
    connection.finish(table)
    let statement = try compile(sql, on: connection)
    #expect(statement.kind == expected)
    connection.finish(statement)
    try connection.close()
  }
}
