// A SQLite database with its worker: opened on it, served on it, closed on it.
//
//   Database ---owns---> SQLiteEngine ---owns---> Worker
//                             \---owns---> GroupCommit <---held by--- the requests in the worker's ring
//
// No request holds the engine or the worker, so an abandoned database is released, and its deinit is the
// close: it submits the last request, `finish`, which closes the connection on the worker, and then lets go
// of the worker, which runs what was accepted and joins the thread.
//
// At most two `serve` and one `finish` are ever in the ring, so it is never full.

import CSQLite
import Lanyard

final class SQLiteEngine: Sendable {
  let worker: Worker
  let group: GroupCommit

  private init(worker: Worker, group: GroupCommit) {
    self.worker = worker
    self.group = group
  }

  static nonisolated(nonsending) func open(
    _ path: String, limits: GroupCommit.Limits = GroupCommit.Limits(),
    fileID: StaticString = #fileID,
    line: Int = #line
  ) async throws -> SQLiteEngine {
    try check(path)
    var configuration = Worker.Configuration()
    configuration.capacity = 8
    let worker = try Worker(
      "lanyard-sqlite", configuration: configuration, fileID: fileID, line: line)
    let group = GroupCommit(limits: limits)
    do {
      try await worker.run { () throws(DatabaseError) in try group.open(path) }
    } catch {
      await worker.close()  // so that letting go does not wait for the thread here
      throw error
    }
    return SQLiteEngine(worker: worker, group: group)
  }

  private static func check(_ path: String) throws(DatabaseError) {
    let accepted = "give :memory: or the path of a SQLite file"
    guard !path.isEmpty else {
      throw DatabaseError(.cannotOpen, "the path is empty", advice: accepted)
    }
    guard !path.utf8.contains(0) else {
      throw DatabaseError(.cannotOpen, "the path contains a zero byte", advice: accepted)
    }
    guard !["tcp", "postgres", "postgresql"].contains(where: { path.hasPrefix("\($0)://") }) else {
      // Without the address, which may hold a password.
      throw DatabaseError(
        .cannotOpen, "there is no engine for addresses of this kind", advice: accepted)
    }
  }

  deinit {
    guard group.backlog.stop() else { return }
    // It is refused only where the worker does not run any more, in a child of fork; there the database
    // must not be touched.
    try? worker.submit { [group] in
      group.finish()
      // Nobody is left to hear of it; it can only be the library's own mistake.
      if case .failure(let error) = unsafe group.closing { assertionFailure("\(error)") }
    }
  }

  nonisolated(nonsending) func perform(_ sql: SQL, returningRows: Bool) async throws -> Answer {
    let member = Member(sql, returnsRows: returningRows)
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        member.resume(continuation)
        switch group.backlog.add(member) {
        case .queued: break
        case .refused(let error): member.answer(.failure(error))
        case .first:
          do throws(WorkerError) {
            try worker.submit { [group] in group.serve() }
          } catch {
            group.backlog.fail(error.code == .closed ? DatabaseError.closed : error)
          }
        }
      }
    } onCancel: {
      group.backlog.cancel(member)
    }
  }

  nonisolated(nonsending) func close() async throws {
    if group.backlog.stop() {
      // As in deinit.
      try? worker.submit { [group] in group.finish() }
    }
    await worker.close()
    try unsafe group.closing.get()  // the worker was joined
  }

  var statistics: Database.Statistics { group.statistics }

  static var version: String { unsafe String(cString: sqlite3_libversion()) }
}
