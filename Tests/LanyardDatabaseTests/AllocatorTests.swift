// Each of SQLite's allocations fails in turn, once, and with all that follow.
//
// The allocator is the process's, and there before SQLite is: so it happens in a child. The files lie on the
// file layer of the other tests, whose disk never waits.

import CFaults
import CSQLite
import Foundation
import Lanyard
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 5)), .joinsAtExit)
struct AllocatorTests {
  /// Opens, writes alone and in a group, reads and closes. Every error is typed.
  private static func life(_ faults: Faults, in folder: URL, _ ledger: SharedLedger) async {
    var configuration = Database.Configuration()
    configuration.vfs = faults.name
    configuration.readers = 1
    do {
      let database = try await Database.open(
        folder.appending(path: "test.db").path, configuration: configuration)
      do {
        for sql in Ledger.schema { try await database.execute(sql) }
        await withTaskGroup(of: Void.self) { group in
          for turn in 0..<10 {
            group.addTask { await ledger.request(turn, 1000 + 2 * turn, on: database) }
          }
        }
        _ = try await database.query("SELECT id, body FROM t ORDER BY body")
        var count = 0
        for try await _ in database.rows("SELECT id FROM t") { count += 1 }
        _ = try await database.exclusive { try $0.query("PRAGMA wal_checkpoint(TRUNCATE)") }
      } catch {
        note(error, ledger)
      }
      do {
        try await database.close()
      } catch {
        note(error, ledger)
      }
    } catch {
      note(error, ledger)
    }
  }

  private static func note(_ error: any Error, _ ledger: SharedLedger) {
    guard !(error is DatabaseError) else { return }
    ledger.update { [text = "\(error) is not typed"] in $0.complaints.append(text) }
  }

  /// One life with the failure, and what the file then holds.
  ///
  /// - Returns: How many allocations there were, and how many failed; nil if something is wrong.
  private static func run(at place: Int, forEver: Bool) async throws -> (count: Int, failed: Int)? {
    try await withFolder { folder in
      let ledger = SharedLedger()
      let faults = try Faults()
      let before = faults_allocator_live()
      faults_allocator_fail(UInt32(place), forEver ? UInt32.max : 1)
      await life(faults, in: folder, ledger)
      let (count, failed) = (Int(faults_allocator_count()), Int(faults_allocator_failed()))
      faults_allocator_fail(0, 0)
      let leaked = faults_allocator_live() - before
      let verdict = try ledger.now.compare(with: folder.appending(path: "test.db").path)
      guard verdict.isGood, leaked == 0 else {
        Issue.record(
          "allocation \(place)\(forEver ? " and all after it" : ""): \(verdict), leaked \(leaked)")
        return nil
      }
      return (count, failed)
    }
  }

  /// - Returns: Whether all is well.
  private static func sweep() async throws -> Bool {
    guard faults_allocator_install() else { return false }
    // What SQLite makes once and keeps.
    guard try await run(at: 0, forEver: false) != nil,
      let (count, _) = try await run(at: 0, forEver: false)
    else { return false }
    var isGood = true
    var failed = 0
    for forEver in [false, true] {
      let step = max(1, count / scaled(forEver ? 300 : 1500))
      for place in stride(from: 1, through: count, by: step) {
        guard let result = try await run(at: place, forEver: forEver) else {
          isGood = false
          continue
        }
        failed += result.failed
      }
    }
    return isGood && failed > 0
  }

  @Test func `each allocation of SQLite in turn: no crash, nothing lost, nothing leaked`() async {
    await #expect(processExitsWith: .success) {
      // The trait is the parent's alone.
      atexit { _ = Worker.quiesce(within: .seconds(10)) }
      exit(try await AllocatorTests.sweep() ? 0 : 1)
    }
  }
}
