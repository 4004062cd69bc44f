// Imports a file of separated values into a new table, through many tasks that each write one row at a time.
//
// The tasks take records from one reader, each as soon as its last row is durable, so at most one row a
// writer is on its way and memory does not grow with the file. A row that cannot be imported is reported
// with its line and counted: rows in the table + bad rows == records in the file, and that is checked.

import Foundation
import Lanyard
import LanyardDatabase

/// What is wrong with an import, in one sentence.
struct ImportError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) {
    self.description = description
  }
}

extension ImportError: LocalizedError {
  var errorDescription: String? { description }
}

struct Importer: Sendable {
  private static let progressInterval = Duration.milliseconds(500)
  /// After so many bad rows only their number is reported.
  private static let shownBadRows = 20

  private let file: String
  private let format: RecordFormat
  private let hasHeader: Bool
  private let table: String
  private let replacesTable: Bool
  private let writers: Int

  init(
    file: String, format: RecordFormat, hasHeader: Bool = false, table: String,
    replacesTable: Bool = false, writers: Int = 64
  ) {
    self.file = file
    self.format = format
    self.hasHeader = hasHeader
    self.table = table
    self.replacesTable = replacesTable
    self.writers = writers
  }

  /// What an import did.
  struct Report: Sendable, Hashable {
    let columns: [String]
    let rows: Int
    let badRows: Int
    let commits: Int
    let duration: Duration
  }

  /// Fails if the file cannot be read; before a database is created for it.
  func check() throws {
    _ = try RecordReader(path: file, format: format)
  }

  /// Imports the file and reads the table back.
  ///
  /// - Parameter show: Called with lines for people, from any task.
  func run(into database: Database, show: @escaping @Sendable (String) -> Void) async throws
    -> Report
  {
    var reader = try RecordReader(path: file, format: format)
    guard let first = try reader.next() else {
      throw ImportError("\(file) is empty: there is nothing to import")
    }
    guard let fields = format.fields(first.bytes) else {
      throw ImportError("line 1 of \(file) is not UTF-8, or its quotes are in the wrong places")
    }
    let columns = hasHeader ? fields : (1...fields.count).map { "c\($0)" }
    try await createTable(columns, in: database)

    let commits = database.statistics.commits
    let work = Work(reader, first: hasHeader ? nil : first, show: show)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<writers {
        group.addTask { try await write(work, columns: columns.count, to: database) }
      }
      try await group.waitForAll()
    }
    let (rows, badRows, duration) = work.end()
    let report = Report(
      columns: columns, rows: rows, badRows: badRows,
      commits: database.statistics.commits - commits, duration: duration)
    show(
      "\(counted(rows, "row")) in \(seconds(duration)) s, \(rate(rows, duration)) rows/s, "
        + "\(counted(writers, "writer")), \(counted(report.commits, "commit"))")
    if badRows > 0 { show(counted(badRows, "bad row")) }
    try await readBack(report, from: database, show: show)
    return report
  }

  private func createTable(_ columns: [String], in database: Database) async throws {
    if replacesTable {
      try await database.execute("DROP TABLE IF EXISTS \(identifier: table)")
    } else {
      let existing = try await database.query(
        "SELECT 1 FROM sqlite_schema WHERE name = \(table) COLLATE NOCASE AND type IN ('table', 'view')"
      )
      guard existing.isEmpty else {
        throw ImportError(
          "there is a table \"\(table)\" already: give another --table, or --replace to drop it first"
        )
      }
    }
    var sql = SQL.StringInterpolation(literalCapacity: 0, interpolationCount: 0)
    sql.appendLiteral("CREATE TABLE ")
    sql.appendInterpolation(identifier: table)
    for (index, column) in columns.enumerated() {
      sql.appendLiteral(index == 0 ? " (" : ", ")
      sql.appendInterpolation(identifier: column)
      sql.appendLiteral(" TEXT")
    }
    sql.appendLiteral(")")
    try await database.execute(SQL(stringInterpolation: sql))
  }

  /// What one writer does.
  private func write(_ work: Work, columns: Int, to database: Database) async throws {
    while let record = try work.next() {
      guard let fields = format.fields(record.bytes) else {
        work.reject(record, "it is not UTF-8, or its quotes are in the wrong places")
        continue
      }
      guard fields.count == columns else {
        work.reject(record, "it has \(counted(fields.count, "field")), not \(columns)")
        continue
      }
      try await database.execute("INSERT INTO \(identifier: table) VALUES (\(list: fields))")
      work.countRow()
    }
  }

  private func readBack(_ report: Report, from database: Database, show: (String) -> Void)
    async throws
  {
    let count = try await database.query("SELECT count(*) FROM \(identifier: table)")
      .first?.value(at: 0, as: Int.self)
    guard count == report.rows else {
      throw ImportError(
        "\(counted(report.rows, "row")) written, and \(grouped(count ?? 0)) read back")
    }
    show("read back: \(counted(report.rows, "row")) of \(counted(report.columns.count, "column"))")
    // The smallest and the largest first field: the order of the rows is the writers' own.
    for (place, order) in [("first", "ASC"), ("last", "DESC")] {
      let rows = try await database.query(
        "SELECT * FROM \(identifier: table) ORDER BY 1 \(unsafeRaw: order) LIMIT 1")
      if let row = rows.first { show("\(place): \(describe(row))") }
    }
    if let sample = try await unicodeSample(report, from: database) { show(sample) }
  }

  /// A well-known row, where the table looks like the list of Unicode's characters.
  private func unicodeSample(_ report: Report, from database: Database) async throws -> String? {
    guard report.columns.count == 15, !hasHeader else { return nil }
    let rows = try await database.query(
      "SELECT c2 AS name, c3 AS category FROM \(identifier: table) WHERE c1 = \("1F600")")
    guard let row = rows.first else { return nil }
    return try "sample: U+1F600 is \(row.value("name", as: String.self)), "
      + "category \(row.value("category", as: String.self))"
  }

  private func describe(_ row: Row) -> String {
    let text = row.values.map { value in
      if case .text(let text) = value { text } else { "" }
    }.joined(separator: String(UnicodeScalar(format.separator)))
    return text.count <= 60 ? text : text.prefix(60) + "..."
  }

  /// What the writers share.
  private final class Work: Sendable {
    private struct State {
      var reader: RecordReader
      var first: Record?
      var rows = 0
      var badRows = 0
      var shown = ContinuousClock.now
    }

    private let started = ContinuousClock.now
    private let state: Lock<State>
    private let show: @Sendable (String) -> Void

    init(_ reader: sending RecordReader, first: Record?, show: @escaping @Sendable (String) -> Void)
    {
      state = Lock(State(reader: reader, first: first))
      self.show = show
    }

    func next() throws -> Record? {
      try state.withLock { state in
        if let first = state.first {
          state.first = nil
          return first
        }
        return try state.reader.next()
      }
    }

    func countRow() {
      let now = ContinuousClock.now
      let due: Int? = state.withLock { state in
        state.rows += 1
        guard state.shown.duration(to: now) >= Importer.progressInterval else { return nil }
        state.shown = now
        return state.rows
      }
      if let due {
        show("  \(counted(due, "row")), \(rate(due, started.duration(to: now))) rows/s")
      }
    }

    func reject(_ record: Record, _ reason: String) {
      let number = state.withLock { state in
        state.badRows += 1
        return state.badRows
      }
      if number <= Importer.shownBadRows {
        show("  line \(record.line) was not imported: \(reason)")
      } else if number == Importer.shownBadRows + 1 {
        show("  more lines were not imported; they are only counted")
      }
    }

    func end() -> (rows: Int, badRows: Int, duration: Duration) {
      let (rows, badRows) = state.withLock { ($0.rows, $0.badRows) }
      return (rows, badRows, started.duration(to: .now))
    }
  }
}

/// A number with commas between its thousands.
func grouped(_ number: Int) -> String {
  var text = String(number.magnitude)
  for position in stride(from: text.count - 3, to: 0, by: -3) {
    text.insert(",", at: text.index(text.startIndex, offsetBy: position))
  }
  return number < 0 ? "-" + text : text
}

/// A number with its noun, which gets an s where it is not one.
func counted(_ number: Int, _ noun: String) -> String {
  "\(grouped(number)) \(noun)\(number == 1 ? "" : "s")"
}

private func seconds(_ duration: Duration) -> String {
  let hundredths = Int(duration / .milliseconds(10))
  let rest = hundredths % 100
  return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
}

private func rate(_ count: Int, _ duration: Duration) -> String {
  grouped(Int(Double(count) / max(duration / .seconds(1), 1e-9)))
}
