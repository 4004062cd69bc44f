// The handle that users hold: which engine it has, and the public words for what the engine does.

/// A database, behind a handle that any task may use at the same time and nobody can forget to close.
///
/// ```swift
/// let database = try await Database.open("app.db")
/// try await database.execute("INSERT INTO person VALUES (\(id), \(name))")
/// for (id, name) in try await database.query("SELECT id, name FROM person", as: (Int, String).self) {
///   print(id, name)
/// }
/// try await database.write { connection in                 // one transaction
///   try connection.execute("UPDATE account SET sum = sum - 1 WHERE id = 1")
///   try connection.execute("UPDATE account SET sum = sum + 1 WHERE id = 2")
/// }
/// try await database.close()                               // or let go of it
/// ```
///
/// **Threads.** One background thread writes, and others read, each with a connection of its own that nobody
/// else ever touches. Every method may be called from any task, at the same time as any other.
///
/// **Durability.** A write is acknowledged after its COMMIT has returned, in WAL mode with
/// `synchronous=FULL` (see ``Durability``): it survives a crash of the process, of the system and, if the
/// storage honours flushes, the loss of power. Writes that wait at the same time share one COMMIT, each
/// isolated by a savepoint of its own: the failure of one has no effect on the others. A write that comes
/// alone is committed at once.
///
/// **Order.** Writes take effect in the order in which they came. A query sees every write that was
/// acknowledged before it was sent.
///
/// **Deadlines.** A deadline spans the wait for room, the wait for its turn, and the run. What has not
/// started when it passes is dropped; what runs is interrupted and undone. Either way the call throws
/// `deadlineExceeded`. If the commit has begun, its outcome is returned.
///
/// **Cancellation.** As at a deadline, with `CancellationError`.
///
/// **Lifetime.** Letting go of the last reference finishes what was accepted, closes the connections and
/// waits for the threads' end, on a background thread itself without waiting. Use ``close()`` to wait
/// without blocking a thread and to hear of what was left open.
///
/// **Fork.** In a forked child the handle is dead: every method throws at once, and no connection is
/// touched.
public final class Database: Sendable {
  let engine: SQLiteEngine

  init(_ engine: SQLiteEngine) {
    self.engine = engine
  }

  // MARK: Opening

  /// Opens a SQLite database, and creates it where there is none.
  ///
  /// - Parameters:
  ///   - address: The path of a file; the same after `sqlite:`; the path of a folder, where `name` says
  ///     which database in it; or `:memory:` for a database that ends with its handle.
  ///   - name: The database's name in a folder: the file is `name.db`. Otherwise unused.
  ///   - configuration: How to open it.
  ///   - fileID: Where it was opened, for the list of live workers.
  ///   - line: Where it was opened, for the list of live workers.
  /// - Throws: ``DatabaseError`` with code `cannotOpen`, `busy` if another process holds it for longer than
  ///   the configuration's time, or `invalid` for a configuration out of range; `WorkerError` if there is no
  ///   thread or memory; `CancellationError`. Nothing is left open.
  ///
  /// **Blocking.** Never: the task suspends while a background thread opens the file.
  public static nonisolated(nonsending) func open(
    _ address: String, name: String = "", configuration: Configuration = Configuration(),
    fileID: StaticString = #fileID, line: Int = #line
  ) async throws -> Database {
    try configuration.validate()
    let address = try DatabaseAddress(address, name: name)
    return Database(
      try await SQLiteEngine.open(address, configuration, fileID: fileID, line: line))
  }

  // MARK: One statement

  /// What an executed statement did.
  public struct Effect: Sendable, Hashable {
    /// How many rows it inserted, changed or deleted, those of triggers and foreign keys not counted.
    public let changes: Int
    /// The row that it inserted last; `nil` if it inserted none.
    public let lastInsertID: Int64?
  }

  /// Executes one statement and returns when what it wrote is durable.
  ///
  /// - Parameters:
  ///   - sql: One statement; interpolated values are bound.
  ///   - deadline: See ``Database``.
  /// - Returns: What it did. Rows that it returns are dropped.
  /// - Throws: ``DatabaseError``: see its codes. `refused` for BEGIN, COMMIT, ROLLBACK, SAVEPOINT and
  ///   RELEASE, which would end the transaction that other callers share, and for a PRAGMA that would take
  ///   the durability away. `CancellationError`.
  ///
  /// **Blocking.** Never: the task suspends.
  /// **Neighbours.** `last_insert_rowid()` and `changes()` in a statement may see what other tasks did:
  /// use the result.
  /// **After close.** Throws `closed`.
  @discardableResult
  public nonisolated(nonsending) func execute(
    _ sql: SQL, deadline: ContinuousClock.Instant? = nil
  ) async throws -> Effect {
    try await engine.perform(sql, returningRows: false, deadline: deadline).effect
  }

  /// Executes one statement and returns its rows.
  ///
  /// A query runs on a reader's thread. A statement that writes, such as INSERT with RETURNING, runs on the
  /// writer's and is durable when this returns. To take rows as they come, use ``rows(_:)``.
  ///
  /// - Parameters:
  ///   - sql: One statement; interpolated values are bound.
  ///   - deadline: See ``Database``.
  /// - Returns: All of its rows.
  /// - Throws: As ``execute(_:deadline:)``; `wrongType` if a text is not UTF-8.
  ///
  /// **Blocking, after close.** As ``execute(_:deadline:)``.
  public nonisolated(nonsending) func query(
    _ sql: SQL, deadline: ContinuousClock.Instant? = nil
  ) async throws -> [Row] {
    try await engine.perform(sql, returningRows: true, deadline: deadline).rows.map { $0 }
  }

  /// Executes one statement and returns its rows as values, or tuples of values.
  ///
  /// ```swift
  /// let names = try await database.query("SELECT name FROM person", as: String.self)
  /// let pairs = try await database.query("SELECT id, name FROM person", as: (Int, String).self)
  /// ```
  ///
  /// - Parameters:
  ///   - sql: One statement; interpolated values are bound.
  ///   - type: A type of a value, or a tuple of as many as there are columns; an `Optional` where a value
  ///     may be NULL.
  ///   - deadline: See ``Database``.
  /// - Throws: As ``query(_:deadline:)``; `wrongType` if a row does not fit.
  @inlinable
  public nonisolated(nonsending) func query<each Column: ValueConvertible>(
    _ sql: SQL, as type: (repeat each Column).Type, deadline: ContinuousClock.Instant? = nil
  ) async throws -> [(repeat each Column)] {
    try RowDecoding.values(repeat (each Column).self)(await block(of: sql, deadline: deadline))
  }

  @usableFromInline
  nonisolated(nonsending) func block(
    of sql: SQL, deadline: ContinuousClock.Instant?
  ) async throws -> RowBlock {
    try await engine.perform(sql, returningRows: true, deadline: deadline).rows
  }

  /// Executes one statement and returns its rows as values of a type whose properties have the columns' names.
  ///
  /// - Parameters:
  ///   - sql: One statement; interpolated values are bound.
  ///   - type: The type. Its properties are types of values; an `Optional` may also have no column.
  ///   - deadline: See ``Database``.
  /// - Throws: As ``query(_:deadline:)``; `wrongType` or `noSuchColumn` if a row does not fit; what the
  ///   type's own decoding throws.
  @_disfavoredOverload
  public nonisolated(nonsending) func query<T: Decodable & SendableMetatype>(
    _ sql: SQL, as type: T.Type, deadline: ContinuousClock.Instant? = nil
  ) async throws -> [T] {
    let rows = try await engine.perform(sql, returningRows: true, deadline: deadline).rows
    return try RowDecoding<T>.decodable()(rows)
  }

  // MARK: Several statements

  /// Runs a closure as one transaction, and returns when what it wrote is durable.
  ///
  /// Nobody sees a part of it. If it throws, all its statements are undone, and nobody else's.
  ///
  /// - Parameters:
  ///   - deadline: See ``Database``.
  ///   - body: It runs on the writer's thread, which serves nobody else meanwhile: it should be short and
  ///     must not wait for this database. It takes effect once or not at all, but it **may run again** before
  ///     it does: transactions that wait at the same time share a COMMIT, and if the engine undoes all of
  ///     them, because the disk is full or a neighbour asked for it (`INSERT OR ROLLBACK`), each is done
  ///     again from its beginning. So what it does outside of the database it should do by what it returns.
  /// - Returns: What `body` returned.
  /// - Throws: What `body` throws; ``DatabaseError``; `CancellationError`.
  ///
  /// **Blocking.** Never: the task suspends.
  /// **After close.** Throws `closed`.
  @discardableResult
  public nonisolated(nonsending) func write<Result: Sendable>(
    deadline: ContinuousClock.Instant? = nil,
    _ body: @escaping @Sendable (borrowing Connection) throws -> Result
  ) async throws -> Result {
    try await engine.write(deadline: deadline, body)
  }

  /// Runs a closure whose queries all see one state of the database.
  ///
  /// - Parameters:
  ///   - deadline: See ``Database``.
  ///   - body: It runs once, on a reader's thread, which serves nobody else meanwhile; it must not wait for
  ///     this database. A statement of it that writes throws `refused`. Temporary tables and attached
  ///     databases are the writer's and are not seen.
  /// - Returns: What `body` returned.
  /// - Throws: What `body` throws; ``DatabaseError``; `CancellationError`.
  ///
  /// **Blocking, after close.** As ``write(deadline:_:)``.
  public nonisolated(nonsending) func read<Result: Sendable>(
    deadline: ContinuousClock.Instant? = nil,
    _ body: @escaping @Sendable (borrowing Connection) throws -> Result
  ) async throws -> Result {
    try await engine.read(deadline: deadline, body)
  }

  /// Runs a closure on the writer's thread outside of any transaction, for what can be done only there:
  /// VACUUM, ATTACH, PRAGMA.
  ///
  /// Each of its statements is a transaction by itself, which is not undone if the closure throws; a
  /// `savepoint` in it is one transaction.
  ///
  /// - Parameters:
  ///   - deadline: See ``Database``. What was committed before it passed stays.
  ///   - body: It runs once, on the writer's thread, which serves nobody else meanwhile; it must not wait for
  ///     this database.
  /// - Returns: What `body` returned.
  /// - Throws: What `body` throws; ``DatabaseError``; `CancellationError`.
  ///
  /// **Blocking, after close.** As ``write(deadline:_:)``.
  @discardableResult
  public nonisolated(nonsending) func exclusive<Result: Sendable>(
    deadline: ContinuousClock.Instant? = nil,
    _ body: @escaping @Sendable (borrowing Connection) throws -> Result
  ) async throws -> Result {
    try await engine.exclusive(deadline: deadline, body)
  }

  // MARK: The end

  /// Finishes what was accepted, closes the connections, and returns when the background threads have ended.
  ///
  /// It may be called any number of times, from any number of tasks; each returns after the end. Streams of
  /// rows that are in use end with `closed`.
  ///
  /// - Throws: ``DatabaseError`` with code `leftover`, which names them, if statements were still open, or
  ///   with the engine's code if it could not close; to every caller alike. The threads have ended all the
  ///   same.
  ///
  /// **Blocking.** Never: the task suspends.
  /// **Cancellation.** None: the task waits for the end.
  public nonisolated(nonsending) func close() async throws {
    try await engine.close()
  }

  /// What a database has done so far.
  public struct Statistics: Sendable, Hashable {
    /// Requests that the writer has answered: statements and closures, failed ones included.
    public let statements: Int
    /// Transactions that wrote and were committed.
    public let commits: Int
    /// Requests that ran once more because the engine had undone the transaction they shared.
    public let reruns: Int
    /// Connections that were given up because nobody knew whether a commit had taken place.
    public let replacedConnections: Int
  }

  /// What it has done so far. The figures are read one after the other and need not add up.
  public var statistics: Statistics { engine.statistics }

  /// The version of the SQLite that runs.
  package static var sqliteVersion: String { SQLiteEngine.version }
}
