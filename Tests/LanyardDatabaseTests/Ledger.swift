// What callers were told, and whether a file agrees.

import Foundation
import Lanyard

@testable import LanyardDatabase

/// The rows by their numbers, and what became of the requests for them. Numbers are used once.
struct Ledger: Sendable {
  /// In the file for ever.
  var acknowledged: Set<Int> = []
  /// Never in the file.
  var refused: Set<Int> = []
  /// In the file or not.
  var unknown: Set<Int> = []
  /// What nobody should be told.
  var complaints: [String] = []

  /// The table, in a file that may have it.
  static let schema: [SQL] = [
    "CREATE TABLE IF NOT EXISTS t (id INTEGER NOT NULL, key TEXT UNIQUE, body TEXT NOT NULL)",
    "INSERT OR IGNORE INTO t VALUES (0, 'taken', '0')",
  ]

  static func insert(_ id: Int) -> SQL {
    "INSERT INTO t VALUES (\(id), NULL, hex(zeroblob(\(id % 900))) || \(id))"
  }

  /// What a file has that it should not have, or has not. Opens it with SQLite alone.
  struct Verdict: CustomStringConvertible {
    /// Acknowledged rows that are not there.
    var lost: [Int] = []
    /// Anything else: rows of refused requests, rows twice, wrong contents, damage.
    var wrong: [String] = []

    var isGood: Bool { lost.isEmpty && wrong.isEmpty }
    var description: String { "lost: \(lost.prefix(20)), wrong: \(wrong.prefix(20))" }
  }

  func compare(with path: String) throws -> Verdict {
    var verdict = Verdict(wrong: complaints)
    let file = try PlainSQLite(path)
    // What is looked at need not survive anything.
    try file.rows("PRAGMA synchronous = OFF")
    let integrity = try file.rows("PRAGMA integrity_check")
    if integrity != [["ok"]] { verdict.wrong.append("integrity: \(integrity)") }
    var found: Set<Int> = []
    if try file.rows("SELECT 1 FROM sqlite_schema WHERE name = 't'").isEmpty {
      verdict.lost = acknowledged.sorted()
      return verdict
    }
    let rows = try file.rows(
      "SELECT id, body = CASE id WHEN 0 THEN '0' ELSE hex(zeroblob(id % 900)) || id END FROM t")
    for row in rows {
      guard let id = row[0].flatMap({ Int($0) }) else { continue }
      if !found.insert(id).inserted { verdict.wrong.append("\(id) is there twice") }
      if row[1] != "1" { verdict.wrong.append("\(id) has another content") }
      if refused.contains(id) { verdict.wrong.append("\(id) was refused") }
    }
    verdict.lost = acknowledged.subtracting(found).sorted()
    return verdict
  }
}

/// A ledger that many tasks write.
final class SharedLedger: Sendable {
  private let ledger: Lock<Ledger>

  init(_ ledger: Ledger = Ledger()) {
    self.ledger = Lock(ledger)
  }

  var now: Ledger { ledger.withLock { $0 } }

  func update(_ body: @Sendable (inout Ledger) -> Void) {
    ledger.withLock { body(&$0) }
  }

  private struct Changed: Error {}

  /// Sends one request for a row, or for two, and notes what the caller was told. A turn in ten or so must be
  /// refused.
  ///
  /// - Parameter id: This number and the next are this request's.
  /// - Returns: Whether it went as it should: what failed by itself did so too.
  @discardableResult
  func request(_ turn: Int, _ id: Int, on database: Database) async -> Bool {
    var ids = [id]
    do {
      var isToBeRefused = true
      switch turn % 10 {
      case 2:
        try await database.execute("INSERT INTO t VALUES (\(id), 'taken', 'refused')")
      case 4:
        try await database.write { connection in
          try connection.execute(Ledger.insert(id))
          throw Changed()
        }
      case 6:
        try await database.execute("INSERT OR ROLLBACK INTO t VALUES (\(id), 'taken', 'refused')")
      case 8:
        isToBeRefused = false
        ids.append(id + 1)
        try await database.write { connection in
          try connection.execute(Ledger.insert(id))
          try connection.execute(Ledger.insert(id + 1))
        }
      default:
        isToBeRefused = false
        try await database.execute(Ledger.insert(id))
      }
      if isToBeRefused { complain("\(id) should have been refused") }
      update { [ids] in $0.acknowledged.formUnion(ids) }
      return true
    } catch let error as DatabaseError where error.code == .commitUnknown {
      update { [ids] in $0.unknown.formUnion(ids) }
      return false
    } catch {
      update { [ids] in $0.refused.formUnion(ids) }
      switch error {
      case is Changed: return true
      case let error as DatabaseError: return error.code == .constraint
      default:
        complain("\(id): \(error) is not typed")
        return false
      }
    }
  }

  private func complain(_ text: String) {
    update { $0.complaints.append(text) }
  }
}
