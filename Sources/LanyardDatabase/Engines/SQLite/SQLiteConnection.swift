// The connection to one database: opened, used and closed on one thread, the worker's.
//
// Not Sendable, so the compiler keeps it there, but for the one place that holds it (`GroupCommit`). It is
// opened without SQLite's own locks, with a WAL, `synchronous=FULL`, foreign keys, and an authorizer that
// tells what each statement does. Statements are cached by their text, at most `cacheLimit` of them; the
// one that was used longest ago goes first.

import CSQLite

/// @safe: its pointer is good from `init` to `close`, and only these files hand it to SQLite.
@safe
final class SQLiteConnection {
  static let cacheLimit = 128
  static let busyTimeout: Int32 = 5000  // milliseconds

  private let connection: OpaquePointer
  private let authorizer = SQLiteAuthorizer()
  private var cache: [String: SQLiteStatement] = [:]
  private var uses: UInt64 = 0

  // The library's own statements; made in `configure`, finalized in `close` with all others.
  private var beginImmediate: SQLiteStatement
  private var commitTransaction: SQLiteStatement
  private var rollbackTransaction: SQLiteStatement
  private var savepoint: SQLiteStatement
  private var rollbackToSavepoint: SQLiteStatement
  private var releaseSavepoint: SQLiteStatement

  // MARK: Opening

  /// Opens a database, and creates it where there is none.
  init(path: String) throws(DatabaseError) {
    var opened: OpaquePointer?
    let flags =
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
    let result = unsafe sqlite3_open_v2(path, &opened, flags, nil)
    guard let connection = unsafe opened else {
      throw .cannotOpen(path, DatabaseError(sqlite: result, "there is not enough memory"))
    }
    do throws(DatabaseError) {
      guard result == SQLITE_OK else { throw unsafe .sqlite(result, of: connection) }
      unsafe try Self.configure(connection, isFile: path != ":memory:")
      func own(_ sql: String) throws(DatabaseError) -> SQLiteStatement {
        unsafe try Self.compile(sql, on: connection, kind: .alone)
      }
      beginImmediate = try own("BEGIN IMMEDIATE")
      commitTransaction = try own("COMMIT")
      rollbackTransaction = try own("ROLLBACK")
      savepoint = try own("SAVEPOINT lanyard_member")
      rollbackToSavepoint = try own("ROLLBACK TO lanyard_member")
      releaseSavepoint = try own("RELEASE lanyard_member")
    } catch {
      unsafe sqlite3_close_v2(connection)  // with the statements that were made so far
      throw .cannotOpen(path, error)
    }
    unsafe self.connection = connection
    unsafe authorizer.install(on: connection)
  }

  private static func configure(_ connection: OpaquePointer, isFile: Bool) throws(DatabaseError) {
    unsafe sqlite3_busy_timeout(connection, busyTimeout)
    for (flag, value) in [
      (SQLITE_DBCONFIG_DEFENSIVE, 1), (SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
      (SQLITE_DBCONFIG_ENABLE_FKEY, 1),
    ] as [(Int32, Int32)] {
      let result = unsafe lanyard_sqlite_configure(connection, flag, value)
      guard result == SQLITE_OK else { throw unsafe .sqlite(result, of: connection) }
    }
    // Read back: what was asked for is not always what one gets.
    func set(_ sql: String, expecting expected: Value) throws(DatabaseError) {
      let statement = unsafe try compile(sql, on: connection, kind: .alone)
      defer { statement.finalize() }
      let value = try statement.run([], returningRows: true).rows.first?[0]
      guard value == expected else {
        throw DatabaseError(
          .cannotOpen, "\(sql) was refused",
          advice: "put the file on a local file system that allows shared memory")
      }
    }
    if isFile { try set("PRAGMA journal_mode = WAL", expecting: .text("wal")) }
    let synchronous = unsafe try compile("PRAGMA synchronous = FULL", on: connection, kind: .alone)
    defer { synchronous.finalize() }
    _ = try synchronous.run([], returningRows: false)
    try set("PRAGMA synchronous", expecting: .integer(2))
  }

  // MARK: Compiling

  private static func compile(
    _ sql: String, on connection: OpaquePointer, kind: SQLiteStatement.Kind
  ) throws(DatabaseError) -> SQLiteStatement {
    let result = unsafe compile(sql, on: connection)
    guard let statement = unsafe result.statement else {
      throw unsafe .sqlite(result.code, of: connection, sql: sql)
    }
    return unsafe SQLiteStatement(statement, of: connection, sql: sql, kind: kind)
  }

  /// Compiles the first statement of a text; `end` is where it ends.
  private static func compile(
    _ sql: String, on connection: OpaquePointer
  ) -> (code: Int32, statement: OpaquePointer?, end: Int) {
    unsafe sql.withCString { text in
      var statement: OpaquePointer?
      var rest: UnsafePointer<CChar>?
      let code = unsafe sqlite3_prepare_v3(
        connection, text, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, &rest)
      return unsafe (code, statement, rest.map { unsafe $0 - text } ?? 0)
    }
  }

  /// Whether text holds nothing but blanks, semicolons and comments.
  ///
  /// SQLite could be asked to compile it, but some statements have an effect when they are compiled.
  private static func isBlank(_ text: Substring.UTF8View) -> Bool {
    var rest = text
    func dropComment(through end: [UInt8]) {
      while !rest.isEmpty, !rest.starts(with: end) { rest = rest.dropFirst() }
      rest = rest.dropFirst(end.count)
    }
    while let byte = rest.first {
      if rest.starts(with: "--".utf8) {
        dropComment(through: Array("\n".utf8))
      } else if rest.starts(with: "/*".utf8) {
        dropComment(through: Array("*/".utf8))
      } else if " \t\n\r\u{c};".utf8.contains(byte) {
        rest = rest.dropFirst()
      } else {
        return false
      }
    }
    return true
  }

  enum Compiled {
    /// May run in a group, or alone if that is its kind. Give it back with `finish`.
    case statement(SQLiteStatement)
    /// To be compiled outside of any transaction: see `runPragma`.
    case pragma

    /// Whether it may not run in a group.
    var mustRunAlone: Bool {
      switch self {
      case .statement(let statement): statement.kind == .alone
      case .pragma: true
      }
    }
  }

  /// Compiles a caller's statement, or finds it in the cache. It has no effect on the database.
  func statement(_ sql: String) throws(DatabaseError) -> Compiled {
    uses += 1
    if let cached = cache[sql] {
      cached.lastUse = uses
      return .statement(cached)
    }
    let statement: SQLiteStatement
    do throws(DatabaseError) {
      statement = try compile(sql, .member)
    } catch {
      // Anything else is not the authorizer's.
      guard error.engineCode == SQLITE_AUTH else { throw error }
      if authorizer.seen.contains(.transactionControl) {
        throw DatabaseError(
          .refused, "transactions are not begun and ended by statements",
          advice: "callers share transactions here; each statement is one of its own", sql: sql)
      }
      if authorizer.seen.contains(.pragma) { return .pragma }
      throw error
    }
    guard statement.kind != .alone else { return .statement(statement) }
    if cache.count >= Self.cacheLimit,
      let oldest = cache.values.min(by: { $0.lastUse < $1.lastUse })
    {
      cache[oldest.sql] = nil
      oldest.finalize()
    }
    statement.lastUse = uses
    cache[sql] = statement
    return .statement(statement)
  }

  var cachedStatements: Int { cache.count }

  /// Gives a statement back after its run.
  func finish(_ statement: SQLiteStatement) {
    if statement.kind == .alone { statement.finalize() }
  }

  /// Compiles and runs a caller's PRAGMA, outside of any transaction.
  func runPragma(_ sql: String, _ values: [Value], returningRows: Bool) throws(DatabaseError)
    -> Answer
  {
    let statement: SQLiteStatement
    do throws(DatabaseError) {
      statement = try compile(sql, .pragma)
    } catch {
      guard let name = authorizer.forbiddenPragma else { throw error }
      throw DatabaseError(
        .refused, "PRAGMA \(name) cannot be changed here",
        advice: "the handle answers for it, so that no acknowledged write can be lost", sql: sql)
    }
    defer { statement.finalize() }
    return try statement.run(values, returningRows: returningRows)
  }

  private func compile(_ sql: String, _ mode: SQLiteAuthorizer.Mode) throws(DatabaseError)
    -> SQLiteStatement
  {
    try authorizer.watching(mode) { () throws(DatabaseError) -> SQLiteStatement in
      let (code, compiled, end) = unsafe Self.compile(sql, on: connection)
      guard code == SQLITE_OK else { throw unsafe .sqlite(code, of: connection, sql: sql) }
      guard let statement = unsafe compiled, Self.isBlank(sql.utf8.dropFirst(end)) else {
        unsafe sqlite3_finalize(compiled)
        throw DatabaseError(
          .statement,
          unsafe compiled == nil
            ? "there is no statement in it" : "there is more than one statement in it",
          advice: "send one statement at a time", sql: sql)
      }
      return unsafe SQLiteStatement(statement, of: connection, sql: sql, kind: kind(of: statement))
    }
  }

  private func kind(of statement: OpaquePointer) -> SQLiteStatement.Kind {
    if unsafe sqlite3_stmt_isexplain(statement) != 0 { return .read }
    if !authorizer.seen.isSubset(of: .write) { return .alone }
    if authorizer.seen.contains(.write) { return .write }
    return unsafe sqlite3_stmt_readonly(statement) != 0 ? .read : .alone
  }

  // MARK: Transactions

  /// Whether no transaction is open. After a failed step that is the only sign that SQLite has undone one.
  var isAutocommit: Bool { unsafe sqlite3_get_autocommit(connection) != 0 }

  /// Whether a foreign key that is checked at COMMIT is broken now.
  var hasDeferredViolations: Bool {
    var current: Int32 = 0
    var highest: Int32 = 0
    unsafe sqlite3_db_status(connection, SQLITE_DBSTATUS_DEFERRED_FKS, &current, &highest, 0)
    return current != 0
  }

  func begin() throws(DatabaseError) { _ = try beginImmediate.run([], returningRows: false) }
  func commit() throws(DatabaseError) { _ = try commitTransaction.run([], returningRows: false) }
  func beginMember() throws(DatabaseError) { _ = try savepoint.run([], returningRows: false) }
  func undoMember() throws(DatabaseError) {
    _ = try rollbackToSavepoint.run([], returningRows: false)
  }
  func endMember() throws(DatabaseError) { _ = try releaseSavepoint.run([], returningRows: false) }

  /// Undoes the transaction if one is open.
  func rollBack() {
    guard !isAutocommit else { return }
    // If this fails SQLite has rolled back by itself: there is no other reason, with no statement running.
    _ = try? rollbackTransaction.run([], returningRows: false)
  }

  // MARK: Closing

  /// Finalizes every statement and closes. The last use of the connection.
  ///
  /// - Throws: `leftover` if there were statements that nobody had finalized; the database is closed all the
  ///   same. Otherwise SQLite's own error, and it is not.
  func close() throws(DatabaseError) {
    rollBack()
    for statement in [
      beginImmediate, commitTransaction, rollbackTransaction, savepoint, rollbackToSavepoint,
      releaseSavepoint,
    ] + cache.values {
      statement.finalize()
    }
    cache = [:]
    var leftovers: [String] = []
    while let statement = unsafe sqlite3_next_stmt(connection, nil) {
      leftovers.append(unsafe sqlite3_sql(statement).map { unsafe String(cString: $0) } ?? "?")
      unsafe sqlite3_finalize(statement)
    }
    let result = unsafe sqlite3_close(connection)
    guard result == SQLITE_OK else { throw unsafe .sqlite(result, of: connection) }
    guard leftovers.isEmpty else {
      throw DatabaseError(
        .leftover, "\(leftovers.count) statements were still open at close",
        advice: "this is a mistake of the library; please report it",
        sql: leftovers.joined(separator: "; "))
    }
  }
}

extension DatabaseError {
  fileprivate static func cannotOpen(_ path: String, _ error: DatabaseError) -> DatabaseError {
    DatabaseError(
      .cannotOpen, "cannot open \"\(path)\": \(error.message)",
      advice: error.code == .cannotOpen
        ? error.advice
        : "give :memory:, or the path of a SQLite file in a folder that exists and is writable",
      engineCode: error.engineCode, extendedCode: error.extendedCode)
  }
}
