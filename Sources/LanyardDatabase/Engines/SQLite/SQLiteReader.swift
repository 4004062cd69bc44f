// Queries that wait at the same time share one read transaction, on a thread and a connection of their own.
//
// What is in a batch was sent before the batch's first statement takes its view of the database. So whoever
// was told of a write before he sent a query sees that write. Nothing joins a batch later.
//
// Streams have connections of their own, on this same thread: between two of a stream's blocks its statement
// waits, and the thread does not.
//
// Threads: everything runs on the reader's thread, but `closing`, which is read after it was joined.

import Lanyard

/// What the readers cannot run is for the writer: a statement that writes, or one that needs what only the
/// writer's connection has, such as a temporary table.
struct NotForReaders: Error {}

/// @unchecked: see above.
final class SQLiteReader: @unchecked Sendable {
  /// Of connections that no stream uses at the moment.
  private static let idleLimit = 2

  private let address: DatabaseAddress
  private let configuration: Database.Configuration

  private var connection: SQLiteConnection?
  private var streams: [SQLiteStream] = []
  private var idle: [SQLiteConnection] = []

  private(set) var closing: Result<Void, DatabaseError> = .success(())

  init(_ address: DatabaseAddress, _ configuration: Database.Configuration) {
    self.address = address
    self.configuration = configuration
  }

  func serve(_ members: [any SQLiteMember]) {
    for member in members where member.start() {
      switch member.work {
      case .fetch(let fetch): fetch.run(on: self)
      case .statement, .transaction, .exclusive, .opening: serve(member, sharing: members.count > 1)
      }
    }
    connection?.rollBack()  // of a transaction that only read
    dropEndedStreams()
  }

  private func serve(_ member: any SQLiteMember, sharing: Bool) {
    do throws(DatabaseError) {
      let connection = try open()
      if case .statement(let statement) = member.work {
        guard try compile(statement, on: connection) else { return member.fail(NotForReaders()) }
        if sharing, connection.isAutocommit { try connection.beginReading() }
      } else if connection.isAutocommit {
        try connection.beginReading()
      }
      let failure = connection.watch.watching(member, patience: .zero) {
        member.run(on: connection)
      }
      if failure != nil, let reason = member.stopReason {
        member.fail(reason.error)
      } else {
        member.deliver()
      }
    } catch {
      member.fail(member.stopReason?.error ?? error)
    }
  }

  /// - Returns: Whether it can run here.
  private func compile(_ member: StatementMember, on connection: SQLiteConnection)
    throws(DatabaseError) -> Bool
  {
    try member.sql.check()
    do throws(DatabaseError) {
      guard case .statement(let statement) = try connection.statement(member.text) else {
        return false
      }
      guard statement.kind == .read else {
        connection.finish(statement)
        return false
      }
      member.statement = statement
      return true
    } catch {
      if error.isForTheWriter { return false }
      throw error
    }
  }

  private func open() throws(DatabaseError) -> SQLiteConnection {
    if let connection { return connection }
    let opened = try SQLiteConnection(address, .reader, configuration)
    connection = opened
    return opened
  }

  // MARK: Streams

  /// A connection for a stream, which gives it back with `end`.
  func connection(for stream: SQLiteStream) throws(DatabaseError) -> SQLiteConnection {
    let connection =
      if let used = idle.popLast() { used } else {
        try SQLiteConnection(address, .reader, configuration)
      }
    streams.append(stream)
    return connection
  }

  /// Takes back the connection of a stream that has finalized its statement.
  func takeBack(_ connection: SQLiteConnection, of stream: SQLiteStream) {
    streams.removeAll { $0 === stream }
    if idle.count < Self.idleLimit {
      idle.append(connection)
    } else {
      close(connection)
    }
  }

  private func dropEndedStreams() {
    for stream in streams where stream.isAbandoned { stream.end(on: self) }
  }

  // MARK: Closing

  /// The thread's last act.
  func finish() {
    for stream in streams { stream.end(on: self) }
    for connection in idle + [connection].compactMap({ $0 }) { close(connection) }
    idle = []
    connection = nil
  }

  private func close(_ connection: SQLiteConnection) {
    do throws(DatabaseError) {
      try connection.close()
    } catch {
      closing = .failure(error)
    }
  }
}
