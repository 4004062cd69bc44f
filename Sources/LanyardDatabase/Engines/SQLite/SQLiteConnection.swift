// One connection to a database: opened, used and closed on one thread, its worker's.
//
// Not Sendable, so the compiler keeps it there, but for the places that hold it for the worker. It is opened
// without SQLite's own locks, with a WAL, the durability that was asked for, foreign keys, and an authorizer
// that tells what each statement does. Statements are cached by their text; the one that was used longest
// ago goes first.

import CSQLite

/// @safe: its pointer is good from `init` to `close`, and only these files hand it to SQLite.
@safe
final class SQLiteConnection {
  enum Role {
    /// The only one that writes.
    case writer
    /// Refused by SQLite whatever would change the file.
    case reader
  }

  private let connection: OpaquePointer
  private let authorizer = SQLiteAuthorizer()
  let watch: SQLiteWatch
  private let cacheLimit: Int
  private var cache: [String: SQLiteStatement] = [:]
  private var uses: UInt64 = 0

  /// Whether the disk has failed in a statement of a closure or in a PRAGMA, whoever was told of it. For the
  /// writer, who sets it back.
  var diskHasFailed = false

  // The library's own statements; made by `init`, finalized by `close` with all others.
  private let beginDeferred: SQLiteStatement
  private let beginImmediate: SQLiteStatement
  private let commitTransaction: SQLiteStatement
  private let rollbackTransaction: SQLiteStatement
  private let savepoint: SQLiteStatement
  private let rollbackToSavepoint: SQLiteStatement
  private let releaseSavepoint: SQLiteStatement

  // MARK: Opening

  /// Opens a database. A writer creates it where there is none.
  init(
    _ address: DatabaseAddress, _ role: Role = .writer,
    _ configuration: Database.Configuration = Database.Configuration()
  ) throws(DatabaseError) {
    var opened: OpaquePointer?
    // A reader too is opened for writing: a WAL cannot be read without its shared memory.
    var flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
    if role == .writer { flags |= SQLITE_OPEN_CREATE }
    let result = unsafe Self.open(address.path, flags, configuration.vfs, &opened)
    guard let connection = unsafe opened else {
      throw .cannotOpen(address, DatabaseError(sqlite: result, "there is not enough memory"))
    }
    let watch = SQLiteWatch(busyTimeout: configuration.busyTimeout)
    do throws(DatabaseError) {
      guard result == SQLITE_OK else { throw unsafe .sqlite(result, of: connection) }
      unsafe watch.install(on: connection)
      unsafe try Self.configure(connection, address, role, configuration.durability)
      func own(_ sql: String) throws(DatabaseError) -> SQLiteStatement {
        unsafe try Self.compile(sql, on: connection, kind: .outside)
      }
      beginDeferred = try own("BEGIN")
      beginImmediate = try own("BEGIN IMMEDIATE")
      commitTransaction = try own("COMMIT")
      rollbackTransaction = try own("ROLLBACK")
      savepoint = try own("SAVEPOINT lanyard_member")
      rollbackToSavepoint = try own("ROLLBACK TO lanyard_member")
      releaseSavepoint = try own("RELEASE lanyard_member")
    } catch {
      // The statements that were made so far would keep it alive.
      while let statement = unsafe sqlite3_next_stmt(connection, nil) {
        unsafe sqlite3_finalize(statement)
      }
      unsafe sqlite3_close_v2(connection)
      throw .cannotOpen(address, error)
    }
    self.watch = watch
    unsafe self.connection = connection
    cacheLimit = configuration.statementCache
    unsafe authorizer.install(on: connection)
  }

  private static func open(
    _ path: String, _ flags: Int32, _ vfs: String?, _ connection: inout OpaquePointer?
  ) -> Int32 {
    guard let vfs else { return unsafe sqlite3_open_v2(path, &connection, flags, nil) }
    return unsafe vfs.withCString { unsafe sqlite3_open_v2(path, &connection, flags, $0) }
  }

  private static func configure(
    _ connection: OpaquePointer, _ address: DatabaseAddress, _ role: Role,
    _ durability: Database.Durability
  ) throws(DatabaseError) {
    for (flag, value) in [
      (SQLITE_DBCONFIG_DEFENSIVE, 1), (SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
      (SQLITE_DBCONFIG_ENABLE_FKEY, 1),
    ] as [(Int32, Int32)] {
      let result = unsafe lanyard_sqlite_configure(connection, flag, value)
      guard result == SQLITE_OK else { throw unsafe .sqlite(result, of: connection) }
    }
    @discardableResult
    func ask(_ sql: String) throws(DatabaseError) -> Value? {
      let statement = unsafe try compile(sql, on: connection, kind: .outside)
      defer { statement.finalize() }
      let rows = try statement.run(returningRows: true).rows
      return rows.count > 0 ? rows[0][0] : nil
    }
    guard role == .writer else {
      try ask("PRAGMA query_only = ON")
      return
    }
    // Read back: what was asked for is not always what one gets.
    func check(_ sql: String, _ value: Value) throws(DatabaseError) {
      guard try ask(sql) == value else {
        let isReadOnly = unsafe sqlite3_db_readonly(connection, "main") == 1
        throw DatabaseError(
          .cannotOpen, isReadOnly ? "it cannot be written" : "\(sql) was refused",
          advice: isReadOnly
            ? "let this user write the file and its folder, or open a copy"
            : "put the file on a local file system that allows shared memory")
      }
    }
    if address != .memory { try check("PRAGMA journal_mode = WAL", .text("wal")) }
    let level: Int64 = durability == .full ? 2 : 1
    try ask("PRAGMA synchronous = \(level)")
    try check("PRAGMA synchronous", .integer(level))
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
    /// Give it back with `finish`.
    case statement(SQLiteStatement)
    /// A PRAGMA: to be compiled again where it is going to run.
    case pragma
  }

  /// Compiles a caller's statement, or finds it in the cache. It has no effect on the database.
  ///
  /// - Parameter mode: Where it is going to run; a PRAGMA that may not is refused, or `pragma` for a member.
  func statement(_ sql: String, _ mode: SQLiteAuthorizer.Mode = .member) throws(DatabaseError)
    -> Compiled
  {
    uses += 1
    if let cached = cache[sql] {
      cached.lastUse = uses
      return .statement(cached)
    }
    let statement: SQLiteStatement
    do throws(DatabaseError) {
      statement = try compile(sql, mode)
    } catch {
      // Anything else is not the authorizer's.
      guard error.engineCode == SQLITE_AUTH else { throw error }
      if authorizer.seen.contains(.transactionControl) {
        throw DatabaseError(
          .refused, "transactions are not begun and ended by statements",
          advice:
            "each statement is a transaction; for several use write { }, and savepoint { } in it",
          sql: sql)
      }
      if let name = authorizer.forbiddenPragma {
        throw DatabaseError(
          .refused, "PRAGMA \(name) cannot be changed here",
          advice: "the handle answers for it; see Database.Configuration", sql: sql)
      }
      if authorizer.seen.contains(.pragma), mode == .member { return .pragma }
      throw .notInTransaction(sql)
    }
    // The authorizer is not asked about a VACUUM.
    if mode == .transaction, statement.kind == .outside, authorizer.seen.isEmpty {
      statement.finalize()
      throw .notInTransaction(sql)
    }
    guard statement.kind == .read || statement.kind == .write else { return .statement(statement) }
    if cache.count >= cacheLimit, let oldest = cache.values.min(by: { $0.lastUse < $1.lastUse }) {
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
    if statement.kind != .read, statement.kind != .write { statement.finalize() }
  }

  /// Compiles and runs a caller's statement where it may run at once.
  func run(
    _ sql: SQL, _ mode: SQLiteAuthorizer.Mode, readOnly: Bool = false, returningRows: Bool
  ) throws(DatabaseError) -> Answer {
    let text = sql.text
    try sql.check()
    guard case .statement(let statement) = try self.statement(text, mode) else {
      preconditionFailure("only a member's PRAGMA is put off")
    }
    defer { finish(statement) }
    guard !readOnly || statement.kind == .read || !statement.changesSomething else {
      throw DatabaseError(
        .refused, "the statement writes, and this is a read",
        advice: "use write { } for all of it", sql: text)
    }
    do throws(DatabaseError) {
      return try statement.run(sql.values, returningRows: returningRows)
    } catch {
      noteDisk(error)
      throw error
    }
  }

  /// Compiles a query for a stream, which keeps it out of the cache: it will not run to its end at once.
  ///
  /// - Returns: nil if it is none that this connection can run; the writer says what it is.
  func query(_ sql: SQL) throws(DatabaseError) -> SQLiteStatement? {
    let statement: SQLiteStatement
    do throws(DatabaseError) {
      statement = try compile(sql.text, .member)
    } catch {
      if error.isForTheWriter { return nil }
      throw error
    }
    guard statement.kind == .read else {
      statement.finalize()
      return nil
    }
    return statement
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
      return unsafe SQLiteStatement(
        statement, of: connection, sql: sql, kind: kind(of: statement),
        seen: authorizer.seen)
    }
  }

  private func kind(of statement: OpaquePointer) -> SQLiteStatement.Kind {
    let seen = authorizer.seen
    if unsafe sqlite3_stmt_isexplain(statement) != 0 { return .read }
    if !seen.isDisjoint(with: [.attach, .pragma]) { return .outside }
    if seen.contains(.schema) { return .schema }
    if seen.contains(.write) { return .write }
    return unsafe sqlite3_stmt_readonly(statement) != 0 ? .read : .outside
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

  /// Begins a transaction that sees one state of the database, from its first statement on.
  func beginReading() throws(DatabaseError) { try runOwn(beginDeferred) }
  /// Begins a transaction and takes the lock that only one writer can have.
  func begin() throws(DatabaseError) { try runOwn(beginImmediate) }
  func commit() throws(DatabaseError) { try runOwn(commitTransaction) }
  func beginMember() throws(DatabaseError) { try runOwn(savepoint) }
  func undoMember() throws(DatabaseError) { try runOwn(rollbackToSavepoint) }
  func endMember() throws(DatabaseError) { try runOwn(releaseSavepoint) }

  /// Runs one of the library's own statements, whose text means nothing to a caller.
  private func runOwn(_ statement: SQLiteStatement) throws(DatabaseError) {
    do throws(DatabaseError) {
      _ = try statement.run()
    } catch {
      noteDisk(error)
      var error = error
      error.sql = nil
      throw error
    }
  }

  private func noteDisk(_ error: DatabaseError) {
    if error.engineCode == SQLITE_IOERR { diskHasFailed = true }
  }

  /// Undoes the transaction if one is open.
  func rollBack() {
    guard !isAutocommit else { return }
    // If this fails SQLite has rolled back by itself: there is no other reason, with no statement running.
    _ = try? rollbackTransaction.run()
  }

  /// Moves the whole WAL into the database, makes it durable there, and empties the WAL.
  func emptyLog() throws(DatabaseError) {
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)"
    let statement = unsafe try Self.compile(sql, on: connection, kind: .outside)
    defer { statement.finalize() }
    let rows = try statement.run(returningRows: true).rows
    guard rows.count > 0, rows[0][0] == .integer(0) else {
      throw DatabaseError(sqlite: SQLITE_BUSY, "database is locked", sql: sql)
    }
  }

  // MARK: Closing

  /// Finalizes every statement and closes. The last use of the connection.
  ///
  /// - Throws: `leftover` if there were statements that nobody had finalized; the database is closed all the
  ///   same. Otherwise SQLite's own error, and it is not.
  func close() throws(DatabaseError) {
    rollBack()
    for statement in [
      beginDeferred, beginImmediate, commitTransaction, rollbackTransaction, savepoint,
      rollbackToSavepoint, releaseSavepoint,
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
  /// What a reader says of a statement that may be right elsewhere: it names something that only the writer
  /// has, or is none that readers run. If it is wrong the writer says so too.
  var isForTheWriter: Bool { engineCode == SQLITE_ERROR || engineCode == SQLITE_AUTH }

  fileprivate static func notInTransaction(_ sql: String) -> DatabaseError {
    DatabaseError(
      .refused, "the statement cannot run in a transaction",
      advice: "run it in exclusive { }, which is outside of any", sql: sql)
  }

  fileprivate static func cannotOpen(_ address: DatabaseAddress, _ error: DatabaseError)
    -> DatabaseError
  {
    let advice =
      switch error.engineCode {
      case _ where error.code == .cannotOpen: error.advice
      case SQLITE_NOTADB: "the file is something else, or encrypted: give the path of a SQLite file"
      case SQLITE_CORRUPT: "the file is damaged: restore it from a copy, or try sqlite3's .recover"
      case SQLITE_BUSY, SQLITE_LOCKED:
        "another process holds it: close it there, or allow a longer busyTimeout"
      case SQLITE_READONLY, SQLITE_PERM:
        "let this user write the file and its folder, or open a copy"
      default: "give :memory:, or the path of a SQLite file in a folder that exists and is writable"
      }
    return DatabaseError(
      error.code == .busy ? .busy : .cannotOpen,
      "cannot open \"\(address.path)\": \(error.message)", advice: advice,
      engineCode: error.engineCode, extendedCode: error.extendedCode)
  }
}
