// Rows of a query as a sequence: they come in blocks, while the caller is busy with the block before.

/// The rows of a query, one after the other as the caller takes them.
///
/// ```swift
/// for try await row in database.rows("SELECT * FROM person") { print(row) }
/// for try await (id, name) in database.rows("SELECT id, name FROM person", as: (Int, String).self) { print(id, name) }
/// ```
///
/// Memory holds two blocks of rows at most, however many there are. All of them are of one state of the
/// database, that of the first row. As long as they are not all taken, SQLite keeps that state, and what is
/// written meanwhile makes the WAL longer: do not pause for long. Leaving the loop ends the query.
///
/// Nothing runs before the first row is asked for; each iteration runs the query anew. A database in memory
/// has one connection: there the whole answer is fetched at once. So it is for a statement that writes.
///
/// **Cancellation.** The loop throws `CancellationError`, and the query is interrupted.
/// **Lifetime.** An iteration keeps the database open. After ``Database/close()`` it throws `closed`.
public struct DatabaseRows<Element: Sendable>: AsyncSequence, Sendable {
  private let engine: SQLiteEngine
  private let sql: SQL
  private let decoding: RowDecoding<Element>

  init(_ engine: SQLiteEngine, _ sql: SQL, _ decoding: RowDecoding<Element>) {
    self.engine = engine
    self.sql = sql
    self.decoding = decoding
  }

  /// Begins anew.
  public func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(engine.cursor(sql), decoding)
  }

  /// One pass over the rows.
  public struct AsyncIterator: AsyncIteratorProtocol {
    private let cursor: SQLiteEngine.Cursor
    private let decoding: RowDecoding<Element>
    @usableFromInline var elements: [Element] = []
    @usableFromInline var position = 0

    fileprivate init(_ cursor: SQLiteEngine.Cursor, _ decoding: RowDecoding<Element>) {
      self.cursor = cursor
      self.decoding = decoding
    }

    /// The next row; `nil` after the last.
    @inlinable
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws -> Element? {
      if position == elements.count {
        guard try await fetch(isolation: actor) else { return nil }
      }
      defer { position += 1 }
      return elements[position]
    }

    /// The next row; `nil` after the last.
    public mutating func next() async throws -> Element? {
      try await next(isolation: nil)
    }

    /// Whether there are more rows; then they are in `elements`.
    @usableFromInline
    mutating func fetch(isolation actor: isolated (any Actor)?) async throws -> Bool {
      position = 0
      elements = []
      while elements.isEmpty {
        guard let block = try await cursor.next() else { return false }
        elements = try decoding(block)
      }
      return true
    }
  }
}

@available(*, unavailable, message: "an iterator is for one task")
extension DatabaseRows.AsyncIterator: Sendable {}

extension Database {
  /// The rows of a query, one after the other as the caller takes them: see ``DatabaseRows``.
  ///
  /// - Parameter sql: One statement; interpolated values are bound.
  /// - Returns: A sequence that throws what ``query(_:deadline:)`` throws.
  public func rows(_ sql: SQL) -> DatabaseRows<Row> {
    DatabaseRows(engine, sql, .row)
  }

  /// The rows of a query as values or tuples of values, one after the other as the caller takes them.
  ///
  /// - Parameters:
  ///   - sql: One statement; interpolated values are bound.
  ///   - type: A type of a value, or a tuple of as many as there are columns.
  @inlinable
  public func rows<each Column: ValueConvertible & Sendable>(
    _ sql: SQL, as type: (repeat each Column).Type
  ) -> DatabaseRows<(repeat each Column)> {
    decodedRows(sql, .values(repeat (each Column).self))
  }

  @usableFromInline
  func decodedRows<Element>(_ sql: SQL, _ decoding: RowDecoding<Element>) -> DatabaseRows<Element> {
    DatabaseRows(engine, sql, decoding)
  }

  /// The rows of a query as values of a type whose properties have the columns' names, one after the other
  /// as the caller takes them.
  ///
  /// - Parameters:
  ///   - sql: One statement; interpolated values are bound.
  ///   - type: The type.
  @_disfavoredOverload
  public func rows<T: Decodable & Sendable>(_ sql: SQL, as type: T.Type) -> DatabaseRows<T> {
    DatabaseRows(engine, sql, .decodable())
  }
}
