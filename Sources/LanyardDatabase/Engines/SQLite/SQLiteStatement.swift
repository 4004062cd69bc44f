// One compiled statement: bind, step, reset.
//
// `run` steps a statement to its end and resets it before anything else happens on the connection: one that
// is left in the middle would keep a COMMIT from succeeding and hold the WAL. Only a stream stops between
// its blocks, on a connection that nobody else uses meanwhile.
//
// A statement belongs to its connection, which finalizes it, and is used on the connection's thread alone.

import CSQLite

/// What a statement did and returned.
struct Answer: Sendable {
  let effect: Database.Effect
  let rows: RowBlock
}

/// @safe: its pointers are good until the connection finalizes it, which is its last use.
@safe
final class SQLiteStatement {
  /// Where a statement may run.
  ///
  ///   seen while it was compiled                                   kind
  ///   read-only, nothing but reading                               read
  ///   INSERT, UPDATE or DELETE, and nothing but reading beside     write
  ///   anything else that a transaction can hold: DDL, ANALYZE, REINDEX   schema
  ///   ATTACH, DETACH, and VACUUM, which shows as not read-only and nothing at all   outside
  enum Kind {
    case read, write, schema, outside
  }

  let sql: String
  let kind: Kind
  /// What SQLite said of it. If it asks for the row that was inserted last, that must not be touched.
  private let seen: SQLiteAuthorizer.Seen

  /// The place in the connection's cache: the higher, the later it was used.
  var lastUse: UInt64 = 0

  private let connection: OpaquePointer
  private let statement: OpaquePointer

  init(
    _ statement: OpaquePointer, of connection: OpaquePointer, sql: String, kind: Kind,
    seen: SQLiteAuthorizer.Seen = []
  ) {
    unsafe self.statement = statement
    unsafe self.connection = connection
    self.sql = sql
    self.kind = kind
    self.seen = seen
  }

  /// Whether SQLite says that it may change the file.
  var changesSomething: Bool { unsafe sqlite3_stmt_readonly(statement) == 0 }

  /// The last use. Its result is the last step's, which was reported then.
  func finalize() {
    unsafe sqlite3_finalize(statement)
  }

  /// Runs it once, to its end.
  func run(_ values: [Value] = [], returningRows: Bool = false) throws(DatabaseError) -> Answer {
    defer { reset() }
    try bind(values)
    // So that afterwards another number than 0 is this statement's own. Those that follow in a closure may
    // ask for the one before.
    let before = unsafe sqlite3_last_insert_rowid(connection)
    let asks = seen.contains(.lastRow)
    if kind == .write, !asks { unsafe sqlite3_set_last_insert_rowid(connection, 0) }
    defer {
      if kind == .write, unsafe sqlite3_last_insert_rowid(connection) == 0 {
        unsafe sqlite3_set_last_insert_rowid(connection, before)
      }
    }
    var rows = RowBlock.empty
    if returningRows {
      rows = try self.rows(upTo: .max, bytes: .max).block
    } else {
      while try step() {}
    }
    let changes = kind == .write ? Int(unsafe sqlite3_changes64(connection)) : 0
    let hasInserted = kind == .write && (!asks || seen.contains(.insert) && changes > 0)
    let inserted = hasInserted ? unsafe sqlite3_last_insert_rowid(connection) : 0
    return Answer(
      effect: Database.Effect(changes: changes, lastInsertID: inserted == 0 ? nil : inserted),
      rows: rows)
  }

  // MARK: Piece by piece

  func bind(_ values: [Value]) throws(DatabaseError) {
    let places = Int(unsafe sqlite3_bind_parameter_count(statement))
    guard places == values.count else {
      throw DatabaseError(
        .statement, "the statement has \(places) places for values and got \(values.count)",
        advice: "interpolate the values, and write no placeholders of your own", sql: sql)
    }
    for (index, value) in values.enumerated() {
      let result = bind(value, at: Int32(index + 1))
      guard result == SQLITE_OK else { throw unsafe .sqlite(result, of: connection, sql: sql) }
    }
  }

  /// Steps until one of the limits is passed or there are no more rows.
  ///
  /// - Parameter bytes: A limit of the memory that the values take, roughly.
  func rows(upTo limit: Int, bytes: Int) throws(DatabaseError) -> (block: RowBlock, isLast: Bool) {
    var columns: Columns?
    var values: [Value] = []
    var count = 0
    var size = 0
    while count < limit, size < bytes {
      guard try step() else {
        // An answer without rows has columns all the same.
        let columns = columns ?? Columns(columnNames())
        return (RowBlock(columns: columns, values: values, count: count), true)
      }
      // After the first step: a changed schema shows by then.
      let names = columns ?? Columns(columnNames())
      columns = names
      for index in 0..<Int32(names.names.count) {
        let value = try column(index)
        size += value.size
        values.append(value)
      }
      count += 1
    }
    return (
      RowBlock(columns: columns ?? Columns(columnNames()), values: values, count: count), false
    )
  }

  /// Ends a run. Its result is the last step's, which has been seen.
  func reset() {
    unsafe sqlite3_reset(statement)
    unsafe sqlite3_clear_bindings(statement)
  }

  /// Whether there is a row.
  private func step() throws(DatabaseError) -> Bool {
    let result = unsafe sqlite3_step(statement)
    if result == SQLITE_ROW { return true }
    guard result == SQLITE_DONE else { throw unsafe .sqlite(result, of: connection, sql: sql) }
    return false
  }

  private func bind(_ value: Value, at place: Int32) -> Int32 {
    switch value {
    case .null:
      return unsafe sqlite3_bind_null(statement, place)
    case .integer(let integer):
      return unsafe sqlite3_bind_int64(statement, place, integer)
    case .real(let real):
      return unsafe sqlite3_bind_double(statement, place, real)
    case .text(var text):
      // SQLite copies, so the bytes need not outlive the call.
      return text.withUTF8 { bytes in
        unsafe lanyard_sqlite_bind_text(statement, place, bytes.baseAddress, UInt64(bytes.count))
      }
    case .blob(let blob):
      return unsafe blob.withUnsafeBytes { bytes in
        unsafe lanyard_sqlite_bind_blob(statement, place, bytes.baseAddress, UInt64(bytes.count))
      }
    }
  }

  private func columnNames() -> [String] {
    let count = unsafe sqlite3_column_count(statement)
    return (0..<count).map { index in
      unsafe sqlite3_column_name(statement, index).map { unsafe String(cString: $0) } ?? ""
    }
  }

  /// A column of the current row. The pointers are good until the next step; what they point to is copied.
  private func column(_ index: Int32) throws(DatabaseError) -> Value {
    switch unsafe sqlite3_column_type(statement, index) {
    case SQLITE_INTEGER:
      return .integer(unsafe sqlite3_column_int64(statement, index))
    case SQLITE_FLOAT:
      return .real(unsafe sqlite3_column_double(statement, index))
    case SQLITE_TEXT:
      guard let start = unsafe sqlite3_column_text(statement, index) else { throw noMemory() }
      let count = Int(unsafe sqlite3_column_bytes(statement, index))
      let bytes = unsafe UnsafeBufferPointer(start: start, count: count)
      // Faster than a generic validation: what had to be repaired differs.
      var text = unsafe String(decoding: bytes, as: UTF8.self)
      guard text.withUTF8({ unsafe $0.elementsEqual(bytes) }) else {
        let name = columnNames()[Int(index)]
        throw DatabaseError(
          .wrongType, "column \"\(name)\" holds text that is not UTF-8",
          advice: "read its bytes: CAST(\(name) AS BLOB)", sql: sql)
      }
      return .text(text)
    case SQLITE_BLOB:
      let count = Int(unsafe sqlite3_column_bytes(statement, index))
      guard count > 0 else { return .blob([]) }
      guard let bytes = unsafe sqlite3_column_blob(statement, index) else { throw noMemory() }
      return .blob(unsafe Array(UnsafeRawBufferPointer(start: bytes, count: count)))
    default:
      return .null
    }
  }

  /// For a column that is not NULL and has no bytes.
  private func noMemory() -> DatabaseError {
    unsafe .sqlite(SQLITE_NOMEM, of: connection, sql: sql)
  }
}

extension Value {
  /// The memory that it takes, roughly.
  fileprivate var size: Int {
    switch self {
    case .null, .integer, .real: MemoryLayout<Value>.stride
    case .text(let text): MemoryLayout<Value>.stride + text.utf8.count
    case .blob(let bytes): MemoryLayout<Value>.stride + bytes.count
    }
  }
}

extension DatabaseError {
  /// The connection's latest error, in its words.
  static func sqlite(_ result: Int32, of connection: OpaquePointer, sql: String? = nil)
    -> DatabaseError
  {
    let message = unsafe sqlite3_errmsg(connection).map { unsafe String(cString: $0) }
    return DatabaseError(sqlite: result, message ?? "SQLite reports \(result)", sql: sql)
  }
}
