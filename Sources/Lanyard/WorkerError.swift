// What can go wrong with a worker, as one error type.
//
// A struct with a code instead of an enum, so that codes can be added without breaking anybody's switch.
// The description says what was wrong and what to do about it. Cancellation is never one of these: it is
// always `CancellationError`. What a closure throws reaches its caller as itself, never as one of these.

/// The reason why a worker could not be opened, or did not run a request.
///
/// A request that failed with one of these has not run and never will.
public struct WorkerError: Error, Hashable, Sendable {
  /// What went wrong, for code that decides by it.
  public let code: Code

  /// The system's own number for it, where there is one: that of a refused thread.
  public let errno: Int32?

  /// What was wrong in this case; nil where the code says it all.
  let detail: String?

  init(_ code: Code, errno: Int32? = nil, detail: String? = nil) {
    self.code = code
    self.errno = errno
    self.detail = detail
  }

  /// One kind of failure.
  public struct Code: Hashable, Sendable {
    private enum Kind: String {
      case closed, full, deadlineExceeded, wouldDeadlock, forked, noThread, noMemory, invalid
    }

    private let kind: Kind

    /// Closing has begun or is over, or the request was discarded by a close.
    public static let closed = Code(kind: .closed)
    /// The ring has no room now.
    public static let full = Code(kind: .full)
    /// The deadline passed before the request started.
    public static let deadlineExceeded = Code(kind: .deadlineExceeded)
    /// The caller would have waited for itself.
    public static let wouldDeadlock = Code(kind: .wouldDeadlock)
    /// The worker belongs to the parent process.
    public static let forked = Code(kind: .forked)
    /// The system refused a thread, also when asked again.
    public static let noThread = Code(kind: .noThread)
    /// There is not enough memory.
    public static let noMemory = Code(kind: .noMemory)
    /// A configuration is out of range.
    public static let invalid = Code(kind: .invalid)
  }
}

extension WorkerError.Code: CustomStringConvertible {
  /// The code's name, such as `closed`.
  public var description: String { kind.rawValue }

  fileprivate var advice: String {
    switch kind {
    case .closed:
      "the worker is closed and accepts no requests; submit before close(), or open another worker"
    case .full:
      "the worker's ring is full; await run(_:), which waits for room, or open it with a larger capacity"
    case .deadlineExceeded:
      "the deadline passed before the request started, so it was dropped; allow more time, or send less"
    case .wouldDeadlock:
      "the call would have waited for its own thread; await it from outside of the worker"
    case .forked:
      "the worker belongs to the parent process; open another one after fork"
    case .noThread:
      "the system refused a thread; close workers that are not needed, or raise the process's limit"
    case .noMemory:
      "there is not enough memory; ask for a smaller capacity, or free some"
    case .invalid:
      "the configuration is out of range"
    }
  }
}

extension WorkerError: CustomStringConvertible {
  /// What was wrong and what to do, in one sentence.
  public var description: String {
    (detail ?? code.advice) + (errno.map { " (errno \($0))" } ?? "")
  }
}
