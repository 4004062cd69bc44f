// `lanyard import`: the words of the command line around `Importer`, and a look at what is left afterwards.

import ArgumentParser
import Foundation
import Lanyard
import LanyardDatabase

struct ImportCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Import a file of records through many concurrent writers.",
    discussion: """
      Each record becomes a row of a new table. Each writer sends its rows and waits until they are durable; \
      what waits at the same time shares a commit. Columns of numbers are found by a look at the whole file. \
      Records that cannot be imported are set aside in a file, with their lines; the command then fails.

      Interrupted, by Ctrl-C or otherwise, it can go on with --resume: no row that was acknowledged is \
      imported again, and none is left out.
      """
  )

  @Argument(help: "The file to import.", completion: .file())
  var file: String

  @Option(
    name: .customLong("into"), help: "The SQLite file to import into; created if there is none.")
  var database: String

  @Option(help: "The table to create.")
  var table: String

  @Option(help: "How many tasks write at the same time.")
  var writers = 64

  @Option(help: "How many rows a writer sends at once, as one transaction.")
  var batch = 1

  @Option(
    help: """
      What stands between fields, one character. Default by the file's suffix: ',' for .csv, a tab for \
      .tsv, ';' for .txt. With ',' fields may be in double quotes. Files .jsonl and .ndjson have an object \
      a line.
      """)
  var separator: String?

  @Flag(
    inversion: .prefixedNo,
    help: "Whether the first line has the names of the columns. Default: as it looks.")
  var header: Bool?

  @Flag(help: "Make every column TEXT, and store fields as they are.")
  var allText = false

  @Flag(help: "Drop the table first if there is one.")
  var replace = false

  @Flag(help: "Go on with an import into this table that was interrupted.")
  var resume = false

  @Option(help: "Where to set records aside that cannot be imported. Default: DATABASE.TABLE.bad.")
  var bad: String?

  func validate() throws {
    guard (1...100_000).contains(writers) else {
      throw ValidationError("--writers is \(writers): give 1 to 100000")
    }
    guard (1...100_000).contains(batch) else {
      throw ValidationError("--batch is \(batch): give 1 to 100000")
    }
    guard !table.isEmpty else { throw ValidationError("--table is empty: give the table a name") }
    guard separator.map({ $0.utf8.count == 1 && $0 != "\0" }) ?? true else {
      throw ValidationError("--separator is \"\(separator ?? "")\": give one ASCII character")
    }
    guard !(resume && replace) else {
      throw ValidationError("--resume keeps what is there and --replace drops it: give one of them")
    }
  }

  func run() async throws {
    let importer = Importer(
      file: file, format: try RecordFormat(separator: separator, file: file), table: table,
      header: header, types: !allText, replacesTable: replace, resumes: resume, writers: writers,
      batch: batch,
      badPath: bad ?? "\(database == ":memory:" ? "memory" : database).\(safe(table)).bad",
      databasePath: database.hasPrefix("sqlite:") ? String(database.dropFirst(7)) : database,
      isTerminal: isatty(FileHandle.standardError.fileDescriptor) == 1)
    _ = try FileFingerprint(file)  // before a database is created for it
    try createFolder()
    let report = try await importAndClose(importer)
    try await reportWhatIsLeft()
    if report.isInterrupted {
      print(
        "interrupted: \(counted(report.rows, "row")) of \(table) are committed. Go on with:\n  \(resumption)"
      )
      throw ExitCode(130)
    }
    guard report.badRecords == 0 else {
      throw ImportError(
        "\(grouped(report.badRecords)) of \(counted(report.badRecords + report.rows, "row")) could not be "
          + "imported and were set aside in \(importer.badPath)")
    }
  }

  /// A table's name as a part of a file's.
  private func safe(_ name: String) -> String {
    String(name.map { $0.isLetter || $0.isNumber || "_-".contains($0) ? $0 : "_" })
  }

  private var resumption: String {
    let words =
      [
        "lanyard", "import", file, "--into", database, "--table", table, "--resume", "--writers",
        "\(writers)",
      ]
      + (batch > 1 ? ["--batch", "\(batch)"] : []) + (bad.map { ["--bad", $0] } ?? [])
    return words.map { word in
      word.allSatisfy { $0.isLetter || $0.isNumber || "/._-:".contains($0) }
        ? word : "'" + word.replacingOccurrences(of: "'", with: "'\\''") + "'"
    }.joined(separator: " ")
  }

  private func importAndClose(_ importer: Importer) async throws -> Importer.Report {
    let database = try await Database.open(self.database)
    let report: Importer.Report
    do {
      let interruption = Interruption()
      report = try await importer.run(
        into: database, stop: interruption.flag, show: { print($0) },
        draw: { FileHandle.standardError.write(Data($0.utf8)) })
      interruption.end()
      describe("open", workers: Worker.live.count, threads: ProcessThread.ofTheLibrary)
    } catch {
      try? await database.close()  // the import's own error is the one to tell
      throw error
    }
    try await database.close()
    return report
  }

  /// Shows that nothing is left, and fails if something is.
  private func reportWhatIsLeft() async throws {
    let workers = joinWorkers()
    // The system may list a thread for a moment after it was joined.
    let end = ContinuousClock.now + .seconds(1)
    while !ProcessThread.ofTheLibrary.isEmpty, .now < end {
      try await Task.sleep(for: .milliseconds(1))
    }
    let threads = ProcessThread.ofTheLibrary
    describe("closed", workers: workers, threads: threads)
    guard workers == 0, threads.isEmpty else {
      throw ImportError("something was left behind: please report it")
    }
  }

  /// Nothing else runs any more, so this thread may be blocked.
  private func joinWorkers() -> Int { Worker.quiesce(within: .seconds(10)) }

  private func describe(_ state: String, workers: Int, threads: [ProcessThread]) {
    let names = threads.isEmpty ? "" : " (\(threads.map(\.name).joined(separator: ", ")))"
    print("\(state): live workers \(workers), threads of the library \(threads.count)\(names)")
  }

  private func createFolder() throws {
    let folder = URL(fileURLWithPath: database).deletingLastPathComponent()
    // Anything with a scheme is an address; what is wrong with it the database knows best.
    guard database != ":memory:", !database.contains(":"),
      !FileManager.default.fileExists(atPath: folder.path)
    else { return }
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw ImportError("cannot create the folder \(folder.path): \(error.localizedDescription)")
    }
  }
}
