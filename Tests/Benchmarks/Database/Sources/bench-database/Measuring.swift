import CPeers
import Foundation

/// What one peer did in one cell of one round.
struct Measured {
  var perSecond: Double
  var p99: Double  // microseconds
}

/// Whatever can be put beside others.
struct Contender: Sendable {
  let name: String
  /// Runs `callers` for `seconds`, on a fresh file of its own or on the one with the items.
  let run: @Sendable (_ path: String, _ callers: Int, _ seconds: Double) async throws -> Measured
}

let text =
  "a row of text, as long as many are: 0123456789 0123456789 0123456789 0123456789 01234567"

/// Lets tasks call one thing over and over, and takes the time of each call.
func measured(
  callers: Int, seconds: Double,
  _ call: @escaping @Sendable (inout SystemRandomNumberGenerator) async throws -> Void
) async throws -> Measured {
  let clock = ContinuousClock()
  let start = clock.now
  let end = start + .seconds(seconds)
  let times = try await withThrowingTaskGroup(of: [Duration].self) { group in
    for _ in 0..<callers {
      group.addTask {
        var random = SystemRandomNumberGenerator()
        var times: [Duration] = []
        var last = clock.now
        while last < end {
          try await call(&random)
          let now = clock.now
          times.append(now - last)
          last = now
        }
        return times
      }
    }
    return try await group.reduce(into: []) { $0 += $1 }
  }
  let elapsed = (clock.now - start) / .seconds(1)
  return Measured(
    perSecond: Double(times.count) / elapsed,
    p99: percentile(99, times.map { $0 / .microseconds(1) }))
}

/// The same of one of the peers in C.
func measured(
  seconds: Double, _ run: (UnsafeMutablePointer<peers_latencies>) -> UInt64
) -> Measured {
  let room = 4_000_000
  let times = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: room)
  defer { times.deallocate() }
  var latencies = peers_latencies(nanoseconds: times.baseAddress, room: room, count: 0)
  let clock = ContinuousClock()
  let start = clock.now
  let calls = run(&latencies)
  let elapsed = (clock.now - start) / .seconds(1)
  return Measured(
    perSecond: Double(calls) / elapsed,
    p99: percentile(99, times[..<latencies.count].map { Double($0) / 1000 }))
}

func percentile(_ percent: Double, _ values: [Double]) -> Double {
  guard !values.isEmpty else { return .nan }
  let sorted = values.sorted()
  return sorted[min(sorted.count - 1, Int(Double(sorted.count) * percent / 100))]
}

func median(_ values: [Double]) -> Double { percentile(50, values) }

/// A folder that is there as long as the body runs. In the working directory's file system, not one in memory.
func withFile<Result>(_ body: (String) async throws -> Result) async throws -> Result {
  let folder = URL(fileURLWithPath: FileManager.default.currentDirectoryPath)
    .appending(path: "bench-\(UUID().uuidString)")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  return try await body(folder.appending(path: "bench.db").path)
}

/// How much of this process has ever been in memory, or is now, in MiB.
func resident(_ field: String) -> Double {
  let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
  let line = status.split(separator: "\n").first { $0.hasPrefix(field) }
  return line.flatMap { Double($0.split(whereSeparator: { !$0.isNumber }).first ?? "") }.map {
    $0 / 1024
  } ?? .nan
}

/// From here on the highest is counted anew.
func forgetPeak() {
  try? "5".write(toFile: "/proc/self/clear_refs", atomically: false, encoding: .utf8)
}
