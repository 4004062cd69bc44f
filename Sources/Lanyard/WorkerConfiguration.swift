// How a worker is set up, and the checks that turn a number out of range into a sentence.

extension Worker {
  /// How to open a worker. Every property has a default that suits most uses.
  public struct Configuration: Sendable, Hashable {
    /// How many requests may wait. From 2 to 1,048,576; rounded up to a power of two.
    ///
    /// A slot that was never used costs address space only.
    public var capacity = 1024

    /// The most requests that are served in one go. From 1 to 1,048,576; the capacity bounds it too.
    public var batchLimit = 64

    /// The size of the thread's stack in bytes. `nil`: the system's default, and 1 MiB at least.
    public var stackSize: Int?

    /// How long an idle worker looks for work before it sleeps. Zero: it sleeps at once.
    ///
    /// It adapts downwards by itself, to zero where requests come further apart than this.
    public var spin: Duration = .microseconds(50)

    /// Whether the thread starts with the first request instead of at once.
    ///
    /// A failure to start it then shows there, as `noThread` of that request.
    public var lazy = false

    /// The defaults.
    public init() {}
  }

  /// What becomes of requests that were accepted and have not started when a worker closes.
  public enum CloseMode: Sendable, Hashable {
    /// They run.
    case drain
    /// They are answered with ``WorkerError/Code/closed`` and never run.
    case discard
  }
}

extension Worker.Configuration {
  static let capacityRange = 2...(1 << 20)
  static let batchLimitRange = 1...(1 << 20)
  static let spinRange = Duration.zero...Duration.seconds(4)

  /// Throws `invalid` with a sentence on the first property that is out of range.
  func validate() throws(WorkerError) {
    try Self.check("capacity", capacity, in: Self.capacityRange)
    try Self.check("batchLimit", batchLimit, in: Self.batchLimitRange)
    try Self.check("spin", spin, in: Self.spinRange)
    if let stackSize { try Self.check("stackSize", stackSize, in: 1...(1 << 40)) }
  }

  private static func check<T: Comparable>(
    _ name: String, _ value: T, in range: ClosedRange<T>
  ) throws(WorkerError) {
    guard range.contains(value) else {
      throw WorkerError(
        .invalid,
        detail: "\(name) is \(value), which is out of range: "
          + "give \(range.lowerBound) to \(range.upperBound)")
    }
  }
}
