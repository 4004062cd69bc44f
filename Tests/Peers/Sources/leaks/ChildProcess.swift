// A process of its own for each subject: one that traps is a line of the table, and nobody counts the
// threads of another.

import Foundation

struct ChildProcess {
  enum Ending {
    case counted(Census)
    /// It was killed by a signal or gave up, and these were its words.
    case ended(String)
  }

  private let process = Process()
  private let output = Pipe()
  private let complaint = Pipe()

  /// Starts this program again, with other arguments.
  static func start(_ arguments: [String]) throws -> ChildProcess {
    let child = ChildProcess()
    child.process.executableURL = Bundle.main.executableURL
    child.process.arguments = arguments
    // The message of a trap is enough; its stack would take a minute to print.
    child.process.environment = ProcessInfo.processInfo.environment
      .merging(["SWIFT_BACKTRACE": "enable=no"]) { $1 }
    child.process.standardOutput = child.output
    child.process.standardError = child.complaint
    try child.process.run()
    return child
  }

  /// Waits for its end.
  func ending() throws -> Ending {
    let output = try self.output.fileHandleForReading.readToEnd() ?? Data()
    let complaint = try self.complaint.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    if process.terminationReason == .exit, process.terminationStatus == 0 {
      return .counted(try JSONDecoder().decode(Census.self, from: output))
    }
    let how = process.terminationReason == .uncaughtSignal ? "traps" : "fails"
    let words = String(decoding: complaint, as: UTF8.self).split(separator: "\n").first ?? ""
    return .ended("\(how): \(words)")
  }
}
