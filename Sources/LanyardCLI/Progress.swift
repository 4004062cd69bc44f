// How far an import is: one line that is drawn again on a terminal, and a line now and then elsewhere.

import Foundation

/// Used under the importer's lock.
struct Progress: Sendable {
  private static let interval = (
    terminal: Duration.milliseconds(100), plain: Duration.milliseconds(500)
  )
  private static let barWidth = 30

  private let total: Int
  private let done: Int
  private let isTerminal: Bool
  private let started = ContinuousClock.now
  private var shown = ContinuousClock.now

  /// - Parameter done: Of the total, what was there before.
  init(total: Int, done: Int, isTerminal: Bool) {
    self.total = total
    self.done = done
    self.isTerminal = isTerminal
  }

  var duration: Duration { started.duration(to: .now) }

  /// The line to show now, if it is time for one. On a terminal it begins with a carriage return.
  mutating func line(_ rows: Int, at now: ContinuousClock.Instant = .now) -> String? {
    let interval = isTerminal ? Self.interval.terminal : Self.interval.plain
    guard shown.duration(to: now) >= interval else { return nil }
    shown = now
    let elapsed = started.duration(to: now)
    guard isTerminal else { return "  \(counted(rows, "row")), \(rate(rows, elapsed)) rows/s\n" }
    let share = total == 0 ? 1 : min(1, Double(done + rows) / Double(total))
    let filled = Int(share * Double(Self.barWidth))
    let bar =
      String(repeating: "█", count: filled) + String(repeating: "░", count: Self.barWidth - filled)
    let left = Double(max(0, total - done - rows)) * (elapsed / .seconds(1)) / Double(max(rows, 1))
    return
      "\r\(bar) \(Int(share * 100)) % \(counted(done + rows, "row")) \(rate(rows, elapsed)) rows/s, "
      + "\(Int(left.rounded(.up))) s left \u{1B}[K"
  }

  /// What clears the line at the end.
  var ending: String { isTerminal ? "\r\u{1B}[K" : "" }
}
