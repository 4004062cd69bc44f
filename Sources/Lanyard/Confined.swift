// State that only one thread ever touches: made there, used there, destroyed there.
//
//   Confined ---owns---> Worker ---owns---> core ---holds---> hooks ---own---> state
//
// The state lies with the hooks, which the core holds: `make` runs as the worker's first request, each use is
// a request, and the end of the thread destroys it. Nothing that runs refers to the `Confined`.

/// A value that lives on a thread of its own: for libraries that want every call from the same thread.
///
/// ```swift
/// let interpreter = try await Confined("lua") { try Interpreter() }
/// let answer = try await interpreter.run { interpreter in try interpreter.evaluate("6 * 7") }
/// await interpreter.close()                             // or let go of it
/// ```
///
/// The value need be neither `Sendable` nor copyable: it never leaves its thread, not even to be destroyed.
///
/// **Threads.** Every method may be called from any thread and any task, at the same time as any other; the
/// closures run one at a time on the value's thread.
///
/// **Lifetime.** As ``Worker``. The value is destroyed on its thread, after everything that was accepted.
///
/// **After close.** As ``Worker``.
public final class Confined<State: ~Copyable>: Sendable {
  let worker: Worker
  private let cell: Cell<State>

  /// Starts a thread and makes the value on it.
  ///
  /// - Parameters:
  ///   - name: As for ``Worker``.
  ///   - configuration: As for ``Worker``. `onStart` comes before `make`, `onStop` after the value was
  ///     destroyed.
  ///   - fileID: Where it was made, for ``Worker/live``.
  ///   - line: Where it was made, for ``Worker/live``.
  ///   - make: Makes the value, on its thread.
  /// - Throws: As ``Worker/init(_:configuration:fileID:line:)``; whatever `make` throws, as itself;
  ///   `CancellationError` if the task was cancelled before `make` started. The thread has ended then.
  ///
  /// **Blocking.** Never: the task suspends while `make` runs.
  public nonisolated(nonsending) init(
    _ name: String = "lanyard", configuration: Worker.Configuration = Worker.Configuration(),
    fileID: StaticString = #fileID, line: Int = #line,
    make: sending @escaping () throws -> State
  ) async throws {
    let cell = Cell<State>(configuration)
    let worker = try Worker(name, configuration, hooks: cell, fileID: fileID, line: line)
    do {
      try await worker.run(cell.request(toMake: consume make))
    } catch {
      await worker.close()
      throw error
    }
    self.cell = cell
    self.worker = worker
  }

  /// Starts a thread and makes the value on it, together with what interrupts its work.
  ///
  /// ```swift
  /// let engine = try await Confined("engine", makeInterruptible: {
  ///   let engine = try Engine()
  ///   let handle = engine.interruptHandle
  ///   return Interruptible(engine) { handle.interrupt() }
  /// })
  /// ```
  ///
  /// - Parameters:
  ///   - name: As ``init(_:configuration:fileID:line:make:)``.
  ///   - configuration: As there. Its own `interrupt`, if there is one, is called as well.
  ///   - fileID: As there.
  ///   - line: As there.
  ///   - make: Makes the value on its thread, and a closure that interrupts the request that runs: called as
  ///     ``Worker/Configuration/interrupt`` is, and never after the value was destroyed.
  /// - Throws: As there.
  ///
  /// **Blocking.** Never: the task suspends while `make` runs.
  @_disfavoredOverload  // a trailing closure that only throws is `make`
  public nonisolated(nonsending) init(
    _ name: String = "lanyard", configuration: Worker.Configuration = Worker.Configuration(),
    fileID: StaticString = #fileID, line: Int = #line,
    makeInterruptible make: sending @escaping () throws -> Interruptible<State>
  ) async throws {
    let cell = Cell<State>(configuration)
    let worker = try Worker(name, configuration, hooks: cell, fileID: fileID, line: line)
    do {
      try await worker.run(cell.request(toMakeInterruptible: consume make))
    } catch {
      await worker.close()
      throw error
    }
    self.cell = cell
    self.worker = worker
  }

  /// Runs a closure with the value, on its thread.
  ///
  /// As ``Worker/run(deadline:_:)`` in every respect: task-locals are not carried over either.
  ///
  /// - Parameters:
  ///   - deadline: The instant after which a closure that has not started is dropped, and one that runs is
  ///     interrupted, where the configuration has an `interrupt`.
  ///   - body: The work. It may change the value, and replace it. The compiler refuses what would let a part
  ///     of the value out, or something that stays in use outside in.
  /// - Returns: What `body` returned, which shares nothing with the value.
  /// - Throws: ``WorkerError``, `CancellationError`, or whatever `body` throws, as itself.
  public nonisolated(nonsending) func run<Result, Failure: Error>(
    deadline: ContinuousClock.Instant? = nil,
    _ body: sending @escaping (inout State) throws(Failure) -> sending Result
  ) async throws -> sending Result {
    try await worker.run(deadline: deadline, cell.request(to: consume body))
  }

  /// As ``run(deadline:_:)``, for a body that can be stopped while it runs.
  ///
  /// - Parameters:
  ///   - deadline: As there. A body that runs at that instant is asked to stop.
  ///   - body: The work. It is given a ``Cancellation`` of its own beside the value.
  /// - Returns: As there.
  /// - Throws: As there.
  public nonisolated(nonsending) func run<Result, Failure: Error>(
    deadline: ContinuousClock.Instant? = nil,
    _ body: sending @escaping (inout State, borrowing Cancellation) throws(Failure) -> sending Result
  ) async throws -> sending Result {
    try await run(deadline: deadline, Cancellation.giving(to: consume body))
  }

  /// Runs a closure with the value, on its thread, and blocks until it has run.
  ///
  /// As ``Worker/call(_:)``, but not on the value's own thread, where the value is in use already: there it
  /// throws `wouldDeadlock`.
  ///
  /// - Parameter body: The work. It may use what this thread may use, which waits for it. The compiler refuses
  ///   what would let a part of the value out, or something from outside in, as with `Mutex`; as there, it
  ///   does not notice when the value itself is returned.
  /// - Returns: What `body` returned. It must share nothing with the value.
  /// - Throws: ``WorkerError``, or whatever `body` throws, as itself.
  @available(*, noasync, message: "use 'await run', which blocks no thread")
  public func call<Result, Failure: Error>(
    _ body: (inout sending State) throws(Failure) -> sending Result
  ) throws -> sending Result {
    if isCurrent { throw WorkerError(isClosed ? .closed : .wouldDeadlock) }
    return try worker.call { () throws(Failure) in Transfer(try cell.lend(to: body)) }.take()
  }

  // MARK: Closing

  /// Stops acceptance at once and blocks until the value was destroyed and its thread has ended:
  /// as ``Worker/closeAndWait(_:)``.
  ///
  /// - Parameter mode: What becomes of closures that were accepted and have not started.
  @available(*, noasync, message: "use 'await close()', which blocks no thread")
  public func closeAndWait(_ mode: Worker.CloseMode = .drain) {
    worker.closeAndWait(mode)
  }

  /// Stops acceptance at once and returns after the value was destroyed and its thread has ended, without
  /// blocking a thread: as ``Worker/close(_:)``.
  ///
  /// - Parameter mode: What becomes of closures that were accepted and have not started.
  public nonisolated(nonsending) func close(_ mode: Worker.CloseMode = .drain) async {
    await worker.close(mode)
  }

  /// Stops acceptance at once and returns after the end, or at a deadline: as ``Worker/close(_:deadline:)``.
  ///
  /// - Parameters:
  ///   - mode: What becomes of closures that were accepted and have not started.
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

  /// Whether the calling thread is the value's own.
  public var isCurrent: Bool { worker.isCurrent }

  /// What its worker has done so far, the making of the value included.
  public var statistics: Worker.Statistics { worker.statistics }
}

/// A value for ``Confined`` and what interrupts its work from another thread.
public struct Interruptible<State: ~Copyable>: ~Copyable {
  fileprivate var state: State
  fileprivate let interrupt: @Sendable () -> Void

  /// - Parameters:
  ///   - state: The value.
  ///   - interrupt: Makes whatever the value is doing end soon. Called on other threads, but only while a request
  ///     runs that was cancelled or whose deadline has passed.
  public init(_ state: consuming State, interrupt: @escaping @Sendable () -> Void) {
    self.state = state
    self.interrupt = interrupt
  }

  fileprivate consuming func takeState() -> State { state }
}

/// Where the value lies.
///
/// @unchecked: `state` is touched on the worker's thread alone; `use` and `fill` are called in its requests.
private final class Cell<State: ~Copyable>: WorkerHooks, @unchecked Sendable {
  private var state: State?

  /// What came with it. Under a lock, because the request that makes it may itself be interrupted meanwhile.
  private let interruption = Lock<(@Sendable () -> Void)?>(nil)

  override func interrupt() {
    super.interrupt()
    interruption.withLock { $0 }?()
  }

  /// As below.
  func request(
    toMakeInterruptible make: sending @escaping () throws -> Interruptible<State>
  ) -> sending () throws -> sending Void {
    { () throws -> sending Void in
      let made = try make()
      let interrupt = made.interrupt
      self.state = made.takeState()
      self.interruption.withLock { $0 = interrupt }
    }
  }

  /// What runs over there, and alone holds what it is given: what that captured goes over there, too.
  func request(
    toMake make: sending @escaping () throws -> State
  ) -> sending () throws -> sending Void {
    { () throws -> sending Void in self.state = try make() }
  }

  /// As above.
  func request<Result, Failure: Error>(
    to body: sending @escaping (inout State) throws(Failure) -> sending Result
  ) -> sending () throws(Failure) -> sending Result {
    { () throws(Failure) -> sending Result in
      self.check()
      return try body(&self.state!)
    }
  }

  /// For a closure that shares what it captured with its caller: it must let nothing of the value there.
  func lend<Result, Failure: Error>(
    to body: (inout sending State) throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    check()
    return try body(&state!)
  }

  /// The state is there from the first request to the end of the thread, and the core runs requests between
  /// the two alone, one at a time.
  private func check() {
    guard state != nil else { preconditionFailure("a confined value was used before it was made") }
  }

  override func stop() {
    interruption.withLock { $0 = nil }
    state = nil
    super.stop()
  }
}
