// How a database is opened.

extension Database {
  /// What an acknowledged write survives.
  public enum Durability: Sendable, Hashable {
    /// The crash of the process and of the system, and the loss of power: `synchronous=FULL`.
    case full
    /// The crash of the process. The loss of power, or a crash of the system, may undo the writes that were
    /// acknowledged last; the database stays consistent: `synchronous=NORMAL`.
    case normal
  }

  /// How to open a database. Every property has a default that suits most uses.
  public struct Configuration: Sendable {
    /// What an acknowledged write survives.
    public var durability = Durability.full

    /// How many threads read, each with a connection of its own; at least 1. `nil`: as many as there are
    /// processors, and 4 at most.
    ///
    /// A thread starts with the first query that it gets. A database in memory has no readers.
    public var readers: Int?

    /// How long a statement waits for another process that holds the database.
    public var busyTimeout = Duration.seconds(5)

    /// How many compiled statements each connection keeps, by their text; at least 1.
    public var statementCache = 128

    /// How many requests may wait for each thread; callers that find no room suspend. From 2 to 1,048,576.
    public var capacity = 1024

    /// The most writes that share a commit. From 1 to 1,048,576.
    public var batchLimit = 256

    /// When a group of writes is committed although more wait: so long after its transaction began.
    public var batchTime = Duration.milliseconds(2)

    /// The name of SQLite's file layer, for tests that make it fail.
    package var vfs: String?

    /// For tests of the tests: acknowledges before COMMIT, which is wrong.
    package var acknowledgesBeforeCommit = false

    /// The defaults.
    public init() {}

    func validate() throws(DatabaseError) {
      func check(_ name: String, _ value: Int, _ range: ClosedRange<Int>) throws(DatabaseError) {
        guard range.contains(value) else {
          throw DatabaseError(
            .invalid, "\(name) is \(value)",
            advice: "give a number from \(range.lowerBound) to \(range.upperBound)")
        }
      }
      if let readers { try check("readers", readers, 1...1024) }
      try check("statementCache", statementCache, 1...1_000_000)
      try check("capacity", capacity, 2...1 << 20)
      try check("batchLimit", batchLimit, 1...1 << 20)
      for (name, time) in [("busyTimeout", busyTimeout), ("batchTime", batchTime)] {
        guard time >= .zero else {
          throw DatabaseError(
            .invalid, "\(name) is negative", advice: "give a duration of zero or more")
        }
      }
    }
  }
}
