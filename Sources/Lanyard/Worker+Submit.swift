// Handing closures to a worker: awaited, fire and forget, and blocking.
//
// `run` is where most of the care goes. The box of the request does not refer to the worker; what keeps the
// worker alive while a request of `run` waits is that `run` is a method on it, whose caller holds it. The
// cancellation handler may use the handle for the same reason: the runtime does not let `run` return while
// the handler runs.

extension Worker {
  /// Runs a closure on the worker's thread and returns its result.
  ///
  /// Closures run one at a time, in the order in which the worker accepted them. When the ring is full the
  /// caller suspends, behind those who came before; no thread is blocked.
  ///
  /// - Parameters:
  ///   - deadline: The instant after which a closure that has not started is dropped, and one that runs is
  ///     interrupted, where the configuration has an `interrupt`; it can also ask ``isCancelled``. It spans the
  ///     wait for room, the wait in the ring, and the run, whatever executor the caller prefers. One that is too far
  ///     away to express is none.
  ///   - body: The work. It may block; it must not wait for this same worker.
  /// - Returns: What `body` returned.
  /// - Throws: ``WorkerError`` with code `closed`, `deadlineExceeded`, `noThread` (where the configuration
  ///   is `lazy`, or with a deadline, which needs the process's thread of alarms), `noMemory` or `forked`;
  ///   `CancellationError` if the task was cancelled before `body` started; otherwise whatever `body` throws, as
  ///   itself.
  ///
  /// **Threads.** Call from any task. `body` runs on the worker's thread, outside any lock. It is handed over on the
  /// caller's thread, before the caller suspends: an idle worker starts it although all threads that tasks share
  /// are busy.
  /// **Blocking.** Never: the task suspends.
  /// **Cancellation.** Before `body` starts it is dropped and the task leaves at once, whatever the worker
  /// is doing. Afterwards it runs to its end and its result is returned; it is told when it asks ``isCancelled``, and
  /// where the configuration has an `interrupt`, that is called.
  /// **Task-locals.** Not carried over: `body` runs in no task and finds their default values. Capture what it
  /// needs, or bind it inside by `withValue`; <doc:TheThread> shows both.
  /// **Lifetime.** The worker stays open until the call returns.
  /// **After close.** Throws `closed`.
  public nonisolated(nonsending) func run<Result, Failure: Error>(
    deadline: ContinuousClock.Instant? = nil,
    _ body: sending @escaping () throws(Failure) -> sending Result
  ) async throws -> sending Result {
    // Consumed: only the box holds the closure then, and what it captured goes on the worker, not here.
    guard let deadline, !Self.isNever(deadline) else {
      return try await perform(RunRequest(deadline: WorkerHandle.forever, consume body))
    }
    try check(deadline)
    let time = WorkerHandle.nanoseconds(at: deadline)
    let request = RunRequest(deadline: time, consume body)
    let expiry = Expiry(of: request, in: line)
    let alarm = try setAlarm(at: time, for: expiry)
    defer { alarm?.unset() }
    return try await perform(request)
  }

  /// As ``run(deadline:_:)``, for a body that can be stopped while it runs.
  ///
  /// ```swift
  /// let sum = try await worker.run(deadline: .now + .seconds(5)) { cancellation in
  ///   try numbers.reduce(0) { sum, number in
  ///     try cancellation.check()
  ///     return sum + number
  ///   }
  /// }
  /// ```
  ///
  /// - Parameters:
  ///   - deadline: As there. A body that runs at that instant is asked to stop.
  ///   - body: The work. It is given a ``Cancellation`` of its own, which tells when its task was cancelled or its
  ///     deadline passed: this very request's, and no other's.
  /// - Returns: What `body` returned, also when it was asked to stop.
  /// - Throws: As there.
  ///
  /// **Threads, blocking, cancellation, task-locals, lifetime, after close.** As there.
  public nonisolated(nonsending) func run<Result, Failure: Error>(
    deadline: ContinuousClock.Instant? = nil,
    _ body: sending @escaping (borrowing Cancellation) throws(Failure) -> sending Result
  ) async throws -> sending Result {
    try await run(deadline: deadline, Cancellation.giving(to: consume body))
  }

  // The closure refers to the isolation because only that keeps it on the caller's executor: one that does not is
  // isolated to nothing, and would first wait for a thread of the pool. The request is to be handed over before the
  // caller suspends for the first time, although all of them may be busy.
  private func perform<Result, Failure: Error>(
    _ request: RunRequest<Result, Failure>, on isolation: isolated (any Actor)? = #isolation
  ) async throws -> sending Result {
    defer { request.seeAnswer() }
    return try await withTaskCancellationHandler {
      _ = isolation
      return try await Waiter<Result>.wait { waiter in
        request.resume(waiter)
        line.submit(request)
      }
    } onCancel: {
      request.withdraw(.cancelled, from: line)
    }.take()
  }

  /// Puts an element that found no room into the line, and returns when the ring has accepted it.
  nonisolated(nonsending) func send<Element>(
    _ request: SendRequest<Element>, deadline: ContinuousClock.Instant?
  ) async throws {
    guard let deadline, !Self.isNever(deadline) else { return try await perform(request) }
    try check(deadline)
    let expiry = Expiry(of: request, in: line)
    let alarm = try setAlarm(at: WorkerHandle.nanoseconds(at: deadline), for: expiry)
    defer { alarm?.unset() }
    try await perform(request)
  }

  // As above.
  private func perform<Element>(
    _ request: SendRequest<Element>, on isolation: isolated (any Actor)? = #isolation
  ) async throws {
    try await withTaskCancellationHandler {
      _ = isolation
      return try await Waiter<Void>.wait { waiter in
        request.resume(waiter)
        line.submit(request)
      }
    } onCancel: {
      request.withdraw(.cancelled, from: line)
    }.take()
  }

  /// Whether a deadline is too far away to tell it from none: some 290 years.
  static func isNever(_ deadline: ContinuousClock.Instant) -> Bool {
    WorkerHandle.nanoseconds(at: deadline) > Int64.max
  }

  /// Refuses what comes too late before anything is made for it.
  private func check(_ deadline: ContinuousClock.Instant) throws {
    guard deadline <= .now else { return }
    try Task.checkCancellation()
    throw WorkerError(isClosed ? .closed : .deadlineExceeded)
  }

  /// None where nothing will be accepted, as in a child of fork, which has no use for a thread of alarms.
  func setAlarm(
    at time: WorkerHandle.Nanoseconds, for target: AlarmTarget
  ) throws(WorkerError) -> Alarm? {
    isClosed ? nil : try WorkerHandle.setAlarm(at: time, for: target)
  }

  /// Hands over a closure that nobody waits for. Never waits.
  ///
  /// It is refused as long as callers of ``run(deadline:_:)`` wait for room: they came first.
  ///
  /// - Parameter body: The work. It may block; it must not wait for this same worker. Once accepted it
  ///   runs exactly once, or never if a close discards it; what it captured is released in either case.
  /// - Throws: ``WorkerError`` with code `full`, `closed`, `noThread` (where the configuration is `lazy`)
  ///   or `forked`. Nothing is kept of `body` then.
  ///
  /// **Threads.** Call from anywhere, the worker's own thread included. `body` runs on the worker's
  /// thread, outside any lock, after everything that was accepted before.
  /// **Blocking.** Never.
  /// **Task-locals.** Not carried over, as for ``run(deadline:_:)``.
  /// **Cancellation.** None.
  /// **After close.** Throws `closed`.
  public func submit(_ body: sending @escaping () -> Void) throws(WorkerError) {
    guard line.isEmpty else { throw WorkerError(isClosed ? .closed : .full) }
    switch handle.trySubmit(ClosureRequest(body)) {
    case .accepted: return
    case .full: throw WorkerError(.full)
    case .refused(let error): throw error
    }
  }

  /// Runs a closure on the worker's thread and blocks until it has run.
  ///
  /// - Parameter body: The work. It may use what this thread may use, which waits for it.
  /// - Returns: What `body` returned.
  /// - Throws: ``WorkerError`` with code `closed`, `noThread` (where the configuration is `lazy`) or
  ///   `forked`; otherwise whatever `body` throws, as itself.
  ///
  /// **Threads.** On the worker's own thread `body` runs at once, inside the request that calls.
  /// **Blocking.** Blocks this thread while the ring is full, while others run before it, and while it
  /// runs. Two workers that call each other wait for ever, like any two threads.
  /// **Cancellation.** None.
  /// **After close.** Throws `closed`.
  @available(*, noasync, message: "use 'await run', which blocks no thread")
  public func call<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws -> Result {
    var result: Swift.Result<Result, Failure>?
    try handle.call {
      do throws(Failure) {
        result = .success(try body())
      } catch {
        result = .failure(error)
      }
    }
    guard let result else { preconditionFailure("the core returned before the closure had run") }
    return try result.get()
  }
}
