// The kinds of request that SQLite's threads serve: a statement, and a closure.

/// A request as the threads see it, whatever it returns.
///
/// @unchecked: as `Member`.
protocol SQLiteMember: Member {
  var work: SQLiteWork { get }

  /// Runs on a connection and keeps what came of it for `deliver`.
  ///
  /// - Returns: The error, if it failed.
  func run(on connection: SQLiteConnection) -> (any Error)?

  /// Whether the last run failed.
  var hasFailed: Bool { get }

  /// Answers with what came of the last run.
  func deliver()
}

extension SQLiteMember {
  /// The statement, if it is one.
  var statementText: String? {
    guard case .statement(let member) = work else { return nil }
    return member.text
  }
}

enum SQLiteWork {
  /// One statement, with its text.
  case statement(StatementMember)
  /// A closure in a transaction.
  case transaction
  /// A closure outside of any.
  case exclusive
  /// The next rows of a stream, from a connection of its own.
  case fetch(SQLiteFetch)
  /// Nothing, but whoever serves it must have a connection.
  case opening
}

extension Result {
  fileprivate var error: Failure? {
    guard case .failure(let error) = self else { return nil }
    return error
  }
}

/// One statement.
///
/// @unchecked: as `Member`.
final class StatementMember: Reply<Answer>, SQLiteMember, @unchecked Sendable {
  let sql: SQL
  /// Put together on the caller's thread.
  let text: String
  let returnsRows: Bool

  // Its thread's own, while it runs.
  var statement: SQLiteStatement?
  private var outcome: Result<Answer, any Error>?

  /// Whether it only reads; known when it has run.
  private(set) var isQuery = false

  init(_ sql: SQL, returnsRows: Bool) {
    self.sql = sql
    self.returnsRows = returnsRows
    text = sql.text
  }

  var work: SQLiteWork { .statement(self) }

  /// Runs `statement`, which whoever compiled it has put there.
  func run(on connection: SQLiteConnection) -> (any Error)? {
    guard let statement else { preconditionFailure("it was not compiled") }
    defer {
      connection.finish(statement)
      self.statement = nil
    }
    isQuery = statement.kind == .read
    outcome = Result { try statement.run(sql.values, returningRows: returnsRows) }
    return outcome?.error
  }

  func runPragma(on connection: SQLiteConnection) -> (any Error)? {
    outcome = Result { try connection.run(sql, .outside, returningRows: returnsRows) }
    return outcome?.error
  }

  var hasFailed: Bool { outcome?.error != nil }

  func deliver() {
    guard let outcome else { preconditionFailure("it did not run") }
    answer(outcome)
  }
}

/// A closure.
///
/// @unchecked: as `Member`.
final class ClosureMember<Value: Sendable>: Reply<Value>, SQLiteMember, @unchecked Sendable {
  private let access: SQLiteScope.Access
  private let body: @Sendable (borrowing Connection) throws -> Value
  private var outcome: Result<Value, any Error>?

  init(
    _ access: SQLiteScope.Access, _ body: @escaping @Sendable (borrowing Connection) throws -> Value
  ) {
    self.access = access
    self.body = body
  }

  var work: SQLiteWork { access == .exclusive ? .exclusive : .transaction }

  func run(on connection: SQLiteConnection) -> (any Error)? {
    let scope = SQLiteScope(connection, access)
    outcome = Result {
      let value = try body(Connection(scope))
      if let lost = scope.lost { throw lost }
      return value
    }
    return outcome?.error
  }

  var hasFailed: Bool { outcome?.error != nil }

  func deliver() {
    guard let outcome else { preconditionFailure("it did not run") }
    answer(outcome)
  }
}

/// The first request of all: it is answered when there is a connection.
///
/// @unchecked: as `Member`.
final class OpeningMember: Reply<Void>, SQLiteMember, @unchecked Sendable {
  var work: SQLiteWork { .opening }
  var hasFailed: Bool { false }
  func run(on connection: SQLiteConnection) -> (any Error)? { nil }
  func deliver() { answer(.success(())) }
}
