// A query whose rows go to the caller block by block, as the caller takes them.
//
// Its statement waits between two blocks on a connection that only this stream uses, so it sees one state of
// the database from its first row to its last. The caller asks for the next block when it begins to use the
// one before: at most two blocks are in memory.

import Synchronization

/// The reader's side of a stream: its thread's own, but `abandon`.
///
/// @unchecked: see above.
final class SQLiteStream: @unchecked Sendable {
  // The first block comes soon, and later ones are worth the two threads' handing over.
  private static let blockRows = (first: 64, last: 4096)
  private static let blockBytes = 1 << 18

  private let sql: SQL
  private var open: (connection: SQLiteConnection, statement: SQLiteStatement)?
  private var blockRows = SQLiteStream.blockRows.first
  private let abandoned = Atomic<Bool>(false)

  init(_ sql: SQL) {
    self.sql = sql
  }

  /// Nobody will ask for more rows. From any thread; the reader ends it when it serves next.
  func abandon() { abandoned.store(true, ordering: .releasing) }
  var isAbandoned: Bool { abandoned.load(ordering: .acquiring) }

  struct Block: Sendable {
    let rows: RowBlock
    let isLast: Bool
  }

  func next(for member: Member, on reader: SQLiteReader) throws -> Block {
    let (connection, statement) = try open ?? begin(on: reader)
    do throws(DatabaseError) {
      let (rows, isLast) = try connection.watch.watching(member, patience: .zero) {
        () throws(DatabaseError) in
        try statement.rows(upTo: blockRows, bytes: Self.blockBytes)
      }
      blockRows = min(2 * blockRows, Self.blockRows.last)
      if isLast { end(on: reader) }
      return Block(rows: rows, isLast: isLast)
    } catch {
      end(on: reader)
      throw member.stopReason?.error ?? error
    }
  }

  private func begin(on reader: SQLiteReader) throws -> (SQLiteConnection, SQLiteStatement) {
    try sql.check()
    let connection = try reader.connection(for: self)
    do {
      guard let statement = try connection.query(sql) else { throw NotForReaders() }
      open = (connection, statement)
      try statement.bind(sql.values)
      return (connection, statement)
    } catch {
      if open != nil { end(on: reader) } else { reader.takeBack(connection, of: self) }
      throw error
    }
  }

  /// Finalizes the statement, which lets go of the state of the database that it saw.
  func end(on reader: SQLiteReader) {
    guard let (connection, statement) = open else { return }
    open = nil
    statement.finalize()
    reader.takeBack(connection, of: self)
  }
}

/// One question for the next rows.
///
/// @unchecked: as `Member`.
final class SQLiteFetch: Reply<SQLiteStream.Block>, SQLiteMember, @unchecked Sendable {
  private let stream: SQLiteStream

  init(_ stream: SQLiteStream) {
    self.stream = stream
  }

  var work: SQLiteWork { .fetch(self) }
  var hasFailed: Bool { false }

  func run(on reader: SQLiteReader) {
    if stream.isAbandoned {
      // At once, so that it has ended for whoever asks for something after the stream was left.
      stream.end(on: reader)
      return answer(.failure(CancellationError()))  // nobody listens
    }
    answer(Result { try stream.next(for: self, on: reader) })
  }

  func run(on connection: SQLiteConnection) -> (any Error)? {
    preconditionFailure("a stream has a connection of its own")
  }

  func deliver() {
    preconditionFailure("it was answered when it ran")
  }
}
