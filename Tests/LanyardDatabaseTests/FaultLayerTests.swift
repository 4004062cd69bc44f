// The file layer that fails, by itself: plain SQLite over it, so that what the other tests see is true.

import CFaults
import CSQLite
import Foundation
import LanyardTestSupport
import Testing

@Suite(.timeLimit(.native(minutes: 1)))
struct FaultLayerTests {
  /// A file in WAL mode with a table and `rows` rows.
  private func open(_ faults: Faults, in folder: URL, synchronous: String = "FULL") throws
    -> PlainSQLite
  {
    let file = try PlainSQLite(folder.appending(path: "test.db").path, vfs: faults.name)
    try file.rows("PRAGMA journal_mode = WAL")
    try file.rows("PRAGMA synchronous = \(synchronous)")
    try file.rows("CREATE TABLE t (v)")
    return file
  }

  private func rows(in folder: URL) throws -> Int {
    let file = try PlainSQLite(folder.appending(path: "test.db").path)
    #expect(try file.rows("PRAGMA integrity_check") == [["ok"]])
    guard try !file.rows("SELECT 1 FROM sqlite_schema").isEmpty else { return 0 }
    return try file.rows("SELECT * FROM t").count
  }

  @Test(
    arguments: [
      (FAULTS_WRITE, SQLITE_IOERR | 3 << 8), (FAULTS_WRITE, SQLITE_FULL),
      (FAULTS_SYNC, SQLITE_IOERR | 4 << 8),
    ] as [(faults_kind, Int32)])
  func `an operation fails with the code that was ordered, once, and from then on`(
    kind: faults_kind, code: Int32
  ) async throws {
    try await withFolder { folder in
      let faults = try Faults()
      let file = try open(faults, in: folder)
      let expected = PlainSQLite.Failure(code: code)
      let before = faults.count(kind)
      faults.fail(kind, code: code)
      #expect(throws: expected) { try file.rows("INSERT INTO t VALUES (1)") }
      #expect(faults.count(kind) == before + 1)
      #expect(faults.failed == 1)
      try file.rows("INSERT INTO t VALUES (2)")
      faults.fail(kind, forEver: true, code: code)
      for _ in 0..<3 { #expect(throws: expected) { try file.rows("INSERT INTO t VALUES (3)") } }
      faults.heal()
      try file.rows("INSERT INTO t VALUES (4)")
      #expect(try file.rows("SELECT v FROM t ORDER BY v") == [["2"], ["4"]])
    }
  }

  @Test func `opening, reading, deleting and truncating fail too`() async throws {
    try await withFolder { folder in
      let faults = try Faults()
      faults.fail(FAULTS_OPEN, code: SQLITE_CANTOPEN)
      #expect(throws: PlainSQLite.Failure(code: SQLITE_CANTOPEN)) {
        try open(faults, in: folder)
      }
      let file = try open(faults, in: folder)
      try file.rows("INSERT INTO t VALUES (1)")
      faults.fail(FAULTS_TRUNCATE, code: SQLITE_IOERR | 6 << 8)
      #expect(throws: PlainSQLite.Failure(code: SQLITE_IOERR | 6 << 8)) {
        try file.rows("PRAGMA wal_checkpoint(TRUNCATE)")
      }
      try file.rows("PRAGMA wal_checkpoint(TRUNCATE)")
      try file.rows("PRAGMA journal_mode = DELETE")
      faults.fail(FAULTS_DELETE, code: SQLITE_IOERR | 10 << 8)
      #expect(throws: PlainSQLite.Failure.self) { try file.rows("INSERT INTO t VALUES (2)") }
      let second = try PlainSQLite(folder.appending(path: "test.db").path, vfs: faults.name)
      faults.fail(FAULTS_READ, code: SQLITE_IOERR | 1 << 8)
      #expect(throws: PlainSQLite.Failure(code: SQLITE_IOERR | 1 << 8)) {
        try second.rows("SELECT * FROM t")
      }
    }
  }

  @Test func `scenarios do not see each other`() async throws {
    try await withFolder { folder in
      let (one, other) = (try Faults(), try Faults())
      try FileManager.default.createDirectory(
        at: folder.appending(path: "other"), withIntermediateDirectories: true)
      let first = try open(one, in: folder)
      let second = try open(other, in: folder.appending(path: "other"))
      one.cut()
      #expect(throws: PlainSQLite.Failure.self) { try first.rows("INSERT INTO t VALUES (1)") }
      try second.rows("INSERT INTO t VALUES (1)")
      #expect(other.failed == 0)
    }
  }

  @Test func `after a cut what was synced is there, and what was not is there or lost`()
    async throws
  {
    try await withFolder { folder in
      let faults = try Faults()
      let file = try open(faults, in: folder)
      try file.rows("INSERT INTO t VALUES (1)")
      try file.rows("PRAGMA synchronous = NORMAL")
      try file.rows("INSERT INTO t VALUES (2)")
      faults.cut()
      #expect(throws: PlainSQLite.Failure.self) { try file.rows("INSERT INTO t VALUES (3)") }
      var seen: [Int: Int] = [:]
      for seed in 0..<UInt64(200) {
        let disk = folder.appending(path: "disk-\(seed)")
        try faults.disk(seed: seed, into: disk)
        seen[try rows(in: disk), default: 0] += 1
      }
      #expect(Set(seen.keys) == [1, 2], "\(seen)")
      #expect((seen[1] ?? 0) > 20 && (seen[2] ?? 0) > 20, "\(seen)")
      let killed = folder.appending(path: "killed")
      try faults.kept(into: killed)
      #expect(try rows(in: killed) == 2)
    }
  }

  @Test func `the same seed makes the same disk`() async throws {
    try await withFolder { folder in
      let faults = try Faults()
      let file = try open(faults, in: folder, synchronous: "OFF")
      for value in 0..<20 { try file.rows("INSERT INTO t VALUES (\(value))") }
      faults.cut()
      func bytes(_ seed: UInt64, _ name: String) throws -> [String: Data] {
        let disk = folder.appending(path: name)
        try faults.disk(seed: seed, into: disk)
        var contents: [String: Data] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: disk.path) {
          let file = disk.appending(path: name)
          // Data(contentsOf:) leaks its buffer when a file is empty.
          let size = try file.resourceValues(forKeys: [.fileSizeKey]).fileSize
          contents[name] = size == 0 ? Data() : try Data(contentsOf: file)
        }
        return contents
      }
      #expect(try bytes(7, "one") == bytes(7, "two"))
      var disks: Set<[String: Data]> = []
      for seed in 0..<UInt64(20) { disks.insert(try bytes(seed, "by-\(seed)")) }
      #expect(disks.count > 5)
    }
  }

  @Test func `a file that was made and not synced may be lost, and shared memory always is`()
    async throws
  {
    try await withFolder { folder in
      let faults = try Faults()
      let file = try open(faults, in: folder, synchronous: "OFF")
      var found: Set<Set<String>> = []
      for seed in 0..<UInt64(100) {
        let disk = folder.appending(path: "disk-\(seed)")
        try faults.disk(seed: seed, into: disk)
        found.insert(Set(try FileManager.default.contentsOfDirectory(atPath: disk.path)))
      }
      #expect(found.contains(["test.db", "test.db-wal"]))
      #expect(found.contains { !$0.contains("test.db-wal") })
      #expect(!found.contains { $0.contains("test.db-shm") })
      _ = file
    }
  }

  @Test func `a failed sync that forgets loses what a later sync does not write again`()
    async throws
  {
    try await withFolder { folder in
      let faults = try Faults()
      faults.forget()
      let file = try open(faults, in: folder, synchronous: "NORMAL")
      try file.rows("INSERT INTO t VALUES (1)")
      faults.fail(FAULTS_SYNC, code: SQLITE_IOERR | 4 << 8)
      #expect(throws: PlainSQLite.Failure.self) { try file.rows("PRAGMA wal_checkpoint") }
      #expect(try file.rows("SELECT v FROM t") == [["1"]], "it is still read")
      try file.rows("PRAGMA synchronous = FULL")
      try file.rows("INSERT INTO t VALUES (2)")
      for seed in 0..<UInt64(20) {
        let disk = folder.appending(path: "disk-\(seed)")
        try faults.disk(seed: seed, into: disk)
        #expect(try rows(in: disk) == 0)
      }
    }
  }
}
