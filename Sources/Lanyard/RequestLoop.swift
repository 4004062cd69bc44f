// A typed channel and the loop that serves it: requests lie in the ring as themselves, without a closure each.
//
//   senders ---claim a ticket, store the request, publish---> slots | ring ---> serve(&batch), on the worker
//
// The loop owns a `Worker`, whose hooks own the slots and the closure that serves; the core holds the hooks
// until its memory goes. So nothing that runs refers to the loop, and letting go of it is letting go of the
// worker.
//
// A sender that finds the ring full stands in the worker's line for room, as callers of `run` do.

/// A background thread that serves requests of one type, in batches, from a bounded ring.
///
/// ```swift
/// let log = try RequestLoop<Line>("log") { batch in
///   while let line = batch.next() { file.append(line) }
///   file.flush()                                        // once for the whole batch
/// }
/// try await log.send(Line("hello"))                     // suspends while the ring is full
/// await log.close()                                     // or let go of it
/// ```
///
/// A request is stored in the ring itself: sending one allocates nothing. A batch is what has come since the
/// last one, up to ``Worker/Configuration/batchLimit``; no request waits for a batch to fill.
///
/// **Threads.** Every method may be called from any thread and any task, at the same time as any other.
///
/// **Lifetime, after close.** As ``Worker``.
public final class RequestLoop<Request: Sendable>: Sendable {
  let worker: Worker
  private let slots: Slots<Request>

  /// Opens a loop and starts its thread.
  ///
  /// - Parameters:
  ///   - name: As for ``Worker``.
  ///   - configuration: As for ``Worker``. A batch counts as one running request for `interrupt`.
  ///   - fileID: Where it was opened, for ``Worker/live``.
  ///   - line: Where it was opened, for ``Worker/live``.
  ///   - serve: Called on the loop's thread with each batch, one at a time. It takes every request out of the
  ///     batch. What it captured goes on that thread when it ends.
  /// - Throws: As ``Worker/init(_:configuration:fileID:line:)``.
  public init(
    _ name: String = "lanyard", configuration: Worker.Configuration = Worker.Configuration(),
    fileID: StaticString = #fileID, line: Int = #line,
    serve: sending @escaping (inout Batch) -> Void
  ) throws(WorkerError) {
    try configuration.validate(name: name)
    let slots = Slots<Request>(capacity: configuration.roundedCapacity)
    let hooks = LoopHooks(configuration, slots, serve)
    self.slots = slots
    self.worker = try Worker(name, configuration, hooks: hooks, fileID: fileID, line: line)
  }

  /// What came since the last batch.
  public struct Batch: ~Copyable {
    /// How many requests it had when it came.
    public let count: Int

    private let slots: Slots<Request>
    fileprivate private(set) var remaining: Int

    fileprivate init(_ count: Int, in slots: Slots<Request>) {
      self.count = count
      self.slots = slots
      remaining = count
    }

    /// Takes the next request out, in the order in which they were accepted; `nil` when there is none left.
    public mutating func next() -> Request? {
      guard remaining > 0 else { return nil }
      remaining -= 1
      return slots.takeNext()
    }
  }

  // MARK: Sending

  /// Sends a request, and returns when the ring has accepted it.
  ///
  /// When the ring is full the caller suspends, behind those who came before; no thread is blocked.
  ///
  /// - Parameters:
  ///   - request: Once accepted it is served exactly once, or released if a close discards it.
  ///   - deadline: The instant after which it is no longer waited for room.
  /// - Throws: ``WorkerError`` with code `closed`, `deadlineExceeded`, `noThread` (where the configuration
  ///   is `lazy`), `noMemory` or `forked`; `CancellationError` if the task was cancelled before there was
  ///   room. Then the request is not served.
  ///
  /// **Threads.** Call from any task.
  /// **Order.** Requests of one task are served in the order in which it sent them.
  /// **Blocking.** Never: the task suspends.
  /// **Cancellation.** While it waits for room it leaves at once. What was accepted is served.
  /// **After close.** Throws `closed`.
  public nonisolated(nonsending) func send(
    _ request: Request, deadline: ContinuousClock.Instant? = nil
  ) async throws {
    try Task.checkCancellation()
    if let deadline, deadline <= .now {
      throw WorkerError(isClosed ? .closed : .deadlineExceeded)
    }
    if worker.line.isEmpty {
      switch worker.handle.trySubmit(request, into: slots) {
      case .accepted: return
      case .refused(let error): throw error
      case .full: break
      }
    }
    try await worker.send(SendRequest(request, to: slots), deadline: deadline)
  }

  /// Sends a request if there is room. Never waits.
  ///
  /// It is refused as long as callers of ``send(_:deadline:)`` wait for room: they came first.
  ///
  /// - Parameter request: As for ``send(_:deadline:)``.
  /// - Throws: ``WorkerError`` with code `full`, `closed`, `noThread` (where the configuration is `lazy`)
  ///   or `forked`. Nothing is kept of the request then.
  ///
  /// **Threads.** Call from anywhere, the loop's own thread included.
  /// **Blocking.** Never.
  /// **After close.** Throws `closed`.
  public func trySend(_ request: Request) throws(WorkerError) {
    guard worker.line.isEmpty else { throw WorkerError(isClosed ? .closed : .full) }
    switch worker.handle.trySubmit(request, into: slots) {
    case .accepted: return
    case .full: throw WorkerError(.full)
    case .refused(let error): throw error
    }
  }

  // MARK: Closing

  /// Stops acceptance at once and blocks until the thread has ended: as
  /// ``Worker/closeAndWait(_:)``.
  ///
  /// - Parameter mode: What becomes of requests that were accepted and are in no batch yet.
  @available(*, noasync, message: "use 'await close()', which blocks no thread")
  public func closeAndWait(_ mode: Worker.CloseMode = .drain) {
    worker.closeAndWait(mode)
  }

  /// Stops acceptance at once and returns after the thread has ended, without blocking a thread: as
  /// ``Worker/close(_:)``.
  ///
  /// - Parameter mode: What becomes of requests that were accepted and are in no batch yet.
  public nonisolated(nonsending) func close(_ mode: Worker.CloseMode = .drain) async {
    await worker.close(mode)
  }

  /// Stops acceptance at once and returns after the end, or at a deadline: as ``Worker/close(_:deadline:)``.
  ///
  /// - Parameters:
  ///   - mode: What becomes of requests that were accepted and are in no batch yet.
  ///   - deadline: The instant after which the end is no longer waited for.
  /// - Returns: Whether the thread has ended.
  public nonisolated(nonsending) func close(
    _ mode: Worker.CloseMode = .drain, deadline: ContinuousClock.Instant
  ) async -> Bool {
    await worker.close(mode, deadline: deadline)
  }

  // MARK: Asking

  /// The name it was opened with, in full.
  public var name: String { worker.name }

  /// Whether closing has begun. True in a child of fork.
  public var isClosed: Bool { worker.isClosed }

  /// Whether the calling thread is this loop's own.
  public var isCurrent: Bool { worker.isCurrent }

  /// What it has done so far; after close, the final figures. All zero in a child of fork.
  public var statistics: Worker.Statistics { worker.statistics }
}

/// What the core calls for a loop.
///
/// @unchecked: as `WorkerHooks`; `body` is used on the worker's thread alone.
private final class LoopHooks<Request: Sendable>: WorkerHooks, @unchecked Sendable {
  private let slots: Slots<Request>
  private var body: ((inout RequestLoop<Request>.Batch) -> Void)?

  init(
    _ configuration: Worker.Configuration, _ slots: Slots<Request>,
    _ body: sending @escaping (inout RequestLoop<Request>.Batch) -> Void
  ) {
    self.slots = slots
    self.body = body
    super.init(configuration)
  }

  override var servesBatches: Bool { true }

  override func serve(_ count: Int) {
    var batch = RequestLoop<Request>.Batch(count, in: slots)
    body?(&batch)
    let left = batch.remaining
    assert(
      left == 0,
      "\(left) of \(count) requests were left in a batch: take them all, while let request = batch.next()"
    )
    while batch.next() != nil {}
  }

  override func stop() {
    body = nil
    super.stop()
  }
}
