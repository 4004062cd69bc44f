import ArgumentParser
import CPeers
import Foundation

@main
struct BenchDatabase: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench-database",
    abstract: "Lanyard's database beside GRDB and plain C, in one run.",
    discussion: """
      Each round measures every cell of every contender, one after the other, so that all meet the same moods of \
      the machine. A ratio is taken within a round; what is printed are medians over the rounds. The files are \
      made in the working directory.
      """)

  @Option(help: "How often everything is measured.") var rounds = 5
  @Option(help: "Seconds for one cell.") var seconds = 1.0
  @Option(help: "Rows for the scans.") var rows = 1_000_000

  static let items = 100_000
  static let callers = [1, 16, 128]

  func validate() throws {
    guard rounds > 0, seconds > 0, rows > 0 else {
      throw ValidationError("each number must be above 0")
    }
  }

  func run() async throws {
    let alone = Contender(name: "C, one transaction each") { path, callers, seconds in
      measured(seconds: seconds) { peers_insert_alone(path, Int32(callers), seconds, $0) }
    }
    let grouped = Contender(name: "C, group commit") { path, callers, seconds in
      measured(seconds: seconds) { peers_insert_grouped(path, Int32(callers), seconds, $0) }
    }
    let mutex = Contender(name: "C behind a mutex") { path, callers, seconds in
      measured(seconds: seconds) {
        peers_select(path, Int32(callers), seconds, Int64(Self.items), $0)
      }
    }
    try await compare(
      "Durable inserts, a row each", Lanyard.insert,
      with: [GRDBPeer.queue, GRDBPeer.pool, alone, grouped, Lanyard.write]
    ) { run in
      try await withFile { path in
        try await Lanyard.prepare(path, items: 0)
        return try await run(path)
      }
    }
    try await withFile { path in
      try await Lanyard.prepare(path, items: Self.items)
      try await compare(
        "Point selects, by key", Lanyard.select(items: Self.items),
        with: [GRDBPeer.select(items: Self.items), mutex]
      ) { run in try await run(path) }
    }
    try await withFile { path in
      try await Lanyard.prepare(path, items: rows)
      try await scan(path)
    }
  }

  /// Rates, 99th percentiles, and how many times each peer's rate our own is.
  private func compare(
    _ title: String, _ own: Contender, with peers: [Contender],
    _ setting: ((String) async throws -> Measured) async throws -> Measured
  ) async throws {
    var cells: [String: [Int: [Measured]]] = [:]
    for round in 1...rounds {
      for callers in Self.callers {
        for contender in [own] + peers {
          let one = try await setting { path in
            if round == 1 { _ = try await contender.run(path, callers, seconds / 4) }  // warm
            return try await contender.run(path, callers, seconds)
          }
          cells[contender.name, default: [:]][callers, default: []].append(one)
        }
      }
    }
    print(
      "\n\(title): calls a second, 99th percentile in us; ours to theirs: rate (99th percentile)\n")
    for contender in [own] + peers {
      var line = pad(contender.name, 31)
      for callers in Self.callers {
        let theirs = cells[contender.name]![callers]!
        let ours = cells[own.name]![callers]!
        let rate = median(zip(ours, theirs).map { $0.perSecond / $1.perSecond })
        let tail = median(zip(ours, theirs).map { $0.p99 / $1.p99 })
        line += String(
          format: "  %4d:%8.0f %7.0f  x %5.2f (%.2f)", callers, median(theirs.map(\.perSecond)),
          median(theirs.map(\.p99)), rate, tail)
      }
      print(line)
    }
  }

  private func scan(_ path: String) async throws {
    typealias Scan = (name: String, run: (String) async throws -> Int)
    let pairs: [(Scan, Scan)] = [
      (
        ("Lanyard rows, tuples", Lanyard.scanTuples),
        ("GRDB cursor, FetchableRecord", GRDBPeer.scanTuples)
      ),
      (
        ("Lanyard rows, Decodable", Lanyard.scanDecodable),
        ("GRDB cursor, Decodable", GRDBPeer.scanDecodable)
      ),
    ]
    print(
      "\nScan of \(rows) rows: rows a second, most memory above the state before in MiB; ours to theirs: rate\n"
    )
    for (own, peer) in pairs {
      var ratios: [Double] = []
      var seen: [[(rate: Double, memory: Double)]] = [[], []]
      for _ in 1...rounds {
        var sums: [Int] = []
        for (number, scan) in [own, peer].enumerated() {
          forgetPeak()
          let before = resident("VmRSS")
          let start = ContinuousClock.now
          sums.append(try await scan.run(path))
          let rate = Double(rows) / ((ContinuousClock.now - start) / .seconds(1))
          seen[number].append((rate, resident("VmHWM") - before))
        }
        precondition(sums[0] == sums[1], "both read the same")
        ratios.append(seen[0].last!.rate / seen[1].last!.rate)
      }
      for (number, scan) in [own, peer].enumerated() {
        print(
          pad(scan.name, 31)
            + String(
              format: "  %9.0f  %6.1f  x %5.2f", median(seen[number].map(\.rate)),
              seen[number].map(\.memory).max()!,
              number == 0 ? 1.0 : median(ratios)))
      }
    }
  }
}

private func pad(_ text: String, _ width: Int) -> String {
  text.padding(toLength: max(width, text.count), withPad: " ", startingAt: 0)
}
