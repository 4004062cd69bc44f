// Counting what is left. Objects are watched by weak references, threads by the system's list of them.

import Foundation

/// What became of some subjects that were made, used for one request each, and let go of.
struct Census: Codable {
  var made: Int
  var deinitialised: Int
  /// The different threads that served the requests.
  var threads: Int
  /// Those of them that still exist.
  var threadsLeft: Int
  /// The names of those, each once.
  var namesLeft: [String]

  var leavesNothing: Bool { deinitialised == made && threadsLeft == 0 }
}

extension Census {
  /// Makes the subjects, all of them alive at once, lets go of them, and looks until nothing is left or
  /// they have had time to end.
  static func take(
    of count: Int, within limit: Duration, _ make: () throws -> any Subject
  ) throws -> Census {
    let (objects, threads) = try letGo(count, make)
    let end = ContinuousClock.now + limit
    while true {
      let left = threads.filter(\.exists)
      let census = Census(
        made: objects.count, deinitialised: objects.count { $0.object == nil },
        threads: threads.count, threadsLeft: left.count,
        namesLeft: Set(left.compactMap(\.name)).sorted())
      if census.leavesNothing || ContinuousClock.now > end { return census }
      Thread.sleep(forTimeInterval: 0.01)
    }
  }

  private static func letGo(
    _ count: Int, _ make: () throws -> any Subject
  ) throws -> ([Weak], Set<SystemThread>) {
    let subjects = try (0..<count).map { _ in try make() }
    let threads = Set(try subjects.map { try $0.serveOne() })
    return (subjects.map { Weak(object: $0) }, threads)
  }
}

private struct Weak {
  weak var object: (any Subject)?
}

/// A thread as the system lists it.
struct SystemThread: Hashable, Sendable {
  private let path: String

  /// The thread that asks.
  static var current: SystemThread {
    let link = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self")
    guard let link else { preconditionFailure("the system does not list its threads in /proc") }
    return SystemThread(path: "/proc/" + link)
  }

  var exists: Bool { FileManager.default.fileExists(atPath: path) }

  /// `nil` if it has ended.
  var name: String? {
    try? String(contentsOfFile: path + "/comm", encoding: .utf8)
      .trimmingCharacters(in: .newlines)
  }
}
