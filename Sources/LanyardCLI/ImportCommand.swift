// `lanyard import`: the words of the command line around `Importer`, and a look at what is left afterwards.

import ArgumentParser
import Foundation
import Lanyard
import LanyardDatabase

struct ImportCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Import a file of separated values through many concurrent writers.",
    discussion: """
      Every line becomes a row of a new table whose columns are all TEXT. Each writer sends one row at a \
      time and waits until it is durable; rows that wait at the same time share a commit. Lines with \
      another number of fields than the first are reported and not imported; the command then fails.
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

  @Option(
    help: """
      What stands between fields, one character. Default by the file's suffix: ',' for .csv, a tab for \
      .tsv, ';' for .txt. With ',' fields may be in double quotes.
      """)
  var separator: String?

  @Flag(help: "The first line has the names of the columns. Without it they are c1, c2, ...")
  var header = false

  @Flag(help: "Drop the table first if there is one.")
  var replace = false

  func validate() throws {
    guard (1...100_000).contains(writers) else {
      throw ValidationError("--writers is \(writers): give 1 to 100000")
    }
    guard !table.isEmpty else { throw ValidationError("--table is empty: give the table a name") }
    guard separator.map({ $0.utf8.count == 1 }) ?? true else {
      throw ValidationError("--separator is \"\(separator ?? "")\": give one ASCII character")
    }
  }

  func run() async throws {
    let format = try RecordFormat(separator: separator, file: file)
    let importer = Importer(
      file: file, format: format, hasHeader: header, table: table, replacesTable: replace,
      writers: writers)
    try importer.check()
    try createFolder()
    let report = try await importAndClose(importer)
    try await reportWhatIsLeft()
    guard report.badRows == 0 else {
      throw ImportError(
        "\(grouped(report.badRows)) of \(counted(report.badRows + report.rows, "row")) could not be "
          + "imported, see above; correct the file and import it again with --replace")
    }
  }

  private func importAndClose(_ importer: Importer) async throws -> Importer.Report {
    let database = try await Database.open(self.database)
    let report: Importer.Report
    do {
      report = try await importer.run(into: database) { print($0) }
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
    guard database != ":memory:", !database.contains("://"),
      !FileManager.default.fileExists(atPath: folder.path)
    else { return }
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw ImportError("cannot create the folder \(folder.path): \(error.localizedDescription)")
    }
  }
}
