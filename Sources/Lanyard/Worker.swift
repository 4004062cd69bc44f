// One background thread that serves requests one at a time, and whose end cannot be forgotten.
//
// The thread belongs to the C core and refers to the core alone. A `Worker` owns one reference to the core
// and nothing refers back from there to the `Worker`, so an abandoned one is always released:
//
//   Worker ---owns---> core <---runs--- thread
//
//   open -> closing -> closed      by close(), on any thread, any number of times, or by deinit
//
// deinit gives the reference back and does nothing else. It may run on the worker's own thread, and does
// so routinely: whenever a closure that ran there held the last reference. Which case it is, is known below:
//
//   elsewhere        it closes, finishes what was accepted, joins the thread and frees the memory
//   in a task        the same, but it waits only as long as the drain goes on, and not for long: this
//                    thread is not ours to hold
//   on the worker    it cannot wait for itself: it begins to close and returns; the thread finishes what
//                    was accepted and ends, and the core joins it at the next chance
//
// No code here may therefore touch `self` beyond the pointer in deinit, or capture it.

/// A background thread that runs closures one at a time, in order, from a bounded ring.
///
/// ```swift
/// let worker = try Worker("database")
/// let row = try await worker.run { connection.insert(record) }
/// await worker.close()                                  // or let go of it
/// ```
///
/// **Threads.** Every method may be called from any thread and any task, at the same time as any other.
///
/// **Lifetime.** Letting go of the last reference closes the worker: what was accepted is finished, then
/// the thread ends. It may be let go of anywhere, on the worker's own thread too. Elsewhere the release
/// waits for the thread's end. On a thread that tasks share, in a task or an isolated deinit, it waits only as long
/// as requests go on ending, and for 200 ms at most, however many workers are let go of in one stretch; the
/// worker's thread then ends by itself when it has finished. <doc:TheThread> has the details.
/// Use `await close()` in asynchronous code to know that the end was reached.
///
/// **Surroundings.** The thread has the nice value, the scheduling policy and the CPU affinity of the one that opens
/// the worker. It blocks signals, and a child process that a request starts inherits that: see <doc:TheThread>.
///
/// **After close.** What would submit throws ``WorkerError`` with code `closed`; everything else still
/// answers.
public final class Worker: Sendable {
  /// The name it was opened with, in full. The system shows the first 15 bytes as the thread's name.
  public let name: String

  let handle: WorkerHandle
  let line: RoomLine

  /// The executors that live; it is they who own references, so that letting go of one ends it.
  let executors: Executors

  /// Opens a worker and starts its thread.
  ///
  /// - Parameters:
  ///   - name: The worker's name and its thread's. It need not be unique.
  ///   - configuration: Capacity and the like.
  ///   - fileID: Where it was opened, for ``live``.
  ///   - line: Where it was opened, for ``live``.
  /// - Throws: ``WorkerError`` with code `invalid` if the name is empty or contains a zero byte or the
  ///   configuration is out of range, `noThread` if the system refused a thread ten times in about 100 ms, or
  ///   `noMemory`. Nothing is left behind.
  ///
  /// **Blocking.** Only for those retries.
  public convenience init(
    _ name: String = "lanyard", configuration: Configuration = Configuration(),
    fileID: StaticString = #fileID, line: Int = #line
  ) throws(WorkerError) {
    try self.init(
      name, configuration, hooks: WorkerHooks(configuration), fileID: fileID, line: line)
  }

  init(
    _ name: String, _ configuration: Configuration, hooks: WorkerHooks, fileID: StaticString,
    line: Int
  ) throws(WorkerError) {
    try configuration.validate(name: name)
    let handle = try WorkerHandle.open(
      name, configuration, hooks: hooks, fileID: fileID, line: line)
    self.name = name
    self.handle = handle
    self.line = RoomLine(of: handle)
    self.executors = Executors(
      of: handle, name: name, stackSize: configuration.stackSize, fileID: fileID, line: line)
  }

  /// Opens a worker for the time of a closure, and returns after its thread has ended.
  ///
  /// ```swift
  /// let sum = try await Worker.withWorker("sum") { worker in
  ///   try await worker.run { add(numbers) }
  /// }
  /// ```
  ///
  /// - Parameters:
  ///   - name: As ``init(_:configuration:fileID:line:)``.
  ///   - configuration: As there.
  ///   - fileID: As there.
  ///   - line: As there.
  ///   - body: What uses the worker. Whether it returns or throws, what it submitted is finished.
  /// - Returns: What `body` returned.
  /// - Throws: As ``init(_:configuration:fileID:line:)``; otherwise whatever `body` throws, as itself.
  ///
  /// **Blocking.** Never: the task suspends until the end.
  /// **Cancellation.** Is the body's affair; the end is waited for all the same.
  public static nonisolated(nonsending) func withWorker<Result>(
    _ name: String = "lanyard", configuration: Configuration = Configuration(),
    fileID: StaticString = #fileID, line: Int = #line,
    _ body: nonisolated(nonsending) (Worker) async throws -> Result
  ) async throws -> Result {
    let worker = try Worker(name, configuration: configuration, fileID: fileID, line: line)
    do {
      let result = try await body(worker)
      await worker.close()
      return result
    } catch {
      await worker.close()
      throw error
    }
  }

  deinit {
    handle.release()
  }

  // MARK: Closing

  /// Stops acceptance at once and blocks until the thread has ended.
  ///
  /// For synchronous code; ``close(_:)`` is for all other. Any number of threads and tasks may close, any number of
  /// times; each returns after the thread was joined. A later `discard` turns a drain in progress into a discard; a
  /// later `drain` changes nothing.
  /// As long as an executor of this worker lives its thread does too, and closing waits for the requests
  /// only.
  ///
  /// - Parameter mode: What becomes of requests that were accepted and have not started.
  ///
  /// **Blocking.** Blocks this thread until the running request and the drain are over. On the worker's
  /// own thread, and on the thread of another worker that this one is itself waiting to see end, closing
  /// begins and this returns at once: waiting there would be for ever.
  /// **Threads.** Call from anywhere outside of asynchronous code.
  /// **Cancellation.** A running request is not interrupted.
  /// **After close.** Waits for the same end, or returns at once when it was reached.
  @available(*, noasync, message: "use 'await close()', which blocks no thread")
  public func closeAndWait(_ mode: CloseMode = .drain) {
    // Not an overload of `close`: in top-level code the compiler would choose it for `await worker.close()`, and
    // then refuse the `await`.
    handle.close(mode)
  }

  /// Stops acceptance at once and returns after the thread has ended, without blocking a thread.
  ///
  /// As ``closeAndWait(_:)``, and the two may be mixed. A closure on the worker's own thread can begin it
  /// with that one, which does not wait there; a task that lives there can await it.
  ///
  /// - Parameter mode: What becomes of requests that were accepted and have not started.
  ///
  /// **Threads.** Call from any task. The task is resumed by the end of the thread.
  /// **Blocking.** Never: the task suspends.
  /// **Cancellation.** None: the task waits for the end. A running request is not interrupted.
  /// **After close.** Waits for the same end, or returns at once when it was reached.
  public nonisolated(nonsending) func close(_ mode: CloseMode = .drain) async {
    // The thread itself says when it has nothing left to do but to end. Joining it then takes no time,
    // unless thread-specific data of somebody's takes its time to go: then a thread of the library waits.
    _ = await answered { handle.close(mode, thenAnswer: $0) }
    if handle.close(mode, within: Self.exitPatience) { return }
    if await answered(by: { handle.close(mode, whenClosed: $0) }) { return }
    // The system has no memory or thread for the wait. Acceptance has ended all the same, and the end is
    // asked for again and again instead of being announced.
    while !handle.close(mode, within: 0) {
      try? await Task.sleep(for: .milliseconds(5))
      await Task.yield()  // where the task is cancelled the sleep does not wait
    }
  }

  /// Stops acceptance at once and returns after the thread has ended, or at a deadline.
  ///
  /// - Parameters:
  ///   - mode: What becomes of requests that were accepted and have not started.
  ///   - deadline: The instant after which the end is no longer waited for. One that is too far away to express is
  ///     none; one that has passed waits for nothing.
  /// - Returns: Whether the thread has ended. `false`: acceptance is stopped, and what was accepted goes on; close
  ///   again to wait again, or with `discard` to have less to wait for.
  ///
  /// **Threads, blocking, cancellation, after close.** As ``close(_:)``.
  public nonisolated(nonsending) func close(
    _ mode: CloseMode = .drain, deadline: ContinuousClock.Instant
  ) async -> Bool {
    guard deadline > .now else { return handle.close(mode, within: 0) }
    let race = EndOrDeadline()
    let time = WorkerHandle.nanoseconds(at: deadline)
    let alarm = Self.isNever(deadline) ? nil : try? WorkerHandle.setAlarm(at: time, for: race)
    if alarm != nil || Self.isNever(deadline), handle.close(mode, thenAnswer: race.end) { await race.wait() }
    alarm?.unset()
    // What is left is the thread's exit; or, where there was no memory or thread for an alarm, all of the wait.
    while true {
      let left = WorkerHandle.nanoseconds(ContinuousClock.now.duration(to: deadline))
      if handle.close(mode, within: min(left, Self.exitPatience)) { return true }
      if left == 0 { return false }
      try? await Task.sleep(for: .milliseconds(1))
      await Task.yield()  // where the task is cancelled the sleep does not wait
    }
  }

  /// How long a task may hold its thread for the last instructions of a worker's.
  private static let exitPatience: WorkerHandle.Nanoseconds = 5_000_000

  /// Suspends until a request is answered. False at once if it was not taken.
  private nonisolated(nonsending) func answered(by take: (Request) -> Bool) async -> Bool {
    await withCheckedContinuation { continuation in
      if !take(ClosureRequest { continuation.resume(returning: true) }) {
        continuation.resume(returning: false)
      }
    }
  }

  // MARK: Asking

  /// Whether closing has begun. True in a child of fork: nothing can be submitted there either.
  public var isClosed: Bool { handle.isClosed }

  /// Whether the calling thread is this worker's own.
  public var isCurrent: Bool { handle.isCurrent }

  /// What it has done so far; after close, the final figures. All zero in a child of fork.
  public var statistics: Statistics { handle.statistics }

  /// Every worker of this process that was opened and is not yet both let go of and ended.
  ///
  /// Meant for the ends of tests and of programs: what is listed there was forgotten. In a child of fork:
  /// those that the child opened.
  ///
  /// **Threads.** Call from anywhere. Workers opened or gone meanwhile may or may not be shown.
  public static var live: [WorkerInfo] { WorkerHandle.live }

  /// Waits for the end of every worker that nobody holds any more, or only executors of tasks that end. For the
  /// ends of tests and of programs that account for every thread.
  ///
  /// - Parameter limit: How long to wait at most. What is too long to express is for ever.
  /// - Returns: How many workers still live: 0 when nothing leaked.
  ///
  /// **Threads.** On a worker's own thread it leaves that worker out.
  /// **Blocking.** Blocks this thread until they have ended, for at most `limit`.
  @available(*, noasync, message: "it blocks; call it at the end of a synchronous main or test")
  public static func quiesce(within limit: Duration) -> Int {
    WorkerHandle.quiesce(until: WorkerHandle.nanoseconds(fromNow: limit))
  }

  /// The version of the C core that runs, as `major.minor.patch`.
  package static var libraryVersion: String { WorkerHandle.libraryVersion }
}
