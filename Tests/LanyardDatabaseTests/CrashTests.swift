// kill -9: a process that writes is killed at any moment, and its file is compared with what it was told.
//
// The process is a program of its own (Tests/Crash), beside the tests' own. What it was told stands in a pipe,
// which outlives it.

import CFaults
import Foundation
import LanyardTestSupport
import Testing

@Suite(
  .timeLimit(.native(minutes: 5)), .serialized,
  .enabled(if: !isUnder(.memcheck), "what a disk keeps, not memory, is its subject"))
struct CrashTests {
  /// A program's life, seen from its parent.
  private struct Life {
    var lines: [Substring] = []
    var signal: Int32 = 0
    var exit: Int32 = 0
  }

  private static let program = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
    .deletingLastPathComponent().appending(path: "lanyard-crash").path

  /// Starts the program, reads so many of its lines, waits for so long, and kills it.
  private static func live(_ arguments: [String], lines: Int, microseconds: UInt32) throws -> Life {
    var words = ([program] + arguments).map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var child: pid_t = 0
    var output: Int32 = 0
    let error = faults_child_start(program, &words, &child, &output)
    guard error == 0 else { throw POSIXError(POSIXErrorCode(rawValue: error) ?? .EIO) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 1 << 16)
    var count = 0
    var isOver = false
    func readSome() {
      let length = read(output, &block, block.count)
      guard length > 0 else {
        isOver = true
        return
      }
      bytes += block[0..<length]
      count += block[0..<length].count { $0 == UInt8(ascii: "\n") }
    }
    while count < lines, !isOver { readSome() }
    // The moment is to be any: this waits for nothing.
    if microseconds > 0 { usleep(microseconds) }
    faults_child_kill(child)
    while !isOver { readSome() }
    close(output)
    let status = faults_child_end(child, false)
    // What follows the last end of a line was not written whole.
    var lines = String(decoding: bytes, as: UTF8.self).split(
      separator: "\n", omittingEmptySubsequences: false)
    lines.removeLast()
    return Life(
      lines: lines, signal: faults_child_signal(status), exit: faults_child_exit(status))
  }

  private static func note(_ life: Life, in ledger: inout Ledger) {
    for line in life.lines {
      let numbers = line.split(separator: " ").dropFirst().compactMap { Int($0) }
      switch line.first {
      case "A": ledger.acknowledged.formUnion(numbers)
      case "R": ledger.refused.formUnion(numbers)
      default: ledger.complaints.append(String(line))
      }
    }
  }

  private struct Tally: Sendable {
    var kills = 0
    var acknowledged = 0
    var refused = 0
    var complaints: [String] = []
  }

  /// Kills so often, in files of several lives each.
  private static func kill(_ count: Int, seed: UInt64, in folder: URL) throws -> Tally {
    var random = SplitMix(seed: seed)
    var tally = Tally()
    while tally.kills < count, tally.complaints.isEmpty {
      let path = folder.appending(path: "\(tally.kills).db").path
      var ledger = Ledger()
      let lives = min(Int.random(in: 1...6, using: &random), count - tally.kills)
      for number in 1...lives {
        let isEarly = Int.random(in: 0..<8, using: &random) == 0
        let life = try live(
          [path, "\(number * 1_000_000)", "8"],
          lines: isEarly ? 0 : Int.random(in: 1...300, using: &random),
          microseconds: UInt32.random(in: 0...(isEarly ? 60_000 : 3_000), using: &random))
        tally.kills += 1
        note(life, in: &ledger)
        if life.signal != SIGKILL { tally.complaints.append("it ended by itself: \(life)") }
        // Now and then it is the program that finds what is left, and not the one that compares.
        if number == lives || Bool.random(using: &random) {
          let verdict = try ledger.compare(with: path)
          if !verdict.isGood { tally.complaints.append("\(verdict)") }
        }
      }
      tally.acknowledged += ledger.acknowledged.count
      tally.refused += ledger.refused.count
      for suffix in ["", "-wal", "-shm"] { unlink(path + suffix) }
    }
    return tally
  }

  @Test func `kill -9 at any moment loses nothing that was acknowledged`() async throws {
    let count = soaked(200, 10_000)
    let seed = UInt64.random(in: 0..<1 << 32)
    try await withFolder { folder in
      let notes = Notes<Result<Tally, any Error>>()
      await onThreadOfItsOwn {
        notes.add(Result { try Self.kill(count, seed: seed, in: folder) })
      }
      let tally = try #require(notes.all.first).get()
      #expect(tally.complaints.isEmpty, "seed \(seed), after \(tally.kills) kills: \(tally)")
      #expect(tally.kills == count)
      #expect(tally.acknowledged > tally.kills && tally.refused > 0)
    }
  }
}
