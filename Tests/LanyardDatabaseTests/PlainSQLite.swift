// SQLite without Lanyard: what a file holds, seen by nobody who could be wrong in the same way.

import CSQLite
import Foundation

/// One connection, on the default file layer or another, used by one thread at a time.
final class PlainSQLite {
  struct Failure: Error, Equatable {
    let code: Int32
  }

  private var connection: OpaquePointer?

  init(_ path: String, vfs: String? = nil) throws {
    let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXRESCODE
    let result = sqlite3_open_v2(path, &connection, flags, vfs)
    guard result == SQLITE_OK else {
      throw Failure(code: result)  // the object is whole: deinit closes
    }
  }

  deinit {
    sqlite3_close(connection)
  }

  /// Runs a statement and returns its rows as texts; NULL is nil.
  @discardableResult
  func rows(_ sql: String) throws -> [[String?]] {
    var statement: OpaquePointer?
    var result = sqlite3_prepare_v2(connection, sql, -1, &statement, nil)
    defer { sqlite3_finalize(statement) }
    guard result == SQLITE_OK else { throw Failure(code: result) }
    var rows: [[String?]] = []
    while true {
      result = sqlite3_step(statement)
      guard result == SQLITE_ROW else { break }
      rows.append(
        (0..<sqlite3_column_count(statement)).map { column in
          sqlite3_column_text(statement, column).map { String(cString: $0) }
        })
    }
    guard result == SQLITE_DONE else { throw Failure(code: result) }
    return rows
  }
}
