// What a statement is going to do, as SQLite itself tells while it compiles it.
//
// No SQL is parsed here. SQLite calls the authorizer for each thing that a statement will do; what it says
// then, together with whether the statement is read-only, gives the statement's kind (see the table at
// `SQLiteStatement.Kind`). Two kinds must not even be compiled in the middle of a group:
//
//   transaction control   it would end the transaction that others share: refused for good
//   PRAGMA                SQLite carries many of them out while it compiles them: refused in a group,
//                         and compiled again outside of any, with a list of those that are never allowed
//
// The connection owns the authorizer and outlives SQLite's pointer to it. It is used on the connection's
// thread alone: SQLite calls it from within prepare and step.

import CSQLite

final class SQLiteAuthorizer {
  enum Mode {
    /// The library's own statements, and those of SQLite's extensions: everything goes.
    case trusted
    /// A caller's statement, compiled for the group: transaction control and PRAGMA are refused.
    case member
    /// A caller's PRAGMA, compiled outside of any transaction.
    case pragma
  }

  struct Seen: OptionSet {
    let rawValue: Int
    static let write = Seen(rawValue: 1 << 0)
    static let transactionControl = Seen(rawValue: 1 << 1)
    static let pragma = Seen(rawValue: 1 << 2)
    static let other = Seen(rawValue: 1 << 3)
  }

  private var mode = Mode.trusted
  private(set) var seen: Seen = []

  /// The name of a PRAGMA that was refused for good.
  private(set) var forbiddenPragma: String?

  /// Compiles something in a mode, and notes what SQLite says about it.
  func watching<Result>(_ mode: Mode, _ compile: () throws(DatabaseError) -> Result)
    throws(DatabaseError) -> Result
  {
    seen = []
    forbiddenPragma = nil
    self.mode = mode
    defer { self.mode = .trusted }
    return try compile()
  }

  /// Settings that the handle answers for: with another value a write could be acknowledged and lost.
  private static let guardedPragmas: Set<String> = ["journal_mode", "synchronous", "locking_mode"]

  fileprivate func authorize(_ action: Int32, _ first: String?, _ second: String?) -> Int32 {
    guard mode != .trusted else { return SQLITE_OK }
    switch action {
    case SQLITE_SELECT, SQLITE_READ, SQLITE_FUNCTION, SQLITE_RECURSIVE:
      return SQLITE_OK
    case SQLITE_INSERT, SQLITE_UPDATE, SQLITE_DELETE:
      seen.insert(.write)
      return SQLITE_OK
    case SQLITE_TRANSACTION, SQLITE_SAVEPOINT:
      seen.insert(.transactionControl)
      return SQLITE_DENY
    case SQLITE_PRAGMA:
      seen.insert(.pragma)
      guard mode == .pragma else { return SQLITE_DENY }
      let name = (first ?? "").lowercased()
      guard second != nil, Self.guardedPragmas.contains(name) else { return SQLITE_OK }
      forbiddenPragma = name
      return SQLITE_DENY
    default:
      seen.insert(.other)
      return SQLITE_OK
    }
  }

  /// Makes SQLite ask this authorizer. It must live as long as the connection.
  func install(on connection: OpaquePointer) {
    // Not retained: the connection's object owns this one and closes before it lets go of it.
    unsafe sqlite3_set_authorizer(
      connection,
      { context, action, first, second, _, _ in
        guard let context = unsafe context else { return SQLITE_DENY }
        let authorizer = unsafe Unmanaged<SQLiteAuthorizer>.fromOpaque(context)
          .takeUnretainedValue()
        return unsafe authorizer.authorize(
          action, first.map { unsafe String(cString: $0) },
          second.map { unsafe String(cString: $0) })
      },
      Unmanaged.passUnretained(self).toOpaque())
  }
}
