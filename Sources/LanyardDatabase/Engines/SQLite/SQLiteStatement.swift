// One compiled statement: bind, step to the end, reset.
//
// A statement is always stepped to its end and reset before anything else happens on the connection: one
// that is left in the middle would keep a COMMIT from succeeding and hold the WAL. It belongs to its
// connection, which finalizes it, and is used on the connection's thread alone.

import CSQLite

/// What a statement did and returned.
struct Answer: Sendable {
  let effect: Database.Effect
  let rows: [Row]
}

/// @safe: its pointers are good until the connection finalizes it, which is its last use.
@safe
final class SQLiteStatement {
  /// Where a statement may run.
  ///
  ///   seen while it was compiled                                   kind
  ///   read-only, nothing but reading                               read
  ///   INSERT, UPDATE or DELETE, and nothing but reading beside     write
  ///   anything else: DDL, ANALYZE, REINDEX, ATTACH, DETACH, PRAGMA, and VACUUM, which
  ///   shows as not read-only and nothing at all                    alone
  enum Kind {
    case read, write, alone
  }

  let sql: String
  let kind: Kind

  /// The place in the connection's cache: the higher, the later it was used.
  var lastUse: UInt64 = 0

  private let connection: OpaquePointer
  private let statement: OpaquePointer

  init(_ statement: OpaquePointer, of connection: OpaquePointer, sql: String, kind: Kind) {
    unsafe self.statement = statement
    unsafe self.connection = connection
    self.sql = sql
    self.kind = kind
  }

  /// The last use. Its result is the last step's, which was reported then.
  func finalize() {
    unsafe sqlite3_finalize(statement)
  }

  /// Runs it once, to its end.
  func run(_ values: [Value], returningRows: Bool) throws(DatabaseError) -> Answer {
    defer {
      // The result of a reset is the last step's, which has been seen.
      unsafe sqlite3_reset(statement)
      unsafe sqlite3_clear_bindings(statement)
    }
    try bind(values)
    // So that afterwards another number than 0 is this statement's own.
    if kind == .write { unsafe sqlite3_set_last_insert_rowid(connection, 0) }
    var columns: [String]?
    var rows: [Row] = []
    while true {
      let result = unsafe sqlite3_step(statement)
      if result == SQLITE_DONE { break }
      guard result == SQLITE_ROW else { throw unsafe .sqlite(result, of: connection, sql: sql) }
      guard returningRows else { continue }
      let names = columns ?? columnNames()  // after the first step: a changed schema shows by then
      columns = names
      rows.append(Row(columns: names, values: names.indices.map { column(Int32($0)) }))
    }
    let changes = kind == .write ? Int(unsafe sqlite3_changes64(connection)) : 0
    let inserted = kind == .write ? unsafe sqlite3_last_insert_rowid(connection) : 0
    return Answer(
      effect: Database.Effect(changes: changes, lastInsertID: inserted == 0 ? nil : inserted),
      rows: rows)
  }

  private func bind(_ values: [Value]) throws(DatabaseError) {
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
  private func column(_ index: Int32) -> Value {
    switch unsafe sqlite3_column_type(statement, index) {
    case SQLITE_INTEGER:
      return .integer(unsafe sqlite3_column_int64(statement, index))
    case SQLITE_FLOAT:
      return .real(unsafe sqlite3_column_double(statement, index))
    case SQLITE_TEXT:
      let text = unsafe sqlite3_column_text(statement, index)
      let count = Int(unsafe sqlite3_column_bytes(statement, index))
      return .text(
        unsafe String(decoding: UnsafeBufferPointer(start: text, count: count), as: UTF8.self))
    case SQLITE_BLOB:
      let bytes = unsafe sqlite3_column_blob(statement, index)
      let count = Int(unsafe sqlite3_column_bytes(statement, index))
      return .blob(unsafe Array(UnsafeRawBufferPointer(start: bytes, count: count)))
    default:
      return .null
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
