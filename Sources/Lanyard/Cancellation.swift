// How a body that runs learns that it is to stop.
//
// A request that is withdrawn while it runs has its reason written into it, and the core, while it keeps the request
// from ending, calls what the body has registered. So whatever is asked here is about this very request: nobody has a
// flag that another request's end would have to clear.

/// Tells a body that runs on a worker that it is to stop: its task was cancelled, or its deadline has passed.
///
/// ```swift
/// let rows = try await worker.run { cancellation in
///   cancellation.onCancel { interruptEngine() }
///   return try readRows()
/// }
/// ```
///
/// It is given to the body by `run`, and lives as long as that.
///
/// **Threads.** For the body's own thread, the worker's.
public struct Cancellation: ~Copyable {
  private let request: WithdrawableRequest

  private init(of request: WithdrawableRequest) {
    self.request = request
  }

  /// Whether the body is to stop. Once it is so it stays so.
  public var isRequested: Bool { request.reason != nil }

  /// Throws if the body is to stop.
  ///
  /// - Throws: `CancellationError` if its task was cancelled, ``WorkerError`` with code `deadlineExceeded` if its
  ///   deadline has passed.
  public func check() throws {
    switch request.reason {
    case nil: return
    case .cancelled: throw CancellationError()
    case .expired: throw WorkerError(.deadlineExceeded)
    }
  }

  /// Has a handler called once when the body is to stop; at once, if it is already.
  ///
  /// For a library that can be told to hurry from another thread: `sqlite3_interrupt` and the like. Several handlers
  /// are called in the order in which they were given.
  ///
  /// - Parameter handler: Called on the thread that cancels, on the process's thread of alarms when the deadline
  ///   passes, or here. The worker does not go on to its next request before it has returned, so it must be short and
  ///   must not wait for the worker. It is not called once the body has returned, but one that was called before may
  ///   still run then.
  public func onCancel(_ handler: @escaping @Sendable () -> Void) {
    request.onWithdrawal(handler)
  }

  /// A body that takes a cancellation, as one that finds its own.
  static func giving<Result, Failure: Error>(
    to body: sending @escaping (borrowing Cancellation) throws(Failure) -> sending Result
  ) -> sending () throws(Failure) -> sending Result {
    { () throws(Failure) -> sending Result in try body(Cancellation(of: running)) }
  }

  /// As `giving(to:)`, for a body that works on a value.
  static func giving<State: ~Copyable, Result, Failure: Error>(
    to body: sending @escaping (inout State, borrowing Cancellation) throws(Failure) -> sending Result
  ) -> sending (inout State) throws(Failure) -> sending Result {
    { (state: inout State) throws(Failure) -> sending Result in try body(&state, Cancellation(of: running)) }
  }

  private static var running: WithdrawableRequest {
    guard let request = WorkerHandle.running else { preconditionFailure("a body that no request runs") }
    return request
  }
}

extension Worker {
  /// Whether the body that runs here is to stop: its task was cancelled, or its deadline has passed.
  ///
  /// For code deep inside of a body of ``run(deadline:_:)`` or ``Confined/run(deadline:_:)``, which runs in no task,
  /// so that `Task.isCancelled` would not tell. In a task, one on a worker's executor included, it is that.
  ///
  /// **Threads.** Call from anywhere; false where there is neither.
  public static var isCancelled: Bool {
    WorkerHandle.running?.reason != nil || Task.isCancelled
  }

  /// Throws if the body that runs here is to stop.
  ///
  /// - Throws: `CancellationError` if its task was cancelled, ``WorkerError`` with code `deadlineExceeded` if its
  ///   deadline has passed.
  ///
  /// **Threads.** As ``isCancelled``.
  public static func checkCancellation() throws {
    switch WorkerHandle.running?.reason {
    case .expired: throw WorkerError(.deadlineExceeded)
    case .cancelled: throw CancellationError()
    case nil: try Task.checkCancellation()
    }
  }
}
