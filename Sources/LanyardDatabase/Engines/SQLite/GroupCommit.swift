// Statements that wait at the same time share one transaction, and each has the result it would have alone.
//
//   one member, nobody behind it     runs in auto-commit, with neither BEGIN nor SAVEPOINT: no delay
//   several                          BEGIN IMMEDIATE; for each SAVEPOINT, run, RELEASE; COMMIT
//   a group ends                     when the backlog is empty, at the limits, and before a statement that
//                                    must run alone (DDL, PRAGMA, VACUUM, ...)
//
// Nobody in a group is answered before its COMMIT has returned OK, readers neither: they saw what may still
// be undone. What a member's failure does to its neighbours:
//
//   its statement failed, the transaction lives   nothing. SQLite has undone as much of the statement as
//                             its conflict clause says; undoing more would differ from what it does alone
//                             (`INSERT OR FAIL` keeps the rows before the failure)
//   it left a foreign key broken that COMMIT checks   ROLLBACK TO its savepoint, and it is told. At COMMIT
//                             the failure would hit everybody and name nobody, and until then a neighbour
//                             might repair it
//   SQLite undid the whole transaction   `INSERT OR ROLLBACK`, a full disk, an interrupt. Only auto-commit
//                             tells. Those before it run again, alone, in their order; nobody had heard
//   COMMIT failed             everybody hears why; if the disk failed, that nobody knows (`commitUnknown`),
//                             and nothing runs on this connection any more: after a failed flush a second
//                             one may report success for what never reached the disk
//
// Threads: everything runs on the worker, in its requests, which never overlap; `statistics` may be read
// anywhere and `closing` after the worker was joined.

import CSQLite
import Lanyard
import Synchronization

final class GroupCommit: Sendable {
  /// When a group is committed although more members wait.
  struct Limits: Sendable {
    var members = 256
    var time = Duration.milliseconds(2)
  }

  let backlog = Backlog()
  private let limits: Limits

  // Written on the worker, read anywhere; statistics only, so relaxed.
  private let statements = Atomic<Int>(0)
  private let commits = Atomic<Int>(0)
  private let reruns = Atomic<Int>(0)

  // The worker's own, from `open` to `finish`.
  nonisolated(unsafe) private var connection: SQLiteConnection?
  nonisolated(unsafe) private var failure: DatabaseError?

  // Written on the worker by `finish`, read after the worker was joined.
  nonisolated(unsafe) private(set) var closing: Result<Void, DatabaseError> = .success(())

  init(limits: Limits) {
    self.limits = limits
  }

  var statistics: Database.Statistics {
    Database.Statistics(
      statements: statements.load(ordering: .relaxed), commits: commits.load(ordering: .relaxed),
      reruns: reruns.load(ordering: .relaxed))
  }

  // MARK: The worker's requests

  func open(_ path: String) throws(DatabaseError) {
    unsafe connection = try SQLiteConnection(path: path)
  }

  /// Serves until the backlog is empty.
  func serve() {
    guard let connection = unsafe connection else { return backlog.fail(DatabaseError.closed) }
    while let member = backlog.nextOrRest() {
      serveGroup(from: member, on: connection)
    }
  }

  /// Closes the connection. Every `serve` that was submitted before has served what there was.
  func finish() {
    guard let connection = unsafe connection else { return }
    unsafe self.connection = nil
    do throws(DatabaseError) {
      try connection.close()
    } catch {
      unsafe closing = .failure(error)
    }
  }

  // MARK: Groups

  /// A member of the open group, and its result so far.
  private typealias Served = (member: Member, wrote: Bool, result: Result<Answer, any Error>)

  private func serveGroup(from first: Member, on connection: SQLiteConnection) {
    var group: [Served] = []
    var opened: ContinuousClock.Instant?
    var candidate: Member? = first
    while let member = candidate {
      switch compile(member, on: connection) {
      case .failure(let error):
        answer(member, .failure(error))
      case .success(let compiled):
        if opened == nil {
          guard !compiled.mustRunAlone, backlog.count > 0 else {
            return runAlone(member, compiled, on: connection)
          }
          guard begin(for: member, compiled, on: connection) else { return }
          opened = .now
        }
        guard case .statement(let statement) = compiled, !compiled.mustRunAlone else {
          commit(group, on: connection)
          return runAlone(member, compiled, on: connection)
        }
        switch run(member, statement, on: connection) {
        case .done(let result):
          group.append((member, statement.kind == .write, result))
        case .transactionLost(let error):
          return runAgain(group, and: member, failedBy: error, on: connection)
        }
      }
      if let opened, group.count >= limits.members || opened.duration(to: .now) >= limits.time {
        break
      }
      candidate = backlog.next()
    }
    if opened != nil { commit(group, on: connection) }
  }

  private func compile(
    _ member: Member, on connection: SQLiteConnection
  ) -> Result<SQLiteConnection.Compiled, DatabaseError> {
    if let failure = unsafe failure { return .failure(failure) }
    if let problem = member.sql.problem {
      return .failure(
        DatabaseError(.statement, problem, advice: "correct the values", sql: member.text))
    }
    return Result { () throws(DatabaseError) in try connection.statement(member.text) }
  }

  /// Begins the transaction of a group. False: it did not, and all who waited for it have been served.
  private func begin(
    for member: Member, _ compiled: SQLiteConnection.Compiled, on connection: SQLiteConnection
  ) -> Bool {
    let limit = backlog.nextTicket
    let failure: DatabaseError
    do throws(DatabaseError) {
      try connection.begin()
      return true
    } catch {
      failure = error
    }
    connection.rollBack()
    // Someone else holds the database. All who came before this began have waited as long as they would
    // have waited alone, and hear what they would have heard. Readers need not wait for anybody.
    func refuse(_ member: Member, _ compiled: SQLiteConnection.Compiled) {
      if case .statement(let statement) = compiled, statement.kind == .write {
        answer(member, .failure(failure.with(sql: member.text)))
      } else {
        runAlone(member, compiled, on: connection)
      }
    }
    refuse(member, compiled)
    while let waiting = backlog.next(below: limit) {
      switch compile(waiting, on: connection) {
      case .failure(let error): answer(waiting, .failure(error))
      case .success(let compiled): refuse(waiting, compiled)
      }
    }
    return false
  }

  private enum Ran {
    case done(Result<Answer, any Error>)
    /// The transaction is gone, and with it what all its members did. The member's own failure, if it was.
    case transactionLost((any Error)?)
  }

  /// Runs a member in the open transaction.
  private func run(
    _ member: Member, _ statement: SQLiteStatement, on connection: SQLiteConnection
  ) -> Ran {
    do throws(DatabaseError) {
      try connection.beginMember()
      var result = run(member, statement)
      if connection.isAutocommit {
        guard case .failure(let error) = result else { return .transactionLost(nil) }
        return .transactionLost(error)
      }
      if connection.hasDeferredViolations {
        try connection.undoMember()
        result = .failure(DatabaseError.brokenForeignKey(sql: member.text))
      }
      try connection.endMember()
      return .done(result)
    } catch {
      // The savepoint failed, which is not the member's fault. It gets its own transaction, as all do.
      connection.rollBack()
      return .transactionLost(nil)
    }
  }

  private func run(_ member: Member, _ statement: SQLiteStatement) -> Result<Answer, any Error> {
    do throws(DatabaseError) {
      return .success(try statement.run(member.sql.values, returningRows: member.returnsRows))
    } catch {
      return .failure(error)
    }
  }

  /// Commits a group and answers it.
  private func commit(_ group: [Served], on connection: SQLiteConnection) {
    let wrote = group.contains { $0.wrote && (try? $0.result.get()) != nil }
    do throws(DatabaseError) {
      try connection.commit()
      if wrote { commits.add(1, ordering: .relaxed) }
      for served in group { answer(served.member, served.result) }
    } catch {
      connection.rollBack()
      let failure = judge(error, ofWrite: wrote)
      for (member, _, result) in group {
        // What failed by itself has its own reason.
        answer(member, result.flatMap { _ in .failure(failure.with(sql: member.text)) })
      }
    }
  }

  /// Runs those again, alone and in their order, whose transaction was lost with a member's failure; then
  /// answers that member, or runs it as well if the failure was not its own.
  private func runAgain(
    _ group: [Served], and last: Member, failedBy error: (any Error)?,
    on connection: SQLiteConnection
  ) {
    func again(_ member: Member) {
      reruns.add(1, ordering: .relaxed)
      switch compile(member, on: connection) {
      case .failure(let error): answer(member, .failure(error))
      case .success(let compiled): runAlone(member, compiled, on: connection)
      }
    }
    for served in group { again(served.member) }
    if let error {
      answer(last, .failure(error))
    } else {
      again(last)
    }
  }

  // MARK: Alone

  /// Runs a member in a transaction of its own and answers it.
  private func runAlone(
    _ member: Member, _ compiled: SQLiteConnection.Compiled, on connection: SQLiteConnection
  ) {
    let result: Result<Answer, any Error>
    var writes = true  // a PRAGMA may, but counts as no commit
    switch compiled {
    case .pragma:
      result = Result {
        try connection.runPragma(
          member.text, member.sql.values, returningRows: member.returnsRows)
      }
    case .statement(let statement):
      writes = statement.kind != .read
      result = run(member, statement)
      connection.finish(statement)
    }
    // There is none to undo, unless a statement failed in a way not thought of.
    connection.rollBack()
    switch result {
    case .success:
      if case .statement = compiled, writes { commits.add(1, ordering: .relaxed) }
      answer(member, result)
    case .failure(let error as DatabaseError):
      answer(member, .failure(judge(error, ofWrite: writes)))
    case .failure:
      answer(member, result)
    }
  }

  /// What an error of a commit means. A disk that fails in it leaves the handle without a known state.
  private func judge(_ error: DatabaseError, ofWrite wrote: Bool) -> DatabaseError {
    guard wrote, error.engineCode == SQLITE_IOERR else { return error }
    unsafe failure = .failed(by: error)
    return .commitUnknown(after: error)
  }

  private func answer(_ member: Member, _ result: Result<Answer, any Error>) {
    statements.add(1, ordering: .relaxed)
    member.answer(result)
  }
}

extension DatabaseError {
  /// What COMMIT says about a broken foreign key, said to the one who broke it.
  fileprivate static func brokenForeignKey(sql: String) -> DatabaseError {
    DatabaseError(sqlite: SQLITE_CONSTRAINT | 3 << 8, "FOREIGN KEY constraint failed", sql: sql)
  }
}
