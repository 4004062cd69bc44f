// `lanyard version`

import ArgumentParser
import Lanyard
import LanyardDatabase

struct VersionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "version",
    abstract: "Print the version of the library and of its engine."
  )

  func run() {
    print("lanyard \(Worker.libraryVersion), SQLite \(Database.sqliteVersion)")
  }
}
