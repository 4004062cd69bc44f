// A caller's closure and what it may do on the connection that it was lent.
//
// SQLite can undo the whole transaction after a failing statement, and would then commit each of the next
// ones by itself. So the first statement that finds its transaction gone is the last that runs.

/// The worker's own, for the time of one closure.
final class SQLiteScope {
  enum Access {
    /// A transaction on the writer, which others may share.
    case write
    /// A transaction on a reader.
    case read
    /// The writer, outside of any transaction.
    case exclusive
  }

  private let connection: SQLiteConnection
  private let access: Access

  /// Why no statement runs any more.
  private(set) var lost: DatabaseError?

  init(_ connection: SQLiteConnection, _ access: Access) {
    self.connection = connection
    self.access = access
  }

  func run(_ sql: SQL, returningRows: Bool) throws(DatabaseError) -> Answer {
    if let lost { throw lost }
    let wasAutocommit = connection.isAutocommit
    do throws(DatabaseError) {
      return try connection.run(
        sql, access == .exclusive ? .outside : .transaction, readOnly: access == .read,
        returningRows: returningRows)
    } catch {
      if !wasAutocommit, connection.isAutocommit { lost = .transactionLost(after: error) }
      throw error
    }
  }

  func savepoint<Result>(_ body: () throws -> Result) throws -> Result {
    if let lost { throw lost }
    let wasAutocommit = connection.isAutocommit
    try connection.beginMember()
    do {
      let result = try body()
      if let lost { throw lost }
      try connection.endMember()
      return result
    } catch {
      // Outside of any transaction it was one, which is over: what follows has not lost anything.
      defer { if wasAutocommit { lost = nil } }
      if lost == nil, !connection.isAutocommit {
        do throws(DatabaseError) {
          try connection.undoMember()
          try connection.endMember()
        } catch let failure {
          connection.rollBack()
          lost = .transactionLost(after: failure)
        }
      }
      throw error
    }
  }
}

extension DatabaseError {
  /// What every statement after `error` is told.
  fileprivate static func transactionLost(after error: DatabaseError) -> DatabaseError {
    DatabaseError(
      .transactionLost, "the transaction was undone: \(error.message)",
      advice: "nothing of it was changed; do it again from its beginning",
      engineCode: error.engineCode, extendedCode: error.extendedCode, sql: error.sql)
  }
}
