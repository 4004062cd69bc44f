// A SQLite database with its threads: one that writes, and those that read.
//
//   Database ---owns---> SQLiteEngine ---owns---> RequestLoop "lanyard-writer" ---holds---> GroupCommit
//                             \---owns---> RequestLoop "lanyard-reader", ... ---holds---> SQLiteReader
//
// The loops hold what serves them, and nothing that runs refers to the engine. So an abandoned database is
// released; that lets go of the loops, whose threads serve what was accepted, close their connections as
// their last act, and are joined.
//
// Where a statement goes is guessed from its first word and decided by SQLite: what a reader finds out to be
// no query goes on to the writer.

import CSQLite
import Lanyard
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

final class SQLiteEngine: Sendable {
  /// A reader's loop, and how many callers wait for it.
  private final class Reading: Sendable {
    let loop: RequestLoop<any SQLiteMember>
    let reader: SQLiteReader
    let waiting = Atomic<Int>(0)

    init(_ loop: RequestLoop<any SQLiteMember>, _ reader: SQLiteReader) {
      self.loop = loop
      self.reader = reader
    }
  }

  // Released in this order: the connection that closes last removes the WAL, and should be the writer's.
  private let readings: [Reading]
  let writer: RequestLoop<any SQLiteMember>
  private let group: GroupCommit

  private let isClosed = Atomic<Bool>(false)

  // MARK: Opening

  static nonisolated(nonsending) func open(
    _ address: DatabaseAddress, _ configuration: Database.Configuration,
    fileID: StaticString, line: Int
  ) async throws -> SQLiteEngine {
    let group = GroupCommit(address, configuration)
    var loop = Worker.Configuration()
    loop.capacity = configuration.capacity
    loop.batchLimit = configuration.batchLimit
    loop.onStop = { group.finish() }
    let writer = try RequestLoop<any SQLiteMember>(
      "lanyard-writer", configuration: loop, fileID: fileID, line: line
    ) { batch in group.serve(batch.all()) }
    do {
      let opening = OpeningMember()
      try await writer.send(opening)
      try await opening.value()
      return SQLiteEngine(
        try readings(of: address, configuration, fileID: fileID, line: line), writer, group)
    } catch {
      await writer.close()  // so that letting go does not wait for the thread here
      throw error
    }
  }

  private static func readings(
    of address: DatabaseAddress, _ configuration: Database.Configuration, fileID: StaticString,
    line: Int
  ) throws -> [Reading] {
    guard address != .memory else { return [] }
    return try (0..<(configuration.readers ?? min(4, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))))
      .map { _ in
        let reader = SQLiteReader(address, configuration)
        var loop = Worker.Configuration()
        loop.capacity = configuration.capacity
        loop.lazy = true
        loop.onStop = { reader.finish() }
        return Reading(
          try RequestLoop("lanyard-reader", configuration: loop, fileID: fileID, line: line) {
            batch in
            reader.serve(batch.all())
          }, reader)
      }
  }

  private init(
    _ readings: [Reading], _ writer: RequestLoop<any SQLiteMember>, _ group: GroupCommit
  ) {
    self.readings = readings
    self.writer = writer
    self.group = group
  }

  // MARK: Statements and closures

  nonisolated(nonsending) func perform(
    _ sql: SQL, returningRows: Bool, deadline: ContinuousClock.Instant?
  ) async throws -> Answer {
    if returningRows, sql.looksLikeQuery, let reading = leastBusy() {
      do {
        return try await read(StatementMember(sql, returnsRows: true), by: reading, deadline)
      } catch is NotForReaders {
        // Then the writer's.
      }
    }
    return try await send(StatementMember(sql, returnsRows: returningRows), to: writer, deadline)
  }

  nonisolated(nonsending) func write<Value: Sendable>(
    deadline: ContinuousClock.Instant?,
    _ body: @escaping @Sendable (borrowing Connection) throws -> Value
  ) async throws -> Value {
    try await send(ClosureMember(.write, body), to: writer, deadline)
  }

  nonisolated(nonsending) func read<Value: Sendable>(
    deadline: ContinuousClock.Instant?,
    _ body: @escaping @Sendable (borrowing Connection) throws -> Value
  ) async throws -> Value {
    let member = ClosureMember(.read, body)
    guard let reading = leastBusy() else { return try await send(member, to: writer, deadline) }
    return try await read(member, by: reading, deadline)
  }

  nonisolated(nonsending) func exclusive<Value: Sendable>(
    deadline: ContinuousClock.Instant?,
    _ body: @escaping @Sendable (borrowing Connection) throws -> Value
  ) async throws -> Value {
    try await send(ClosureMember(.exclusive, body), to: writer, deadline)
  }

  private func leastBusy() -> Reading? {
    readings.min { $0.waiting.load(ordering: .relaxed) < $1.waiting.load(ordering: .relaxed) }
  }

  private nonisolated(nonsending) func read<Value>(
    _ member: some SQLiteMember & Reply<Value>, by reading: Reading,
    _ deadline: ContinuousClock.Instant?
  ) async throws -> Value {
    reading.waiting.add(1, ordering: .relaxed)
    defer { reading.waiting.subtract(1, ordering: .relaxed) }
    return try await send(member, to: reading.loop, deadline)
  }

  private nonisolated(nonsending) func send<Value>(
    _ member: some SQLiteMember & Reply<Value>, to loop: RequestLoop<any SQLiteMember>,
    _ deadline: ContinuousClock.Instant?
  ) async throws -> Value {
    guard !isClosed.load(ordering: .acquiring) else { throw DatabaseError.closed }
    do {
      try await loop.send(member, deadline: deadline)
    } catch let error as WorkerError {
      throw DatabaseError.meaning(of: error)
    }
    guard let deadline else { return try await member.value() }
    // A child task: it has ended, on whatever way out, before this returns.
    async let _: Void = expire(member, at: deadline)
    return try await member.value()
  }

  private func expire(_ member: Member, at deadline: ContinuousClock.Instant) async {
    do {
      try await Task.sleep(until: deadline, clock: .continuous)
      member.withdraw(.expired)
    } catch {
      // The member was answered, or its task was cancelled: there is nothing left to expire.
    }
  }

  // MARK: Streams

  /// The caller's side of a stream.
  final class Cursor {
    private let engine: SQLiteEngine
    private let sql: SQL
    private let stream: SQLiteStream
    private let reading: Reading?
    private var asked: SQLiteFetch?
    private var hasEnded = false
    /// Whether the reader has let go of the stream, or never had it.
    private var isReleased = false

    fileprivate init(_ engine: SQLiteEngine, _ sql: SQL) {
      self.engine = engine
      self.sql = sql
      stream = SQLiteStream(sql)
      reading = engine.leastBusy()
    }

    deinit {
      stream.abandon()
      asked?.withdraw(.cancelled)  // it may compute for long
      guard let reading, !isReleased else { return }
      // Wakes the reader. If there is no room it is awake.
      try? reading.loop.trySend(SQLiteFetch(stream))
    }

    /// The next rows; nil after the last.
    nonisolated(nonsending) func next() async throws -> RowBlock? {
      guard !hasEnded else { return nil }
      do {
        guard let reading else { return try await everything() }
        let fetch = asked ?? SQLiteFetch(stream)
        let block: SQLiteStream.Block
        if asked != nil {
          asked = nil
          block = try await fetch.value()
        } else {
          block = try await engine.read(fetch, by: reading, nil)
        }
        hasEnded = block.isLast
        isReleased = block.isLast
        if !hasEnded { askAhead(reading) }
        return block.rows
      } catch is NotForReaders {
        return try await everything()
      } catch {
        // The reader may not have seen the question that was cancelled.
        hasEnded = true
        throw error
      }
    }

    private func askAhead(_ reading: Reading) {
      let fetch = SQLiteFetch(stream)
      do throws(WorkerError) {
        try reading.loop.trySend(fetch)
        asked = fetch
      } catch {
        // The next call asks itself, and hears why.
      }
    }

    /// The whole answer at once, where there is no connection to spare for a stream.
    private nonisolated(nonsending) func everything() async throws -> RowBlock? {
      hasEnded = true
      isReleased = true
      return try await engine.send(
        StatementMember(sql, returnsRows: true), to: engine.writer, nil
      ).rows
    }
  }

  func cursor(_ sql: SQL) -> Cursor { Cursor(self, sql) }

  // MARK: Closing

  nonisolated(nonsending) func close() async throws {
    isClosed.store(true, ordering: .releasing)
    for reading in readings { await reading.loop.close() }
    await writer.close()
    // Their threads were joined.
    try group.closing.get()
    for reading in readings { try reading.reader.closing.get() }
  }

  // MARK: Asking

  var statistics: Database.Statistics { group.statistics }

  /// How many callers wait for a reader; out of date as soon as it is read.
  var reads: Int { readings.reduce(0) { $0 + $1.waiting.load(ordering: .relaxed) } }

  static var version: String { unsafe String(cString: sqlite3_libversion()) }
}

extension RequestLoop.Batch {
  /// Takes every request out.
  fileprivate mutating func all() -> [Request] {
    var requests: [Request] = []
    requests.reserveCapacity(count)
    while let request = next() { requests.append(request) }
    return requests
  }
}

extension SQL {
  /// Whether its first word is one that queries begin with. A guess.
  fileprivate var looksLikeQuery: Bool {
    let blanks = " \t\n\r\u{c}(".utf8
    let start = text.utf8.drop { blanks.contains($0) }
    return ["select", "with", "values", "explain"].contains { word in
      start.prefix(word.utf8.count).elementsEqual(word.utf8) { $0 | 0x20 == $1 }
    }
  }
}

extension DatabaseError {
  /// What a failure of the thread means to who uses the database.
  fileprivate static func meaning(of error: WorkerError) -> any Error {
    switch error.code {
    case .closed: DatabaseError.closed
    case .deadlineExceeded: DatabaseError.deadlineExceeded
    default: error
    }
  }
}
