// SQLite's numbers as errors that say what to do.

import CSQLite

extension DatabaseError {
  /// The error for one of SQLite's results.
  ///
  /// - Parameter result: An extended result code.
  init(sqlite result: Int32, _ message: String, sql: String? = nil) {
    let primary = result & 0xff
    let (code, advice) = Self.meaning(ofSQLite: primary)
    self.init(code, message, advice: advice, engineCode: primary, extendedCode: result, sql: sql)
  }

  private static func meaning(ofSQLite primary: Int32) -> (Code, String) {
    switch primary {
    case SQLITE_ERROR: (.statement, "correct the statement")
    case SQLITE_CONSTRAINT: (.constraint, "nothing was changed; send values that fit the schema")
    case SQLITE_BUSY, SQLITE_LOCKED:
      (.busy, "someone else held the database for too long; try again, or find who does")
    case SQLITE_FULL: (.full, "make room on the disk and try again")
    case SQLITE_IOERR: (.io, "the disk or the system failed; look at the system's log")
    case SQLITE_READONLY, SQLITE_PERM, SQLITE_CANTOPEN, SQLITE_NOTADB, SQLITE_CORRUPT:
      (.io, "check the file, its folder and who may write them")
    case SQLITE_INTERRUPT: (.interrupted, "it was interrupted; nothing was changed")
    case SQLITE_TOOBIG, SQLITE_MISMATCH, SQLITE_RANGE: (.statement, "correct the values")
    default: (.engine, "see the engine's documentation of this number")
    }
  }

  /// A write whose end nobody knows: the disk failed in the commit, so it may be in the file or not.
  static func commitUnknown(after error: DatabaseError) -> DatabaseError {
    DatabaseError(
      .commitUnknown, error.message,
      advice: "the write may have been committed or not: look before you send it again",
      engineCode: error.engineCode, extendedCode: error.extendedCode, sql: error.sql)
  }

  static let deadlineExceeded = DatabaseError(
    .deadlineExceeded, "the deadline passed first", advice: "nothing was changed; allow more time")

  static let closed = DatabaseError(
    .closed, "the database is closed", advice: "send statements before close(), or open it again")
}
