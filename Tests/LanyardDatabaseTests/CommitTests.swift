// A COMMIT that fails: what everybody is told, and what goes on afterwards.

import CFaults
import CSQLite
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 1)), .joinsAtExit)
struct CommitTests {
  private func withTable(_ body: (Database, Faults) async throws -> Void) async throws {
    try await withDatabaseFile { path in
      let faults = try Faults()
      var configuration = Database.Configuration()
      configuration.vfs = faults.name
      configuration.batchTime = .seconds(3600)
      let database = try await Database.open(path, configuration: configuration)
      try await database.execute("CREATE TABLE t (v INTEGER PRIMARY KEY)")
      try await body(database, faults)
      try await database.close()
    }
  }

  private static let group: [SQL] = [
    "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)", "SELECT * FROM t",
    "INSERT INTO t VALUES (2)", "INSERT INTO missing VALUES (1)",
  ]

  @Test
  func `a commit whose sync fails is unknown to all, and the next ones have a new connection`()
    async throws
  {
    try await withTable { database, faults in
      faults.fail(FAULTS_SYNC, code: SQLITE_IOERR | 4 << 8)
      let results = try await database.together(Self.group)
      #expect(
        results.map(code) == [
          .commitUnknown, .constraint, .commitUnknown, .commitUnknown, .statement,
        ])
      guard case .failure(let error as DatabaseError) = results[0] else { return }
      #expect(error.extendedCode == SQLITE_IOERR | 4 << 8)
      #expect(error.sql == "INSERT INTO t VALUES (1)")
      #expect(faults.failed == 1, "nothing was tried twice")
      #expect(database.statistics.replacedConnections == 1)
      try await database.execute("INSERT INTO t VALUES (10)")
      let values = try await database.query("SELECT v FROM t ORDER BY v", as: Int.self)
      #expect(values.last == 10)
      #expect(database.statistics.replacedConnections == 1)
    }
  }

  @Test func `a write that comes alone is unknown in the same case, a closure too`() async throws {
    try await withTable { database, faults in
      faults.fail(FAULTS_SYNC, code: SQLITE_IOERR | 4 << 8)
      let error = await databaseError { try await database.execute("INSERT INTO t VALUES (1)") }
      #expect(error?.code == .commitUnknown)
      faults.fail(FAULTS_SYNC, code: SQLITE_IOERR | 4 << 8)
      let second = await databaseError {
        try await database.write { _ = try $0.execute("INSERT INTO t VALUES (2)") }
      }
      #expect(second?.code == .commitUnknown)
      faults.fail(FAULTS_SYNC, code: SQLITE_IOERR | 4 << 8)
      let third = await databaseError {
        try await database.exclusive { _ = try $0.execute("INSERT INTO t VALUES (3)") }
      }
      #expect(third?.code == .commitUnknown)
      #expect(database.statistics.replacedConnections == 3)
      try await database.execute("INSERT INTO t VALUES (4)")
    }
  }

  @Test func `a commit without room is done again, one by one, and who finds room is there`()
    async throws
  {
    try await withTable { database, faults in
      faults.fail(FAULTS_WRITE, code: SQLITE_FULL)
      let results = try await database.together(Self.group)
      #expect(results.map(code) == [nil, .constraint, nil, nil, .statement])
      #expect(faults.failed == 1)
      #expect(database.statistics.reruns >= 4)
      #expect(database.statistics.replacedConnections == 0)
      faults.fail(FAULTS_WRITE, forEver: true, code: SQLITE_FULL)
      let second = try await database.together([
        "INSERT INTO t VALUES (3)", "INSERT INTO t VALUES (4)",
      ])
      #expect(second.map(code) == [.full, .full])
      faults.heal()
      try await database.execute("INSERT INTO t VALUES (5)")
      let values = try await database.query("SELECT v FROM t ORDER BY v", as: Int.self)
      #expect(values == [1, 2, 5])
    }
  }

  @Test func `while no new connection can be had, each request hears why, and then it goes on`()
    async throws
  {
    try await withTable { database, faults in
      faults.fail(FAULTS_SYNC, code: SQLITE_IOERR | 4 << 8)
      faults.fail(FAULTS_OPEN, forEver: true, code: SQLITE_CANTOPEN)
      let error = await databaseError { try await database.execute("INSERT INTO t VALUES (1)") }
      #expect(error?.code == .commitUnknown)
      for _ in 0..<3 {
        let error = await databaseError { try await database.execute("INSERT INTO t VALUES (2)") }
        #expect(error?.code == .cannotOpen)
      }
      faults.heal()
      try await database.execute("INSERT INTO t VALUES (3)")
    }
  }
}
