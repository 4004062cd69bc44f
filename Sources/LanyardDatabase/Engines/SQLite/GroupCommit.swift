// Writes that wait at the same time share one transaction, and each has the result it would have alone.
//
//   a group        BEGIN IMMEDIATE; for each member SAVEPOINT, run, RELEASE; COMMIT
//   it ends        when the batch is empty, at the limits of number and time, and before a member that must
//                  run alone (PRAGMA, VACUUM, DDL, `exclusive`, what has lost two transactions). Nobody waits
//                  for a group to fill: one that comes alone is a group of one, committed at once.
//
// Nobody in a group is answered before its COMMIT has returned OK, readers neither: they saw what may still
// be undone. What a member's failure does to its neighbours:
//
//   its statement failed, the transaction lives   nothing. SQLite has undone as much of the statement as
//                             its conflict clause says; undoing more would differ from what it does alone
//                             (`INSERT OR FAIL` keeps the rows before the failure)
//   its closure threw, or it was stopped          ROLLBACK TO its savepoint
//   it left a foreign key broken that COMMIT checks   ROLLBACK TO, and it is told. At COMMIT the failure
//                             would hit everybody and name nobody, and until then a neighbour might repair it
//   SQLite undid the whole transaction   `INSERT OR ROLLBACK`, a full disk, an interrupt. Only auto-commit
//                             tells. Those before it run again in their order, in a group without it; whoever
//                             loses two transactions runs alone. Nobody had been answered
//   COMMIT failed             if the disk failed, nobody knows whether it took place (`commitUnknown`), and the
//                             connection is replaced: it is never sent again. If there was no room, or the
//                             like, each runs alone and hears its own answer
//
// Threads: everything runs on the writer's thread but `statistics`, which may be read anywhere, and
// `closing`, which is read after that thread was joined.

import CSQLite
import Lanyard
import Synchronization

/// @unchecked: see above.
final class GroupCommit: @unchecked Sendable {
  private let address: DatabaseAddress
  private let configuration: Database.Configuration

  // Written on the worker, read anywhere; statistics only, so relaxed.
  private let statements = Atomic<Int>(0)
  private let commits = Atomic<Int>(0)
  private let reruns = Atomic<Int>(0)
  private let replacements = Atomic<Int>(0)

  // The worker's own. None while the last one was given up and no new one could be opened.
  private var connection: SQLiteConnection?
  // After a commit that failed on the disk the WAL may end with what is read and was never made durable: the
  // system forgets what it could not write. What is committed behind that would be lost with it.
  private var logIsSuspect = false

  private(set) var closing: Result<Void, DatabaseError> = .success(())

  init(_ address: DatabaseAddress, _ configuration: Database.Configuration) {
    self.address = address
    self.configuration = configuration
  }

  var statistics: Database.Statistics {
    Database.Statistics(
      statements: statements.load(ordering: .relaxed), commits: commits.load(ordering: .relaxed),
      reruns: reruns.load(ordering: .relaxed),
      replacedConnections: replacements.load(ordering: .relaxed))
  }

  // MARK: The connection

  @discardableResult
  func open() throws(DatabaseError) -> SQLiteConnection {
    if let connection { return connection }
    let opened = try SQLiteConnection(address, .writer, configuration)
    if logIsSuspect {
      do throws(DatabaseError) {
        try opened.emptyLog()
      } catch {
        try? opened.close()
        throw error
      }
      logIsSuspect = false
    }
    connection = opened
    return opened
  }

  /// Gives up a connection whose state nobody knows any more.
  private func replaceConnection() {
    // A database in memory ends with its connection, and has no disk that could fail.
    guard address != .memory, let connection else { return }
    self.connection = nil
    logIsSuspect = true
    replacements.add(1, ordering: .relaxed)
    // It is given up because it fails; what it says of its own end adds nothing.
    try? connection.close()
  }

  /// Closes the connection. The worker's last act.
  func finish() {
    guard let connection else { return }
    self.connection = nil
    do throws(DatabaseError) {
      try connection.close()
    } catch {
      closing = .failure(error)
    }
  }

  // MARK: Serving

  func serve(_ members: [any SQLiteMember]) {
    var pending = members[...]
    while let member = pending.first {
      // It is not started before there is a transaction: whoever waits for one may still leave at once.
      guard !member.isWithdrawn else {
        pending.removeFirst()
        continue
      }
      do throws(DatabaseError) {
        let connection = try open()
        switch try place(of: member, on: connection, isLast: pending.count == 1) {
        case .alone:
          pending.removeFirst()
          if member.start() {
            runAlone(member, on: connection)
          } else {
            putBack(member, on: connection)
          }
        case .group:
          serveGroup(&pending, on: connection)
        }
      } catch {
        pending.removeFirst()
        if member.start() { answer(member, error) }
      }
    }
  }

  private enum Place {
    case alone
    case group
  }

  /// Where a member has to run; compiles it if it is a statement.
  private func place(of member: any SQLiteMember, on connection: SQLiteConnection, isLast: Bool)
    throws(DatabaseError) -> Place
  {
    switch member.work {
    case .statement(let member):
      guard let statement = try compile(member, on: connection) else { return .alone }
      switch statement.kind {
      case .write: return member.losses < 2 ? .group : .alone
      case .read: return member.losses < 2 && !isLast ? .group : .alone
      case .schema, .outside: return .alone
      }
    case .transaction: return member.losses < 2 ? .group : .alone
    case .exclusive, .fetch, .opening: return .alone
    }
  }

  /// - Returns: nil for a PRAGMA.
  private func compile(_ member: StatementMember, on connection: SQLiteConnection)
    throws(DatabaseError) -> SQLiteStatement?
  {
    if let statement = member.statement { return statement }
    try member.sql.check()
    guard case .statement(let statement) = try connection.statement(member.text) else { return nil }
    member.statement = statement
    return statement
  }

  /// Forgets what `place` has compiled; the connection may be another one when the member's turn comes.
  private func putBack(_ member: any SQLiteMember, on connection: SQLiteConnection) {
    guard case .statement(let member) = member.work, let statement = member.statement else {
      return
    }
    connection.finish(statement)
    member.statement = nil
  }

  // MARK: Groups

  /// A member of the open group, and what it will be told if the group is committed.
  private struct Served {
    let member: any SQLiteMember
    let wrote: Bool
    /// Instead of what came of its run.
    var error: (any Error)?
  }

  /// Serves members from the first one on, which is compiled and may be in a group, and takes out those that
  /// it has served. Those whose transaction was lost it puts back.
  private func serveGroup(
    _ pending: inout ArraySlice<any SQLiteMember>, on connection: SQLiteConnection
  ) {
    do throws(DatabaseError) {
      try connection.watch.waiting(for: pending) { () throws(DatabaseError) in
        try connection.begin()
      }
    } catch {
      connection.rollBack()
      return refuse(&pending, error, on: connection)
    }
    let opened = ContinuousClock.now
    var served: [Served] = []
    group: while let member = pending.first {
      guard member.start() else {
        putBack(member, on: connection)
        pending.removeFirst()
        continue
      }
      do throws(DatabaseError) {
        guard case .group = try place(of: member, on: connection, isLast: false) else {
          putBack(member, on: connection)
          break group
        }
        pending.removeFirst()
        switch run(member, on: connection, isFirst: served.isEmpty) {
        case .done(let one):
          served.append(one)
        case .lost(let error):
          return runAgain(served, and: member, lostBy: error, &pending)
        }
      } catch {
        // It cannot be compiled. A neighbour's change of the schema may be the reason, so it too is told
        // after the COMMIT.
        pending.removeFirst()
        served.append(Served(member: member, wrote: false, error: error))
      }
      if served.count >= configuration.batchLimit
        || opened.duration(to: .now) >= configuration.batchTime
      {
        break
      }
    }
    commit(served, on: connection, isAlone: false)
  }

  /// The transaction did not begin. Whoever waited for it hears why: they have waited as long as they would
  /// have waited alone. Readers need not wait for anybody.
  private func refuse(
    _ pending: inout ArraySlice<any SQLiteMember>, _ failure: DatabaseError,
    on connection: SQLiteConnection
  ) {
    while let member = pending.popFirst() {
      guard member.start() else {
        putBack(member, on: connection)
        continue
      }
      do throws(DatabaseError) {
        _ = try place(of: member, on: connection, isLast: true)
        switch member.work {
        case .statement(let statement) where statement.statement?.kind == .write:
          putBack(member, on: connection)
          answer(member, failure)
        case .transaction:
          answer(member, failure)
        case .statement, .exclusive, .fetch, .opening:
          runAlone(member, on: connection)
        }
      } catch {
        answer(member, error)
      }
    }
  }

  private enum Ran {
    case done(Served)
    /// The transaction is gone, and with it what all its members did.
    case lost(any Error)
  }

  /// Runs a member in the open transaction.
  private func run(_ member: any SQLiteMember, on connection: SQLiteConnection, isFirst: Bool)
    -> Ran
  {
    let isClosure: Bool
    let wrote: Bool
    if case .statement(let statement) = member.work {
      isClosure = false
      wrote = statement.statement?.kind != .read
    } else {
      isClosure = true
      wrote = true
    }
    do throws(DatabaseError) {
      try connection.beginMember()
    } catch {
      putBack(member, on: connection)
      connection.rollBack()
      return .lost(error)
    }
    let failure = connection.watch.watching(
      member, patience: isFirst ? .zero : configuration.batchTime
    ) { member.run(on: connection) }
    if connection.isAutocommit { return .lost(failure ?? DatabaseError.vanished) }
    var served = Served(member: member, wrote: wrote && failure == nil, error: nil)
    do throws(DatabaseError) {
      if let reason = member.stopReason {
        try connection.undoMember()
        served.error = reason.error
      } else if connection.hasDeferredViolations {
        try connection.undoMember()
        served.error = failure ?? DatabaseError.brokenForeignKey
      } else if isClosure, failure != nil {
        try connection.undoMember()
      }
      try connection.endMember()
      return .done(served)
    } catch {
      connection.rollBack()
      return .lost(error)
    }
  }

  /// Puts those back who have lost their transaction. The one that ran last too, if it would not lose its own.
  private func runAgain(
    _ served: [Served], and last: any SQLiteMember, lostBy error: any Error,
    _ pending: inout ArraySlice<any SQLiteMember>
  ) {
    var again = served.map(\.member)
    // What the machine lacked in this transaction it may have in another.
    let machine = [SQLITE_FULL, SQLITE_IOERR, SQLITE_NOMEM, SQLITE_BUSY]
    let isItsOwn: Bool
    if last.stopReason != nil {
      isItsOwn = true
    } else if let number = (error as? DatabaseError)?.engineCode {
      isItsOwn = !machine.contains(number)
    } else {
      isItsOwn = true  // a closure's own error
    }
    if isItsOwn { answer(last, error) } else { again.append(last) }
    for member in again { member.losses += 1 }
    reruns.add(again.count, ordering: .relaxed)
    pending = (again + pending)[...]
  }

  /// Commits a group and answers it.
  private func commit(_ served: [Served], on connection: SQLiteConnection, isAlone: Bool) {
    if configuration.acknowledgesBeforeCommit { deliver(served) }
    do throws(DatabaseError) {
      try connection.commit()
    } catch {
      connection.rollBack()
      guard !configuration.acknowledgesBeforeCommit else { return }
      return commitFailed(served, error, isAlone: isAlone, on: connection)
    }
    if served.contains(where: { $0.wrote && $0.error == nil }) {
      commits.add(1, ordering: .relaxed)
    }
    if !configuration.acknowledgesBeforeCommit { deliver(served) }
  }

  private func deliver(_ served: [Served]) {
    for one in served {
      if let error = one.error {
        answer(one.member, error)
      } else {
        statements.add(1, ordering: .relaxed)
        one.member.deliver()
      }
    }
  }

  private func commitFailed(
    _ served: [Served], _ error: DatabaseError, isAlone: Bool, on connection: SQLiteConnection
  ) {
    switch error.engineCode {
    case SQLITE_IOERR:
      replaceConnection()
      for one in served {
        // What failed by itself has its own reason.
        answer(
          one.member, one.error ?? DatabaseError.commitUnknown(after: error), unlessFailed: true)
      }
    case SQLITE_BUSY:
      // It has waited as long as anybody would have.
      for one in served { answer(one.member, one.error ?? error, unlessFailed: true) }
    default:
      for one in served {
        if isAlone {
          answer(one.member, one.error ?? error, unlessFailed: true)
        } else {
          reruns.add(1, ordering: .relaxed)
          one.member.losses = 2
          serve([one.member])
        }
      }
    }
  }

  // MARK: Alone

  /// Runs a member that `place` has compiled, and answers it.
  private func runAlone(_ member: any SQLiteMember, on connection: SQLiteConnection) {
    switch member.work {
    case .fetch:
      preconditionFailure("streams are the readers'")
    case .opening:
      member.deliver()
    case .transaction:
      runInTransaction(member, on: connection)
    case .exclusive:
      runOutside(member, on: connection) { member.run(on: connection) }
    case .statement(let statement):
      guard let compiled = statement.statement else {
        return runOutside(member, on: connection) { statement.runPragma(on: connection) }
      }
      switch compiled.kind {
      case .write, .schema: runInTransaction(member, on: connection)
      case .read, .outside: runOutside(member, on: connection) { member.run(on: connection) }
      }
    }
  }

  private func runInTransaction(_ member: any SQLiteMember, on connection: SQLiteConnection) {
    do throws(DatabaseError) {
      try connection.watch.watching(member, patience: .zero) { () throws(DatabaseError) in
        try connection.begin()
      }
    } catch {
      putBack(member, on: connection)
      connection.rollBack()
      return answer(member, error)
    }
    switch run(member, on: connection, isFirst: true) {
    case .done(let served): commit([served], on: connection, isAlone: true)
    case .lost(let error): answer(member, error)
    }
  }

  /// Runs what needs no transaction or can have none; every statement of it commits by itself.
  private func runOutside(
    _ member: any SQLiteMember, on connection: SQLiteConnection, _ body: () -> (any Error)?
  ) {
    connection.diskHasFailed = false
    let failure = connection.watch.watching(member, patience: .zero, body)
    // There is none to undo, unless a statement failed in a way not thought of.
    connection.rollBack()
    var unknown: DatabaseError?
    if let error = failure as? DatabaseError, error.engineCode == SQLITE_IOERR, !isReading(member) {
      unknown = .commitUnknown(after: error)
    }
    // A closure may keep to itself that a commit of its own has failed on the disk: nobody else's may follow it.
    if unknown != nil || connection.diskHasFailed { replaceConnection() }
    guard let failure else {
      statements.add(1, ordering: .relaxed)
      return member.deliver()
    }
    answer(member, unknown ?? failure)
  }

  private func isReading(_ member: any SQLiteMember) -> Bool {
    guard case .statement(let statement) = member.work else { return false }
    return statement.isQuery
  }

  /// Answers a member that failed. What it was stopped for comes before what came of that, but not before a
  /// commit that may have taken place.
  ///
  /// - Parameter unlessFailed: If its own run failed, that is the answer.
  private func answer(_ member: any SQLiteMember, _ error: any Error, unlessFailed: Bool = false) {
    statements.add(1, ordering: .relaxed)
    if unlessFailed, member.hasFailed { return member.deliver() }
    let ofDatabase = (error as? DatabaseError)?.with(sql: member.statementText)
    if let reason = member.stopReason, ofDatabase?.code != .commitUnknown {
      member.fail(reason.error)
    } else {
      member.fail(ofDatabase ?? error)
    }
  }
}

extension DatabaseError {
  /// What COMMIT says about a broken foreign key, said to the one who broke it.
  fileprivate static var brokenForeignKey: DatabaseError {
    DatabaseError(sqlite: SQLITE_CONSTRAINT | 3 << 8, "FOREIGN KEY constraint failed")
  }

  /// No statement failed, and the transaction is gone: there is no way known.
  fileprivate static var vanished: DatabaseError {
    DatabaseError(
      .transactionLost, "the transaction ended by itself",
      advice: "nothing was changed; please report it")
  }
}
