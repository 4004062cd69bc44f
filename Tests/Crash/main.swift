// lanyard-crash - writes until it is killed, and says what it was told.
//
//   lanyard-crash PATH FIRST WRITERS
//
// Its parent kills it at any moment, opens the file, and compares. Each line on standard output is written by
// one write(2), so that a line is there or not:
//
//   A ID ...    acknowledged: these rows are in the file from now on, whatever happens
//   R ID        refused: this row is in no file ever
//   E TEXT      what should not have happened
//
// Each writer has numbers of its own, from FIRST on. When nobody reads any more the next line ends it.

import Foundation
import LanyardDatabase

private struct Changed: Error {}

private func say(_ line: String) {
  let bytes = Array("\(line)\n".utf8)
  guard write(STDOUT_FILENO, bytes, bytes.count) == bytes.count else { exit(1) }
}

private func insert(_ id: Int) -> SQL {
  "INSERT INTO t VALUES (\(id), NULL, hex(zeroblob(\(id % 900))) || \(id))"
}

/// One request of a writer: most are served, some must be refused.
private func request(_ turn: Int, _ id: Int, on database: Database) async {
  func refused(_ body: () async throws -> Void) async {
    do {
      try await body()
      say("E \(id) should have been refused")
    } catch is Changed {
      say("R \(id)")
    } catch let error as DatabaseError where error.code == .constraint {
      say("R \(id)")
    } catch {
      say("E \(id): \(error)")
    }
  }
  do {
    switch turn % 10 {
    case 2:
      await refused {
        try await database.execute("INSERT INTO t VALUES (\(id), 'taken', 'refused')")
      }
    case 4:
      await refused {
        try await database.write { connection in
          try connection.execute("INSERT INTO t VALUES (\(id), NULL, 'refused')")
          throw Changed()
        }
      }
    case 6:
      await refused {
        try await database.execute("INSERT OR ROLLBACK INTO t VALUES (\(id), 'taken', 'refused')")
      }
    case 8:
      let second = id + 1
      try await database.write { connection in
        try connection.execute(insert(id))
        try connection.execute(insert(second))
      }
      say("A \(id) \(second)")
    default:
      try await database.execute(insert(id))
      say("A \(id)")
    }
  } catch {
    say("E \(id): \(error)")
  }
}

let arguments = CommandLine.arguments
guard arguments.count == 4, let first = Int(arguments[2]), let writers = Int(arguments[3]) else {
  say("E usage: lanyard-crash PATH FIRST WRITERS")
  exit(2)
}
do {
  let database = try await Database.open(arguments[1])
  try await database.execute(
    "CREATE TABLE IF NOT EXISTS t (id INTEGER NOT NULL, key TEXT UNIQUE, body TEXT NOT NULL)")
  try await database.execute("INSERT OR IGNORE INTO t VALUES (0, 'taken', '0')")
  await withTaskGroup(of: Void.self) { group in
    for writer in 0..<writers {
      group.addTask {
        for turn in 0... {
          await request(turn + writer, first + 2 * (turn * writers + writer), on: database)
          if turn % 16 == 0 {
            // A reader keeps the WAL from being reset.
            _ = try? await database.query("SELECT max(id) FROM t")
          }
        }
      }
    }
  }
} catch {
  say("E \(error)")
}
