// The power goes at any operation, and what a disk could then hold is opened: again and again, with writers at
// work, and with the next life of the database in what the last one has left.
//
// The two tests after the first prove that the first can fail: they expect losses.

import CFaults
import Foundation
import LanyardTestSupport
import Synchronization
import Testing

@testable import LanyardDatabase

@Suite(
  .timeLimit(.native(minutes: 5)), .joinsAtExit,
  .enabled(if: !isUnder(.memcheck), "what a disk keeps, not memory, is its subject"))
struct PowerCutTests {
  private struct Tally {
    var cuts = 0
    var acknowledged = 0
    var verdict = Ledger.Verdict()
  }

  /// The lives of one database: each ends by a cut, and the next finds what that has left.
  ///
  /// - Returns: What was seen over all disks.
  private func lives(
    seed: UInt64, _ configuration: Database.Configuration, into tally: inout Tally
  ) async throws {
    var random = SplitMix(seed: seed)
    try await withFolder { root in
      var folder = root.appending(path: "first")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let ledger = SharedLedger()
      for life in 0..<Int.random(in: 1...3, using: &random) {
        let faults = try Faults()
        try await live(life, in: folder, faults, configuration, ledger, &random)
        tally.cuts += 1
        for disk in 0..<2 {
          folder = root.appending(path: "\(life)-\(disk)")
          let choice = random.next()
          try faults.disk(seed: choice, into: folder)
          // What is looked at is a copy: the next life has the recovery before it.
          let copy = root.appending(path: "copy-\(life)-\(disk)")
          try FileManager.default.copyItem(at: folder, to: copy)
          let verdict = try ledger.now.compare(with: copy.appending(path: "test.db").path)
          tally.verdict.lost += verdict.lost
          tally.verdict.wrong += verdict.wrong.map { "\($0) [seed \(seed), life \(life)]" }
        }
        // After a loss, which has been noted, the lives that follow would report it again.
        if !tally.verdict.isGood { break }
      }
      tally.acknowledged += ledger.now.acknowledged.count
    }
  }

  /// One life, from the opening to the cut.
  private func live(
    _ life: Int, in folder: URL, _ faults: Faults, _ configuration: Database.Configuration,
    _ ledger: SharedLedger, _ random: inout SplitMix
  ) async throws {
    var configuration = configuration
    configuration.vfs = faults.name
    configuration.readers = 1
    func arrange() {
      switch Int.random(in: 0..<20, using: &random) {
      case 0..<10: faults.cut(at: FAULTS_WRITE, .random(in: 1...150, using: &random))
      case 10..<18: faults.cut(at: FAULTS_SYNC, .random(in: 1...30, using: &random))
      case 18: faults.cut(at: FAULTS_TRUNCATE, .random(in: 1...3, using: &random))
      default: faults.cut(at: FAULTS_DELETE, 1)
      }
    }
    let isCutEarly = Int.random(in: 0..<4, using: &random) == 0
    if isCutEarly { arrange() }
    let checkpoint = [2, 10, 1000].randomElement(using: &random) ?? 1000
    do {
      let database = try await Database.open(
        folder.appending(path: "test.db").path, configuration: configuration)
      do {
        for sql in Ledger.schema { try await database.execute(sql) }
        try await database.exclusive { connection in
          _ = try connection.query("PRAGMA wal_autocheckpoint = \(unsafeRaw: "\(checkpoint)")")
        }
        if !isCutEarly { arrange() }
        await write(to: database, faults, ledger, life)
      } catch {
        guard faults.isCut else { throw error }
      }
      // Some close in time; then the cut comes after the end, if the close has not met it.
      try? await database.close()
    } catch {
      guard faults.isCut else { throw error }
    }
    faults.cut()
  }

  private func write(
    to database: Database, _ faults: Faults, _ ledger: SharedLedger, _ life: Int
  ) async {
    let writers = 8
    await withTaskGroup(of: Void.self) { group in
      for writer in 0..<writers {
        group.addTask {
          for turn in 0..<20 where !faults.isCut {
            let id = (life + 1) * 100_000 + 2 * (turn * writers + writer)
            await ledger.request(turn + writer, id, on: database)
            if turn % 8 == 0 { _ = try? await database.query("SELECT max(id) FROM t") }
          }
        }
      }
    }
  }

  private func cuts(
    _ count: Int, from seed: UInt64, _ configuration: Database.Configuration = .init(),
    until isEnough: (Tally) -> Bool = { !$0.verdict.isGood }
  ) async throws -> Tally {
    var tally = Tally()
    var seed = seed
    while tally.cuts < count, !isEnough(tally) {
      try await lives(seed: seed, configuration, into: &tally)
      seed += 1
    }
    return tally
  }

  @Test func `a cut of the power loses nothing that was acknowledged`() async throws {
    let seed = UInt64.random(in: 0..<1 << 32)
    let tally = try await cuts(soaked(300, 100_000), from: seed)
    #expect(tally.verdict.isGood, "\(tally.verdict) from seed \(seed) after \(tally.cuts) cuts")
    #expect(tally.acknowledged > tally.cuts, "the writers were at work")
  }

  @Test func `without full durability some cut loses some, and leaves the file whole`() async throws
  {
    var configuration = Database.Configuration()
    configuration.durability = .normal
    let tally = try await cuts(400, from: 1, configuration) { !$0.verdict.lost.isEmpty }
    #expect(!tally.verdict.lost.isEmpty, "of \(tally.acknowledged) in \(tally.cuts) cuts")
    #expect(tally.verdict.wrong.isEmpty, "\(tally.verdict)")
  }

  @Test func `an acknowledgement before COMMIT is found out`() async throws {
    var configuration = Database.Configuration()
    configuration.acknowledgesBeforeCommit = true
    let tally = try await cuts(400, from: 1, configuration) { !$0.verdict.lost.isEmpty }
    #expect(!tally.verdict.lost.isEmpty, "of \(tally.acknowledged) in \(tally.cuts) cuts")
  }
}
