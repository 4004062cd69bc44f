// How a worker is set up, and the checks that turn a number out of range into a sentence.

extension Worker {
  /// How to open a worker. Every property has a default that suits most uses.
  public struct Configuration: Sendable {
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
    /// A failure to start it then shows there, as `noThread` of that request. Its nice value, scheduling policy and
    /// CPU affinity are those of the thread that opened the worker all the same.
    public var lazy = false

    /// Called on the worker's thread before the first request.
    public var onStart: (@Sendable () -> Void)?

    /// Called on the worker's thread after the last request and the last job of an executor.
    ///
    /// A `lazy` worker that never got a request calls neither of the two.
    public var onStop: (@Sendable () -> Void)?

    /// Interrupts the running request, for a library that can be told to hurry: `sqlite3_interrupt` and
    /// the like.
    ///
    /// Called on the thread that cancels the task of the request, or when its deadline passes, once at
    /// most and only while that very request runs: the worker does not go on to the next one before this
    /// has returned. So it must be short and must not wait for the worker. It may come before the request's
    /// own first statement. What the request then returns or throws is the result.
    public var interrupt: (@Sendable () -> Void)?

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

  /// Throws `invalid` with a sentence on the first thing that is wrong.
  func validate(name: String) throws(WorkerError) {
    guard !name.isEmpty, !name.utf8.contains(0) else {
      throw WorkerError(
        .invalid,
        detail: "the worker's name is empty or contains a zero byte: give the name that its thread "
          + "shall have in debuggers and reports")
    }
    try Self.check("capacity", capacity, in: Self.capacityRange)
    try Self.check("batchLimit", batchLimit, in: Self.batchLimitRange)
    try Self.check("spin", spin, in: Self.spinRange)
    if let stackSize { try Self.check("stackSize", stackSize, in: 1...(1 << 40)) }
  }

  /// The slots of the ring; for a configuration that is valid.
  var roundedCapacity: Int {
    capacity.nonzeroBitCount == 1 ? capacity : 1 << (Int.bitWidth - capacity.leadingZeroBitCount)
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
