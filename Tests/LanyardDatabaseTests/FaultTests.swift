// Each operation on the disk fails in turn, at every one of its places in the life of a database: opening, a
// group of writes, a checkpoint, another group, the end.
//
// Then, whatever it was: every caller has an answer; what was acknowledged is in the file and what was refused
// is not, after the end as well as if the process had been killed or the power cut at that moment; and when the
// disk is well again the handle serves on.

import CFaults
import CSQLite
import Foundation
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

/// A failure of the disk: what fails, with which of SQLite's codes, and how.
struct Fault: Sendable, CustomTestStringConvertible {
  let kind: faults_kind
  let code: Int32
  var forEver = false
  var tears = false

  static let all: [Fault] = {
    let io = SQLITE_IOERR
    let codes: [(faults_kind, Int32)] = [
      (FAULTS_WRITE, io | 3 << 8), (FAULTS_WRITE, SQLITE_FULL),
      (FAULTS_SYNC, io | 4 << 8), (FAULTS_SYNC, SQLITE_FULL),
      (FAULTS_TRUNCATE, io | 6 << 8), (FAULTS_TRUNCATE, SQLITE_FULL),
      (FAULTS_OPEN, SQLITE_CANTOPEN), (FAULTS_READ, io | 1 << 8), (FAULTS_DELETE, io | 10 << 8),
      (FAULTS_LOCK, io | 15 << 8), (FAULTS_LOCK, SQLITE_BUSY),
      (FAULTS_SHM_MAP, io | 21 << 8), (FAULTS_SHM_LOCK, io | 20 << 8),
      (FAULTS_SHM_LOCK, SQLITE_BUSY),
    ]
    return codes.flatMap { kind, code in
      // A sync that finds no room is an I/O error to SQLite's own file layer. As another one's, and if nothing
      // overwrites what it left in the WAL, the file would have what the caller was refused.
      (kind == FAULTS_SYNC && code == SQLITE_FULL ? [false] : [false, true]).flatMap { forEver in
        (kind == FAULTS_WRITE ? [false, true] : [false]).map { tears in
          Fault(kind: kind, code: code, forEver: forEver, tears: tears)
        }
      }
    }
  }()

  var testDescription: String {
    let names = [
      "open", "read", "write", "sync", "truncate", "delete", "lock", "shm-map", "shm-lock",
    ]
    return names[Int(kind.rawValue)] + " \(code)" + (forEver ? " for ever" : "")
      + (tears ? ", torn" : "")
  }
}

@Suite(
  .timeLimit(.native(minutes: 5)), .joinsAtExit,
  .enabled(if: !isUnder(.memcheck), "what a disk refuses, not memory, is its subject"))
struct FaultTests {
  private static let members = 12

  private func open(_ faults: Faults, in folder: URL) async throws -> Database {
    var configuration = Database.Configuration()
    configuration.vfs = faults.name
    configuration.readers = 1
    configuration.busyTimeout = .zero
    configuration.batchTime = .seconds(3600)  // a slow machine does not divide the groups
    return try await Database.open(
      folder.appending(path: "test.db").path, configuration: configuration)
  }

  /// Requests that wait together, and so share a group; if the writer can be held.
  private func group(_ number: Int, on database: Database, _ ledger: SharedLedger) async {
    let gate = Gate()
    let refusals = Counter()
    await withTaskGroup(of: Void.self) { tasks in
      tasks.addTask {
        do {
          try await database.exclusive { _ in gate.pass() }
        } catch {
          #expect(error is DatabaseError)
          refusals.increment()
          gate.open()
          gate.pass()
        }
      }
      await gate.arrived()
      for turn in 0..<Self.members {
        tasks.addTask { await ledger.request(turn, number * 1000 + 2 * turn, on: database) }
      }
      await until { database.waiting == Self.members || refusals.value > 0 }
      gate.open()
    }
  }

  /// What fails may be anywhere in here.
  private func life(in folder: URL, _ faults: Faults, _ ledger: SharedLedger) async throws
    -> Database
  {
    let database = try await open(faults, in: folder)
    do {
      for sql in Ledger.schema { try await database.execute(sql) }
    } catch {
      #expect(error is DatabaseError)
      try? await database.close()
      throw error
    }
    await group(1, on: database, ledger)
    await read(database)
    do {
      _ = try await database.exclusive { try $0.query("PRAGMA wal_checkpoint(TRUNCATE)") }
    } catch {
      #expect(error is DatabaseError)
    }
    await group(2, on: database, ledger)
    await read(database)
    return database
  }

  private func read(_ database: Database) async {
    do {
      _ = try await database.query("SELECT * FROM t")
    } catch {
      #expect(error is DatabaseError)
    }
  }

  /// One life with a failure at the n-th operation of its kind.
  ///
  /// - Returns: How many operations failed.
  private func run(_ fault: Fault, at place: Int) async throws -> Int {
    try await withFolder { root in
      let folder = root.appending(path: "first")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let faults = try Faults()
      let ledger = SharedLedger()
      faults.tear(fault.tears)
      faults.forget(place % 2 == 1)
      faults.fail(fault.kind, at: place, forEver: fault.forEver, code: fault.code)
      do {
        let database = try await life(in: folder, faults, ledger)
        try check(ledger.now, faults, in: root, "at \(fault.testDescription), \(place)")
        faults.heal()
        let served = await ledger.request(0, 9000, on: database)
        #expect(served, "the handle serves on after \(fault.testDescription), \(place)")
        try check(ledger.now, faults, in: root, "healed after \(fault.testDescription), \(place)")
        // And the end meets it too.
        faults.fail(fault.kind, forEver: fault.forEver, code: fault.code)
        try? await database.close()
        faults.heal()
      } catch {
        #expect(error is DatabaseError)
        #expect(faults.failed > 0, "\(error)")
        faults.heal()
        let database = try await life(in: folder, faults, ledger)
        try await database.close()
      }
      let verdict = try ledger.now.compare(with: folder.appending(path: "test.db").path)
      #expect(verdict.isGood, "\(verdict) after \(fault.testDescription), \(place)")
      return faults.failed
    }
  }

  @Test func `a commit that fails on the disk is unknown to all of its group, and to nobody else`()
    async throws
  {
    try await withFolder { folder in
      let faults = try Faults()
      let ledger = SharedLedger()
      let database = try await open(faults, in: folder)
      for sql in Ledger.schema { try await database.execute(sql) }
      faults.fail(FAULTS_SYNC, code: SQLITE_IOERR | 4 << 8)
      await group(1, on: database, ledger)
      let heard = ledger.now
      #expect(heard.acknowledged.isEmpty)
      #expect(!heard.unknown.isEmpty)
      #expect(!heard.refused.isEmpty, "what failed by itself is known")
      #expect(faults.failed == 1)
      #expect(database.statistics.replacedConnections == 1)
      await group(2, on: database, ledger)
      #expect(ledger.now.acknowledged.count == heard.unknown.count, "the same requests again")
      try await database.close()
      let verdict = try ledger.now.compare(with: folder.appending(path: "test.db").path)
      #expect(verdict.isGood, "\(verdict)")
    }
  }

  @Test(arguments: [false, true])
  func `a commit that fails in an exclusive closure costs the connection, whatever that says`(
    throwing: Bool
  ) async throws {
    struct Mine: Error {}
    try await withFolder { folder in
      let faults = try Faults()
      let database = try await open(faults, in: folder)
      for sql in Ledger.schema { try await database.execute(sql) }
      faults.fail(FAULTS_SYNC, code: SQLITE_IOERR | 4 << 8)
      do {
        try await database.exclusive { connection in
          #expect(throws: DatabaseError.self) { try connection.execute(Ledger.insert(1)) }
          if throwing { throw Mine() }
        }
        #expect(!throwing)
      } catch {
        #expect(throwing && error is Mine)
      }
      #expect(faults.failed == 1)
      #expect(database.statistics.replacedConnections == 1)
      try await database.execute(Ledger.insert(2))
      #expect(database.statistics.replacedConnections == 1)
      try check(Ledger(acknowledged: [2]), faults, in: folder, "after an exclusive closure")
      try await database.close()
    }
  }

  /// What would be found if the process were killed now, or the power went.
  private func check(_ ledger: Ledger, _ faults: Faults, in root: URL, _ context: String) throws {
    for disk in 0..<3 {
      let folder = root.appending(path: "disk-\(UUID())")
      if disk == 0 {
        try faults.kept(into: folder)
      } else {
        try faults.disk(seed: .random(in: 0..<1 << 32), into: folder)
      }
      let verdict = try ledger.compare(with: folder.appending(path: "test.db").path)
      #expect(verdict.isGood, "\(verdict) \(disk == 0 ? "killed" : "cut") \(context)")
    }
  }

  @Test(arguments: Fault.all)
  func `each failure of the disk in turn: the file agrees with what the callers heard`(
    fault: Fault
  ) async throws {
    let places = try await withFolder { folder in
      let faults = try Faults()
      let database = try await life(in: folder, faults, SharedLedger())
      defer { withExtendedLifetime(faults) {} }
      let count = faults.count(fault.kind)
      try await database.close()
      return count
    }
    // At a lower scale not every place.
    let step = max(1, places / scaled(max(1, places)))
    var failed = 0
    for place in stride(from: 1, through: places, by: step) {
      failed += try await run(fault, at: place)
    }
    #expect(failed > 0 || places == 0, "it was met")
  }
}
