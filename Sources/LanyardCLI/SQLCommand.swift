// `lanyard sql`: statements from the command line, and their answers as a table, CSV or JSON.

import ArgumentParser
import Foundation
import LanyardDatabase

struct SQLCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sql",
    abstract: "Execute statements and print their rows.",
    discussion: """
      The statements run one after the other, each as a transaction of its own; the first that fails ends \
      the command. Rows of csv, json and jsonl are printed as they come, those of a table when all are \
      there. How many rows a statement has changed is said on standard error.
      """
  )

  @Argument(help: "The SQLite file, or :memory:.", completion: .file())
  var database: String

  @Argument(help: "The statements; - reads one from standard input.")
  var statements: [String]

  @Option(help: "How to print rows: \(RowFormat.allCases.map(\.rawValue).joined(separator: ", ")).")
  var format = RowFormat.table

  func run() async throws {
    // A file that is not there is a mistake more often than a wish for an empty one.
    let path = database.hasPrefix("sqlite:") ? String(database.dropFirst(7)) : database
    guard path == ":memory:" || path.contains("://") || FileManager.default.fileExists(atPath: path)
    else {
      throw ImportError("there is no file \(path): give the path of a database that exists")
    }
    let database = try await Database.open(self.database)
    do {
      for statement in statements {
        try await execute(statement == "-" ? try standardInput() : statement, on: database)
      }
    } catch {
      try? await database.close()  // the statement's own error is the one to tell
      throw error
    }
    try await database.close()
  }

  private func standardInput() throws -> String {
    guard let data = try FileHandle.standardInput.readToEnd(),
      let text = String(data: data, encoding: .utf8)
    else { throw ImportError("standard input is empty or not UTF-8: give one statement") }
    return text
  }

  private func execute(_ text: String, on database: Database) async throws {
    var printer = RowPrinter(format)
    var output = StandardOutput()
    let before = try await changes(of: database)
    for try await row in database.rows(SQL(unsafeRaw: text)) { printer.add(row, to: &output) }
    printer.end(&output)
    output.flush()
    let changed = try await changes(of: database) - before
    if changed > 0 {
      FileHandle.standardError.write(Data("\(counted(changed, "row")) changed\n".utf8))
    }
  }

  /// All rows that the writer has changed so far; nobody else uses this handle.
  private func changes(of database: Database) async throws -> Int {
    try await database.exclusive { connection in
      try connection.query("SELECT total_changes()", as: Int.self)[0]
    }
  }
}

/// Standard output in large pieces.
private struct StandardOutput: TextOutputStream {
  private static let limit = 1 << 16
  private var pending = ""

  mutating func write(_ text: String) {
    pending += text
    if pending.utf8.count >= Self.limit { flush() }
  }

  mutating func flush() {
    FileHandle.standardOutput.write(Data(pending.utf8))
    pending = ""
  }
}
