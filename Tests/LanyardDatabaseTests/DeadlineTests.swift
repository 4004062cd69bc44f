// Requests that are stopped: before they start, while they run, alone and in a group, on every thread.

import CFaults
import CSQLite
import LanyardTestSupport
import Testing

@testable import LanyardDatabase

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct DeadlineTests {
  private static let endless: SQL =
    "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)"
  private static let endlessWrite: SQL =
    "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"

  private func withTable(_ body: (Database) async throws -> Void) async throws {
    try await withDatabaseFile { path in
      let database = try await Database.open(path)
      try await database.execute("CREATE TABLE t (v INTEGER PRIMARY KEY)")
      try await body(database)
      try await database.close()
    }
  }

  @Test func `a deadline that has passed runs nothing`() async throws {
    try await withTable { database in
      let past = ContinuousClock.now - .seconds(1)
      let errors = [
        await databaseError {
          try await database.execute("INSERT INTO t VALUES (1)", deadline: past)
        },
        await databaseError { _ = try await database.query("SELECT 1", deadline: past) },
        await databaseError { try await database.write(deadline: past) { _ in } },
        await databaseError { try await database.read(deadline: past) { _ in } },
        await databaseError { try await database.exclusive(deadline: past) { _ in } },
      ]
      #expect(errors.map(\.?.code) == Array(repeating: .deadlineExceeded, count: 5))
      let count = try await database.query("SELECT count(*) FROM t", as: Int.self)
      #expect(count == [0])
    }
  }

  @Test func `a deadline passes in the queue, and its request leaves at once`() async throws {
    try await withTable { database in
      let gate = await database.holdingWriter()
      let error = await databaseError {
        try await database.execute(
          "INSERT INTO t VALUES (1)", deadline: .now + .milliseconds(20))
      }
      #expect(error?.code == .deadlineExceeded)
      gate.open()
      try await database.execute("INSERT INTO t VALUES (2)")
      let values = try await database.query("SELECT v FROM t", as: Int.self)
      #expect(values == [2])
    }
  }

  @Test(arguments: ["query", "rows", "read", "execute", "write", "exclusive"])
  func `a deadline interrupts what runs, wherever it runs`(kind: String) async throws {
    try await withTable { database in
      let deadline = ContinuousClock.now + .milliseconds(50)
      let endless = Self.endless
      let error = await databaseError {
        switch kind {
        case "query": _ = try await database.query(endless, deadline: deadline)
        case "read": try await database.read(deadline: deadline) { _ = try $0.query(endless) }
        case "execute": try await database.execute(Self.endlessWrite, deadline: deadline)
        case "write":
          try await database.write(deadline: deadline) { connection in
            try connection.execute("INSERT INTO t VALUES (1)")
            _ = try? connection.query(endless)
          }
        case "exclusive":
          try await database.exclusive(deadline: deadline) { _ = try $0.query(endless) }
        default:
          let task = Task { for try await _ in database.rows(endless) {} }
          await until { .now >= deadline }
          task.cancel()
          await #expect(throws: CancellationError.self) { try await task.value }
          throw DatabaseError.deadlineExceeded
        }
      }
      #expect(error?.code == .deadlineExceeded)
      try await database.execute("INSERT INTO t VALUES (2)")
      let values = try await database.query("SELECT v FROM t", as: Int.self)
      #expect(values == [2], "nothing of what was interrupted")
    }
  }

  @Test(arguments: 0..<10)
  func `an endless member is stopped, and its neighbours take effect once`(place: Int) async throws
  {
    try await withTable { database in
      let gate = await database.holdingWriter()
      var tasks: [Task<Database.Effect, any Error>] = []
      for number in 0..<10 {
        let sql: SQL = number == place ? Self.endlessWrite : "INSERT INTO t VALUES (\(number))"
        tasks.append(Task { try await database.execute(sql) })
        await until { database.waiting == tasks.count }
      }
      gate.open()
      // It runs once those before it have run: then it is the one that everybody waits for.
      try await Task.sleep(for: .milliseconds(5))
      tasks[place].cancel()
      await #expect(throws: CancellationError.self) { try await tasks[place].value }
      for (number, task) in tasks.enumerated() where number != place {
        let effect = try await task.value
        #expect(effect.changes == 1)
      }
      let values = try await database.query("SELECT v FROM t ORDER BY v", as: Int.self)
      #expect(values == (0..<10).filter { $0 != place })
    }
  }

  @Test func `a stop reaches its own request and no other`() async throws {
    try await withTable { database in
      let rounds = scaled(20_000)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for caller in 0..<8 {
          group.addTask {
            var random = SplitMix(seed: UInt64(caller))
            for _ in 0..<rounds / 8 {
              let isWrite = Bool.random(using: &random)
              let victim = Task {
                if isWrite {
                  try await database.execute("INSERT OR REPLACE INTO t VALUES (\(caller))")
                } else {
                  _ = try await database.query("SELECT v FROM t WHERE v = \(caller)")
                }
              }
              let other = Task {
                try await database.query("SELECT \(caller)", as: Int.self)
              }
              for _ in 0..<Int.random(in: 0..<3, using: &random) { await Task.yield() }
              victim.cancel()
              // The victim's answer may be either; its neighbour's may not.
              if case .failure(let error) = await victim.result {
                try #require(error is CancellationError, "\(error)")
              }
              try #require(try await other.value == [caller])
            }
          }
        }
        try await group.waitForAll()
      }
    }
  }

  @Test func `waiting for another process can be stopped, and ends by itself`() async throws {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.busyTimeout = .milliseconds(50)
      let impatient = try await Database.open(path, configuration: configuration)
      try await impatient.execute("CREATE TABLE t (v)")
      configuration.busyTimeout = .seconds(3600)
      let patient = try await Database.open(path, configuration: configuration)

      var other: OpaquePointer?
      #expect(sqlite3_open(path, &other) == SQLITE_OK)
      defer { sqlite3_close(other) }
      #expect(sqlite3_exec(other, "BEGIN IMMEDIATE", nil, nil, nil) == SQLITE_OK)
      let busy = await databaseError { try await impatient.execute("INSERT INTO t VALUES (1)") }
      #expect(busy?.code == .busy)
      let late = await databaseError {
        try await patient.execute("INSERT INTO t VALUES (2)", deadline: .now + .milliseconds(50))
      }
      #expect(late?.code == .deadlineExceeded)
      let cancelled = Task { try await patient.execute("INSERT INTO t VALUES (3)") }
      try await Task.sleep(for: .milliseconds(5))
      cancelled.cancel()
      await #expect(throws: CancellationError.self) { try await cancelled.value }
      #expect(sqlite3_exec(other, "COMMIT", nil, nil, nil) == SQLITE_OK)
      try await patient.execute("INSERT INTO t VALUES (4)")
      let values = try await patient.query("SELECT v FROM t", as: Int.self)
      #expect(values == [4])
      try await patient.close()
      try await impatient.close()
    }
  }

  @Test(arguments: 0..<10, [false, true])
  func `an endless closure is stopped by its own deadline or cancellation, once it runs`(
    place: Int, isCancelled: Bool
  ) async throws {
    try await withTable { database in
      let runs = Counter()
      let others = Counter()
      let left = Counter()
      let gate = await database.holdingWriter()
      var tasks: [Task<Void, any Error>] = []
      for number in 0..<10 {
        tasks.append(
          Task {
            guard number == place else {
              return try await database.write { connection in
                others.increment()
                try connection.execute("INSERT INTO t VALUES (\(number))")
              }
            }
            // On a slow machine its deadline may pass before it is even sent.
            defer { left.increment() }
            let deadline = ContinuousClock.now + .milliseconds(isCancelled ? 3_600_000 : 30)
            try await database.write(deadline: deadline) { connection in
              runs.increment()
              try connection.execute("INSERT INTO t VALUES (\(number))")
              // What stops it cannot be swallowed.
              _ = try? connection.execute(Self.endlessWrite)
              _ = try? connection.query(Self.endless)
            }
          })
        await until { database.waiting + left.value >= tasks.count }
      }
      gate.open()
      if isCancelled {
        await until { runs.value == 1 }
        tasks[place].cancel()
      }
      for (number, task) in tasks.enumerated() {
        switch (await task.result, number == place) {
        case (.success, let isPlace): #expect(!isPlace)
        case (.failure(let error), true):
          #expect(
            isCancelled
              ? error is CancellationError
              : (error as? DatabaseError)?.code == .deadlineExceeded)
        case (.failure(let error), false): Issue.record("\(error)")
        }
      }
      #expect(runs.value <= 1)
      #expect(others.value >= 9, "some may run again")
      let values = try await database.query("SELECT v FROM t ORDER BY v", as: Int.self)
      #expect(values == (0..<10).filter { $0 != place })
    }
  }

  /// A closure of the same group cancels the one before it, which has run and waits for the COMMIT.
  private func cancellingInTheGroup(
    _ database: Database, _ sql: SQL
  ) async -> (Result<Database.Effect, any Error>, Result<Void, any Error>) {
    let gate = await database.holdingWriter()
    let first = Task { try await database.execute(sql) }
    await until { database.waiting == 1 }
    let second = Task {
      try await database.write { connection in
        first.cancel()
        try connection.execute("INSERT INTO t VALUES (100)")
      }
    }
    await until { database.waiting == 2 }
    gate.open()
    return (await first.result, await second.result)
  }

  private func withFaults(_ body: (Database, Faults) async throws -> Void) async throws {
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

  @Test func `a cancellation between the run and the commit comes too late`() async throws {
    try await withFaults { database, _ in
      let (first, second) = await cancellingInTheGroup(database, "INSERT INTO t VALUES (1)")
      #expect(try first.get().changes == 1)
      try second.get()
      #expect(try await database.query("SELECT v FROM t", as: Int.self) == [1, 100])
    }
  }

  @Test func `whose commit is unknown hears that, though it was cancelled meanwhile`()
    async throws
  {
    try await withFaults { database, faults in
      faults.fail(FAULTS_SYNC, code: SQLITE_IOERR | 4 << 8)
      let (first, second) = await cancellingInTheGroup(database, "INSERT INTO t VALUES (1)")
      #expect(code(first) == .commitUnknown)
      #expect(throws: DatabaseError.self) { try second.get() }
    }
  }

  @Test func `who is cancelled and then loses the commit for lack of room does not run again`()
    async throws
  {
    try await withFaults { database, faults in
      faults.fail(FAULTS_WRITE, code: SQLITE_FULL)
      let (first, second) = await cancellingInTheGroup(database, "INSERT INTO t VALUES (1)")
      #expect(throws: CancellationError.self) { try first.get() }
      try second.get()
      #expect(try await database.query("SELECT v FROM t", as: Int.self) == [100])
    }
  }

  @Test func `a deadline that is far away or was kept changes nothing`() async throws {
    try await withTable { database in
      let later = ContinuousClock.now + .seconds(3600)
      for number in 0..<scaled(200) {
        try await database.execute("INSERT INTO t VALUES (\(number))", deadline: later)
        let seen = try await database.query(
          "SELECT max(v) FROM t", as: Int.self, deadline: later)
        try #require(seen == [number])
      }
    }
  }

  @Test func `a read that waits leaves at its deadline, and the reader passes it by`() async throws
  {
    try await withDatabaseFile { path in
      var configuration = Database.Configuration()
      configuration.readers = 1
      let database = try await Database.open(path, configuration: configuration)
      let gate = Gate()
      let held = Task { try await database.read { _ in gate.pass() } }
      await gate.arrived()
      let runs = Counter()
      let late = await databaseError {
        try await database.read(deadline: .now + .milliseconds(20)) { _ in runs.increment() }
      }
      #expect(late?.code == .deadlineExceeded)
      let cancelled = Task { try await database.read { _ in runs.increment() } }
      await until { database.engine.reads == 2 }
      cancelled.cancel()
      await #expect(throws: CancellationError.self) { try await cancelled.value }
      gate.open()
      try await held.value
      #expect(try await database.query("SELECT 1", as: Int.self) == [1])
      #expect(runs.value == 0)
      try await database.close()
    }
  }
}
