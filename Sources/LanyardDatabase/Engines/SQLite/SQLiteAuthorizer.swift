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
    /// A statement in a caller's transaction: as a member's, but for the PRAGMAs that only look.
    case transaction
    /// A caller's statement, compiled outside of any transaction.
    case outside
  }

  struct Seen: OptionSet {
    let rawValue: Int
    static let write = Seen(rawValue: 1 << 0)
    static let transactionControl = Seen(rawValue: 1 << 1)
    static let pragma = Seen(rawValue: 1 << 2)
    static let attach = Seen(rawValue: 1 << 3)
    static let schema = Seen(rawValue: 1 << 4)
    static let insert = Seen(rawValue: 1 << 5)
    /// It asks which row was inserted last.
    static let lastRow = Seen(rawValue: 1 << 6)
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
  private static let guardedPragmas: Set<String> = [
    "journal_mode", "synchronous", "locking_mode", "query_only", "busy_timeout",
  ]

  /// PRAGMAs that do in a transaction what they do outside, and nothing when they are compiled.
  private static let harmlessPragmas: Set<String> = [
    "application_id", "collation_list", "compile_options", "database_list", "encoding",
    "foreign_key_check", "foreign_key_list", "freelist_count", "function_list", "index_info",
    "index_list", "index_xinfo", "integrity_check", "module_list", "page_count", "page_size",
    "pragma_list", "quick_check", "schema_version", "table_info", "table_list", "table_xinfo",
    "user_version",
  ]

  fileprivate func authorize(_ action: Int32, _ first: String?, _ second: String?) -> Int32 {
    guard mode != .trusted else { return SQLITE_OK }
    switch action {
    case SQLITE_FUNCTION:
      if second == "last_insert_rowid" { seen.insert(.lastRow) }
      return SQLITE_OK
    case SQLITE_SELECT, SQLITE_READ, SQLITE_RECURSIVE:
      return SQLITE_OK
    case SQLITE_INSERT, SQLITE_UPDATE, SQLITE_DELETE:
      seen.insert(.write)
      if action == SQLITE_INSERT { seen.insert(.insert) }
      return SQLITE_OK
    case SQLITE_TRANSACTION, SQLITE_SAVEPOINT:
      seen.insert(.transactionControl)
      return SQLITE_DENY
    case SQLITE_PRAGMA:
      seen.insert(.pragma)
      let name = (first ?? "").lowercased()
      switch mode {
      case .trusted:
        return SQLITE_OK
      case .member:
        return SQLITE_DENY
      case .transaction:
        return Self.harmlessPragmas.contains(name) ? SQLITE_OK : SQLITE_DENY
      case .outside:
        guard second != nil, Self.guardedPragmas.contains(name) else { return SQLITE_OK }
        forbiddenPragma = name
        return SQLITE_DENY
      }
    case SQLITE_ATTACH, SQLITE_DETACH:
      seen.insert(.attach)
      return mode == .transaction ? SQLITE_DENY : SQLITE_OK
    default:
      seen.insert(.schema)
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
