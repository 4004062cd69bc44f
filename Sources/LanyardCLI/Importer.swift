// Imports a file into a table, through many tasks that write at the same time.
//
// The tasks take records from one reader, each as soon as what it has written is durable, so at most one
// batch a writer is on its way and memory does not grow with the file. A record that cannot be imported is
// set aside: rows in the table + bad records == records in the file, and that is checked.

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
  /// After so many bad records only their number is reported.
  private static let shownBadRecords = 20

  let file: String
  let format: RecordFormat
  let table: String
  /// nil: as it looks.
  var header: Bool?
  /// Whether columns get other types than TEXT.
  var types = true
  var replacesTable = false
  var resumes = false
  var writers = 64
  var batch = 1
  /// Where records go that cannot be imported.
  var badPath: String
  /// The database's file, if it is one.
  var databasePath: String?
  var isTerminal = false

  /// What an import did.
  struct Report: Sendable {
    let shape: TableShape
    /// In the table now; those that an interrupted import had left there included.
    let rows: Int
    let badRecords: Int
    let commits: Int
    let duration: Duration
    /// Whether it was stopped before the end of the file.
    let isInterrupted: Bool
  }

  /// Imports the file and reads the table back.
  ///
  /// - Parameters:
  ///   - stop: Ends the import early; what was sent is still waited for.
  ///   - show: Called with lines for people.
  ///   - draw: Called with what tells how far it is.
  func run(
    into database: Database, stop: StopFlag = StopFlag(),
    show: @escaping @Sendable (String) -> Void,
    draw: @escaping @Sendable (String) -> Void = { _ in }
  ) async throws -> Report {
    let fingerprint = try FileFingerprint(file)
    try checkBadPath()
    let ledger = ImportLedger(database, table: table)
    let shape: TableShape
    var lines = IndexSet()
    var total = 0
    if resumes {
      let interrupted = try await ledger.resume(from: fingerprint)
      (shape, lines) = (interrupted.shape, interrupted.lines)
      total = try Survey.records(file, shape)
      show("going on after \(counted(lines.count, "row"))")
    } else {
      let survey = try Survey(file: file, format: format, header: header, types: types)
      (shape, total) = (survey.shape, survey.records)
      if shape.hasHeader, header == nil {
        show("line 1 has the names of the columns (--no-header if it is data)")
      }
      _ = try ledger.rowIdentifier(of: shape)
      try await ledger.begin(shape, from: fingerprint, replacing: replacesTable)
    }

    let commits = database.statistics.commits
    let work = try Work(self, shape, done: lines, total: total, stop: stop, show: show, draw: draw)
    let insert = try Insert(table, shape, rowIdentifier: ledger.rowIdentifier(of: shape))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<writers {
        group.addTask { try await write(work, insert, to: database) }
      }
      try await group.waitForAll()
    }
    let end = work.end()
    let report = Report(
      shape: shape, rows: lines.count + end.rows, badRecords: end.badRecords,
      commits: database.statistics.commits - commits, duration: end.duration,
      isInterrupted: end.isInterrupted)
    show(
      "\(counted(end.rows, "row")) in \(seconds(end.duration)) s, \(rate(end.rows, end.duration)) rows/s, "
        + "\(counted(writers, "writer")), \(counted(report.commits, "commit"))")
    if end.badRecords > 0 {
      show("\(counted(end.badRecords, "bad row")), set aside in \(badPath)")
    }
    guard !report.isInterrupted else { return report }
    try await ledger.end()
    try await readBack(report, from: database, show: show)
    return report
  }

  /// What is there already is replaced, so it must not be what is read or written.
  private func checkBadPath() throws {
    func real(_ path: String) -> String {
      URL(fileURLWithPath: path).resolvingSymlinksInPath().standardizedFileURL.path
    }
    let database = databasePath.map { path in ["", "-wal", "-shm"].map { path + $0 } } ?? []
    guard !([file] + database).map(real).contains(real(badPath)) else {
      throw ImportError("bad rows would be set aside in \(badPath) itself: give another --bad")
    }
  }

  /// What one writer does.
  private func write(_ work: Work, _ insert: Insert, to database: Database) async throws {
    while true {
      let records = try work.next(batch)
      guard !records.isEmpty else { return }
      var rows: [(record: Record, sql: SQL)] = []
      for record in records {
        switch work.shape.values(of: record) {
        case .success(let values): rows.append((record, insert.row(record.line, values)))
        case .failure(let problem): try work.reject(record, problem.reason)
        }
      }
      do {
        try await send(rows.map(\.sql), to: database)
        work.countRows(rows.count)
      } catch let error as DatabaseError where rows.count > 1 && error.isOfItsRow {
        // One of them cannot be stored: each by itself.
        for (record, sql) in rows { try await writeAlone(record, sql, work, to: database) }
      } catch let error as DatabaseError where error.isOfItsRow {
        for (record, _) in rows { try work.reject(record, error.message) }
      }
    }
  }

  private func send(_ rows: [SQL], to database: Database) async throws {
    switch rows.count {
    case 0: break
    case 1: try await database.execute(rows[0])
    default:
      try await database.write { connection in
        for sql in rows { try connection.execute(sql) }
      }
    }
  }

  private func writeAlone(_ record: Record, _ sql: SQL, _ work: Work, to database: Database)
    async throws
  {
    do {
      try await database.execute(sql)
      work.countRows(1)
    } catch let error as DatabaseError where error.isOfItsRow {
      try work.reject(record, error.message)
    }
  }

  // MARK: Looking at the result

  private func readBack(_ report: Report, from database: Database, show: (String) -> Void)
    async throws
  {
    let count = try await database.query(
      "SELECT count(*) FROM \(identifier: table)", as: Int.self)[0]
    guard count == report.rows else {
      throw ImportError("\(counted(report.rows, "row")) written, and \(grouped(count)) read back")
    }
    show("read back: \(counted(count, "row")) of \(counted(report.shape.columns.count, "column"))")
    let number = report.shape.rowIdentifier ?? "rowid"
    for (place, order) in [("first", "ASC"), ("last", "DESC")] {
      let rows = try await database.query(
        "SELECT * FROM \(identifier: table) ORDER BY \(unsafeRaw: number) \(unsafeRaw: order) LIMIT 1"
      )
      if let row = rows.first { show("\(place): \(describe(row))") }
    }
    if let sample = try await unicodeSample(report, from: database) { show(sample) }
  }

  /// A well-known row, where the table looks like the list of Unicode's characters.
  private func unicodeSample(_ report: Report, from database: Database) async throws -> String? {
    guard report.shape.columns.count == 15, !report.shape.hasHeader else { return nil }
    let rows = try await database.query(
      "SELECT c2, c3 FROM \(identifier: table) WHERE c1 = \("1F600")", as: (String, String).self)
    return rows.first.map { "sample: U+1F600 is \($0), category \($1)" }
  }

  private func describe(_ row: Row) -> String {
    let text = row.values.map { value in
      switch value {
      case .null, .blob: ""
      case .integer(let integer): String(integer)
      case .real(let real): String(real)
      case .text(let text): text
      }
    }.joined(separator: format.isJSON ? "," : String(UnicodeScalar(format.separator)))
    return text.count <= 60 ? text : text.prefix(60) + "..."
  }

  // MARK: What the writers share

  private final class Work: Sendable {
    private struct State {
      var reader: RecordReader
      var bad: BadRecords
      var progress: Progress
      var rows = 0
      var isInterrupted = false
    }

    let shape: TableShape
    private let done: IndexSet
    private let stop: StopFlag
    private let state: Lock<State>
    private let show: @Sendable (String) -> Void
    private let draw: @Sendable (String) -> Void

    init(
      _ importer: Importer, _ shape: TableShape, done: IndexSet, total: Int, stop: StopFlag,
      show: @escaping @Sendable (String) -> Void, draw: @escaping @Sendable (String) -> Void
    ) throws {
      self.shape = shape
      self.done = done
      self.stop = stop
      self.show = show
      self.draw = draw
      var reader = try RecordReader(path: importer.file, format: shape.format)
      if shape.hasHeader { _ = try reader.next() }
      state = Lock(
        State(
          reader: reader, bad: try BadRecords(importer.badPath),
          progress: Progress(total: total, done: done.count, isTerminal: importer.isTerminal)))
    }

    /// The next records that are not in the table yet; none at the end, or when it is to stop.
    func next(_ limit: Int) throws -> [Record] {
      try state.withLock { state in
        var records: [Record] = []
        while records.count < limit {
          guard !stop.isSet else {
            state.isInterrupted = true
            break
          }
          guard let record = try state.reader.next() else { break }
          if !done.contains(record.line) { records.append(record) }
        }
        return records
      }
    }

    func countRows(_ count: Int) {
      let line = state.withLock { state in
        state.rows += count
        return state.progress.line(state.rows)
      }
      if let line { draw(line) }
    }

    func reject(_ record: Record, _ reason: String) throws {
      let number = try state.withLock { state in
        try state.bad.add(record, reason)
        return state.bad.count
      }
      if number <= Importer.shownBadRecords {
        show("  line \(record.line) was not imported: \(reason)")
      } else if number == Importer.shownBadRecords + 1 {
        show("  more lines were not imported; they are only counted")
      }
    }

    func end() -> (rows: Int, badRecords: Int, duration: Duration, isInterrupted: Bool) {
      let (end, ending) = state.withLock { state in
        (
          (state.rows, state.bad.count, state.progress.duration, state.isInterrupted),
          state.progress.ending
        )
      }
      if !ending.isEmpty { draw(ending) }
      return end
    }
  }
}

/// Asks an import to end early. From any thread.
final class StopFlag: Sendable {
  private let flag = Lock(false)
  var isSet: Bool { flag.withLock { $0 } }
  func set() { flag.withLock { $0 = true } }
}

/// The statement for one row.
private struct Insert: Sendable {
  private let table: String
  private let columns: String

  init(_ table: String, _ shape: TableShape, rowIdentifier: String) {
    self.table = table
    columns = ([rowIdentifier] + shape.columns.map { SQL("\(identifier: $0.name)").text })
      .joined(separator: ", ")
  }

  func row(_ line: Int, _ values: [Value]) -> SQL {
    "INSERT INTO \(identifier: table) (\(unsafeRaw: columns)) VALUES (\(line), \(list: values))"
  }
}

extension DatabaseError {
  /// Whether the row is to blame, and the next one may be better.
  fileprivate var isOfItsRow: Bool { code == .statement || code == .constraint }
}
