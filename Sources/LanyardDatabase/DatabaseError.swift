// What can go wrong with a database, as one error type.
//
// It keeps the engine's own number and words, and adds what to do. The SQL is its text alone: the values
// that were bound to it are in no description. Cancellation is always `CancellationError`.

/// The reason why a database did not do what it was asked.
public struct DatabaseError: Error, Hashable, Sendable {
  /// What went wrong, for code that decides by it.
  public let code: Code

  /// The engine's number for it, such as 19 of SQLite for a constraint; `nil` if the engine was not asked.
  public let engineCode: Int32?

  /// The engine's finer number, such as 2067 of SQLite for a UNIQUE constraint.
  public let extendedCode: Int32?

  /// What was wrong, in the engine's words where it has some.
  public let message: String

  /// What to do about it.
  public let advice: String

  /// The statement, without its values.
  public internal(set) var sql: String?

  init(
    _ code: Code, _ message: String, advice: String, engineCode: Int32? = nil,
    extendedCode: Int32? = nil, sql: String? = nil
  ) {
    self.code = code
    self.message = message
    self.advice = advice
    self.engineCode = engineCode
    self.extendedCode = extendedCode
    self.sql = sql
  }

  /// One kind of failure.
  public struct Code: Hashable, Sendable {
    private enum Kind: String {
      case cannotOpen, invalid, closed, deadlineExceeded, refused, statement, constraint, busy,
        full, io
      case interrupted, transactionLost, commitUnknown, leftover, noSuchColumn, wrongType, engine
    }

    private let kind: Kind

    /// The database cannot be opened.
    public static let cannotOpen = Code(kind: .cannotOpen)
    /// A number of the configuration is out of its range.
    public static let invalid = Code(kind: .invalid)
    /// Closing has begun or is over.
    public static let closed = Code(kind: .closed)
    /// The deadline passed first; nothing was changed.
    public static let deadlineExceeded = Code(kind: .deadlineExceeded)
    /// The statement is one that this library does not run.
    public static let refused = Code(kind: .refused)
    /// The statement is wrong: its syntax, a name in it, or its values.
    public static let statement = Code(kind: .statement)
    /// The statement would break a constraint of the schema.
    public static let constraint = Code(kind: .constraint)
    /// Someone else held the database for longer than the time that a statement waits.
    public static let busy = Code(kind: .busy)
    /// There is no room on the disk.
    public static let full = Code(kind: .full)
    /// The disk or the system failed.
    public static let io = Code(kind: .io)
    /// The statement was interrupted.
    public static let interrupted = Code(kind: .interrupted)
    /// The engine undid the whole transaction after a statement in it; nothing was changed.
    public static let transactionLost = Code(kind: .transactionLost)
    /// The write may have been committed or not, and nobody can tell.
    public static let commitUnknown = Code(kind: .commitUnknown)
    /// Statements were still open when the database closed.
    public static let leftover = Code(kind: .leftover)
    /// The row has no such column.
    public static let noSuchColumn = Code(kind: .noSuchColumn)
    /// The value is of another type.
    public static let wrongType = Code(kind: .wrongType)
    /// Anything else that the engine reports; see `engineCode`.
    public static let engine = Code(kind: .engine)
  }

  /// The same error of a statement, if it does not say of which.
  func with(sql: String?) -> Self {
    var error = self
    error.sql = self.sql ?? sql
    return error
  }
}

extension DatabaseError.Code: CustomStringConvertible {
  /// The code's name, such as `constraint`.
  public var description: String { kind.rawValue }
}

extension DatabaseError: CustomStringConvertible {
  /// What was wrong, what to do, and in which statement; without its values.
  public var description: String {
    let number = (extendedCode ?? engineCode).map { " (\($0))" } ?? ""
    let place = sql.map { " [SQL: \($0)]" } ?? ""
    return "\(message)\(number): \(advice)\(place)"
  }
}
