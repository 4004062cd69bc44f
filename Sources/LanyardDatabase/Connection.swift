// What the closures of `write`, `read` and `exclusive` get: statements that run at once, on the engine's thread.

/// The database as the closure of `write`, `read` or `exclusive` sees it.
///
/// It is lent for the time of the closure, on the engine's own thread: it cannot be copied, kept, or taken
/// elsewhere, and its methods return when the statement has run. A closure must not wait for the database
/// that it runs on.
public struct Connection: ~Copyable {
  private let scope: SQLiteScope

  init(_ scope: SQLiteScope) {
    self.scope = scope
  }

  /// Executes one statement.
  ///
  /// - Parameter sql: One statement; interpolated values are bound.
  /// - Returns: What it did. Rows that it returns are dropped.
  /// - Throws: ``DatabaseError``: see its codes. What failed has changed nothing, and the closure may go on,
  ///   unless the code is `transactionLost`: then the engine has undone everything, and every later statement
  ///   of the closure throws it too. `refused` for a statement that cannot run here.
  @discardableResult
  public borrowing func execute(_ sql: SQL) throws(DatabaseError) -> Database.Effect {
    try scope.run(sql, returningRows: false).effect
  }

  /// Executes one statement and returns its rows.
  ///
  /// - Parameter sql: One statement; interpolated values are bound.
  /// - Throws: As ``execute(_:)``.
  public borrowing func query(_ sql: SQL) throws(DatabaseError) -> [Row] {
    try scope.run(sql, returningRows: true).rows.map { $0 }
  }

  /// Executes one statement and returns its rows as values, or tuples of values.
  ///
  /// - Parameters:
  ///   - sql: One statement; interpolated values are bound.
  ///   - type: A type of a value, or a tuple of as many as there are columns.
  /// - Throws: As ``execute(_:)``; `wrongType` if a row does not fit.
  public borrowing func query<each Column: ValueConvertible>(
    _ sql: SQL, as type: (repeat each Column).Type
  ) throws -> [(repeat each Column)] {
    try RowDecoding.values(repeat (each Column).self)(scope.run(sql, returningRows: true).rows)
  }

  /// Executes one statement and returns its rows as values of a type whose properties have the columns' names.
  ///
  /// - Parameters:
  ///   - sql: One statement; interpolated values are bound.
  ///   - type: The type.
  /// - Throws: As ``execute(_:)``; `wrongType` or `noSuchColumn` if a row does not fit; what the type's
  ///   own decoding throws.
  @_disfavoredOverload
  public borrowing func query<T: Decodable & SendableMetatype>(_ sql: SQL, as type: T.Type) throws
    -> [T]
  {
    try RowDecoding<T>.decodable()(scope.run(sql, returningRows: true).rows)
  }

  /// Runs a closure whose statements are undone together if it throws.
  ///
  /// Savepoints may be nested. In `exclusive`, where no transaction is open, the outermost is one.
  ///
  /// - Returns: What `body` returned.
  /// - Throws: What `body` throws, after its statements were undone; ``DatabaseError`` if that failed.
  @discardableResult
  public borrowing func savepoint<Result>(_ body: (borrowing Connection) throws -> Result) throws
    -> Result
  {
    try scope.savepoint { try body(Connection(scope)) }
  }
}
