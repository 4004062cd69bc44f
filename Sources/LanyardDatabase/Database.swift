// The handle that users hold: which engine it has, and the public words for what the engine does.

/// A database, behind a handle that any task may use at the same time and nobody can forget to close.
///
/// ```swift
/// let database = try await Database.open("app.db")
/// try await database.execute("INSERT INTO person VALUES (\(id), \(name))")
/// for row in try await database.query("SELECT name FROM person WHERE id > \(7)") {
///   print(try row.value("name", as: String.self))
/// }
/// try await database.close()                            // or let go of it
/// ```
///
/// **Threads.** One background thread has the connection, and nobody else ever touches it. Every method may
/// be called from any task, at the same time as any other.
///
/// **Durability.** A write is acknowledged after its COMMIT has returned, in WAL mode with
/// `synchronous=FULL`: it survives a crash of the process, of the system and, if the storage honours
/// flushes, the loss of power. Writes that wait at the same time share one COMMIT, each isolated by a
/// savepoint of its own: the failure of one has no effect on the others. A write that comes alone is
/// committed at once.
///
/// **Lifetime.** Letting go of the last reference finishes what was accepted, closes the connection and
/// waits for the thread's end, on the background thread itself without waiting. Use ``close()`` to wait
/// without blocking a thread and to hear of what was left open.
public final class Database: Sendable {
  let engine: SQLiteEngine

  init(_ engine: SQLiteEngine) {
    self.engine = engine
  }

  /// Opens a SQLite database, and creates it where there is none.
  ///
  /// - Parameters:
  ///   - path: The path of the file, or `:memory:` for a database that ends with its handle.
  ///   - fileID: Where it was opened, for the list of live workers.
  ///   - line: Where it was opened, for the list of live workers.
  /// - Throws: ``DatabaseError`` with code `cannotOpen`; `WorkerError` if there is no thread or memory;
  ///   `CancellationError` if the task was cancelled before it began. Nothing is left open.
  ///
  /// **Blocking.** Never: the task suspends while the background thread opens the file.
  public static nonisolated(nonsending) func open(
    _ path: String, fileID: StaticString = #fileID, line: Int = #line
  ) async throws -> Database {
    Database(try await SQLiteEngine.open(path, fileID: fileID, line: line))
  }

  /// What an executed statement did.
  public struct Effect: Sendable, Hashable {
    /// How many rows it inserted, changed or deleted, those of triggers and foreign keys not counted.
    public let changes: Int
    /// The row that it inserted last; `nil` if it inserted none.
    public let lastInsertID: Int64?
  }

  /// Executes one statement and returns when what it wrote is durable.
  ///
  /// - Parameter sql: One statement; interpolated values are bound.
  /// - Returns: What it did. Rows that it returns are dropped.
  /// - Throws: ``DatabaseError``: see its codes. `refused` for BEGIN, COMMIT, ROLLBACK, SAVEPOINT and
  ///   RELEASE, which would end the transaction that other callers share, and for a PRAGMA that would take
  ///   the durability away. `CancellationError` if the task was cancelled before the statement started.
  ///
  /// **Order.** Statements of one task take effect in the order in which it awaited them; those of several
  /// tasks in the order in which they came.
  /// **Blocking.** Never: the task suspends.
  /// **Cancellation.** A statement that has not started is dropped, and its task leaves at once. Afterwards
  /// it runs to its end and its result is returned.
  /// **Neighbours.** `last_insert_rowid()` and `changes()` in a statement may see what other tasks did:
  /// use the result.
  /// **After close.** Throws `closed`.
  @discardableResult
  public nonisolated(nonsending) func execute(_ sql: SQL) async throws -> Effect {
    try await engine.perform(sql, returningRows: false).effect
  }

  /// Executes one statement and returns its rows.
  ///
  /// A statement that writes, such as INSERT with RETURNING, is durable when this returns.
  ///
  /// - Parameter sql: One statement; interpolated values are bound.
  /// - Returns: All of its rows.
  /// - Throws: As ``execute(_:)``.
  ///
  /// **Order, blocking, cancellation, after close.** As ``execute(_:)``. A query sees every write that was
  /// acknowledged before it was sent.
  public nonisolated(nonsending) func query(_ sql: SQL) async throws -> [Row] {
    try await engine.perform(sql, returningRows: true).rows
  }

  /// Finishes what was accepted, closes the connection, and returns when the background thread has ended.
  ///
  /// It may be called any number of times, from any number of tasks; each returns after the end.
  ///
  /// - Throws: ``DatabaseError`` with code `leftover`, which names them, if statements were still open, or
  ///   with the engine's code if it could not close; to every caller alike. The thread has ended all the
  ///   same.
  ///
  /// **Blocking.** Never: the task suspends.
  /// **Cancellation.** None: the task waits for the end.
  public nonisolated(nonsending) func close() async throws {
    try await engine.close()
  }

  /// What a database has done so far.
  public struct Statistics: Sendable, Hashable {
    /// Statements that ran, failed ones included.
    public let statements: Int
    /// Transactions that wrote and were committed.
    public let commits: Int
    /// Statements that ran once more, alone, because a neighbour had undone the transaction they shared.
    public let reruns: Int
  }

  /// What it has done so far. The figures are read one after the other and need not add up.
  public var statistics: Statistics { engine.statistics }

  /// The version of the SQLite that runs.
  package static var sqliteVersion: String { SQLiteEngine.version }
}
