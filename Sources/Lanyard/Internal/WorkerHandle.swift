// The only file that touches the C core. Every `unsafe` of this module is here or in SharedThread.swift.
//
// A handle is a borrowed pointer to the core. `Worker` and each executor own one reference and give it back
// in their deinits; whoever calls anything here owns one, or is called by the core on the worker's thread,
// which keeps the core's memory. What crosses into C is one of these:
//
//   a class reference that the core holds from the accepted call until it calls back once (`Unmanaged`,
//   retained there and taken here): requests, lines that wait for room, executors of jobs
//   a class reference that the core holds until its memory goes: the hooks; and the slots, which they own
//   a variable on the stack of a caller who waits for the core to return
//
// Below the handle: what the core calls, and three small types that are unsafe for the sake of speed and
// safe to use as they stand: `Waiter`, `Transfer`, `Slots`.

import CLanyard

/// @unchecked: the core is safe to use from any thread by one that owns a reference.
@safe
struct WorkerHandle: @unchecked Sendable {
  typealias Ticket = UInt64
  typealias Nanoseconds = UInt64

  enum Acceptance {
    case accepted(Ticket)
    case full
    case refused(WorkerError)
  }

  static let forever = Nanoseconds.max

  private let pointer: OpaquePointer

  private init(_ pointer: OpaquePointer) {
    unsafe self.pointer = unsafe pointer
  }

  // MARK: Opening, owning

  /// Opens a worker. The caller owns the one reference that it has.
  static func open(
    _ name: String, _ configuration: Worker.Configuration, hooks: WorkerHooks,
    fileID: StaticString, line: Int
  ) throws(WorkerError) -> WorkerHandle {
    var options = unsafe lanyard_options()
    // The file's name is static text, so its pointer is good for as long as the core needs it.
    fileID.withUTF8Buffer { file in
      unsafe lanyard_options_init_at(
        &options, MemoryLayout<lanyard_options>.size,
        UnsafeRawPointer(file.baseAddress)?.assumingMemoryBound(to: CChar.self),
        Int32(clamping: line))
    }
    unsafe options.capacity = UInt32(configuration.capacity)
    unsafe options.batch_limit = UInt32(configuration.batchLimit)
    unsafe options.stack_size_bytes = configuration.stackSize ?? 0
    unsafe options.spin_ns = UInt32(nanoseconds(configuration.spin))
    unsafe options.lazy = configuration.lazy
    unsafe options.on_start = startHooks
    unsafe options.on_stop = stopHooks
    if hooks.servesBatches { unsafe options.serve = serveHooks }
    // Where batches are served nobody but the hook wants to know: the requests are elements.
    if hooks.interrupts || !hooks.servesBatches { unsafe options.interrupt = interruptHooks }
    // Retained for the core; `destroyHooks` takes it, or we do on failure.
    let context = unsafe Unmanaged.passRetained(hooks)
    unsafe options.context = unsafe context.toOpaque()
    unsafe options.destroy = destroyHooks
    var pointer: OpaquePointer?
    // The core copies the name.
    let status = unsafe name.withCString { name in
      unsafe options.name = unsafe name
      return unsafe lanyard_open(&options, &pointer)
    }
    guard status == LANYARD_OK, let pointer = unsafe pointer else {
      unsafe context.release()
      throw WorkerError(status)
    }
    return unsafe WorkerHandle(pointer)
  }

  /// One more reference, which the caller gives back with `release`.
  func retained() -> WorkerHandle {
    unsafe lanyard_retain(pointer)
    return self
  }

  /// How long a release on a shared thread waits for a worker on which nothing ends.
  private static let patience: Nanoseconds = 100_000_000

  /// Gives a reference back. The last one closes, and waits for the thread's end, unless this is the thread.
  ///
  /// On a thread that tasks share it waits as long as the drain goes on, for 200 ms at most, and for 100 ms if
  /// nothing ends: what it waits for may need this thread. However many are released in one stretch, they have
  /// these 200 ms together. The core joins later what has not ended then.
  func release() {
    var pointer: OpaquePointer? = unsafe self.pointer
    Self.releasing { deadline, limit in unsafe lanyard__release_until(&pointer, deadline, limit) }
  }

  private static func releasing(_ release: (_ deadline: Nanoseconds, _ limit: Nanoseconds) -> Void) {
    guard SharedThread.isCurrent else { return release(forever, forever) }
    let start = now
    var note = SharedThread.note
    let allowance = note.allowance(at: start)
    release(start + min(patience, allowance), start + allowance)
    // What goes with a worker may have let go of another one here. That was part of the same time.
    note.waited(from: start, to: now)
    SharedThread.note = note
  }

  // MARK: Submitting

  /// Hands over a request. Accepted: it will be answered once. Otherwise nothing holds it.
  func trySubmit(_ request: Request) -> Acceptance {
    // Retained for the core; `answerRequest` takes it. On refusal nobody else has seen it.
    let argument = unsafe Unmanaged.passRetained(request)
    var ticket: Ticket = 0
    let status = unsafe lanyard_try_submit(pointer, answerRequest, argument.toOpaque(), &ticket)
    if status == LANYARD_OK { return .accepted(ticket) }
    unsafe argument.release()
    return status == LANYARD_FULL ? .full : .refused(WorkerError(status))
  }

  /// Puts an element into a slot of its own. Accepted: it will be served, or discarded.
  func trySubmit<Element>(_ element: consuming Element, into slots: Slots<Element>) -> Acceptance {
    var ticket: Ticket = 0
    let status = unsafe lanyard__try_claim(pointer, &ticket)
    guard status == LANYARD_OK else {
      return status == LANYARD_FULL ? .full : .refused(WorkerError(status))
    }
    slots.store(element, at: ticket)
    // Not retained: the hooks own the slots, and the core holds those longer than any request.
    let argument = unsafe Unmanaged<SlotOwner>.passUnretained(slots).toOpaque()
    unsafe lanyard__publish(pointer, ticket, discardSlot, argument)
    return .accepted(ticket)
  }

  /// Withdraws a request that has not started; its answer comes before this returns. Interrupts one that runs.
  func cancel(_ ticket: Ticket) {
    // What it reports is the request's own affair: it is answered by this, or by its end.
    _ = unsafe lanyard_cancel(pointer, ticket)
  }

  /// Has `roomWasMade` called once. An error: it will not be called.
  func callWhenRoom(_ line: RoomLine) -> WorkerError? {
    // Retained for the core; `announceRoom` takes it.
    let argument = unsafe Unmanaged.passRetained(line)
    let status = unsafe lanyard_when_room(pointer, announceRoom, argument.toOpaque())
    if status == LANYARD_OK { return nil }
    unsafe argument.release()
    return WorkerError(status)
  }

  /// Runs a closure on the worker and waits for its end; at once if this is the worker.
  func call(_ body: () -> Void) throws(WorkerError) {
    let status = withoutActuallyEscaping(body) { body in
      // The core does not return before the closure has ended or will never be called, so neither the
      // closure nor the variable that holds it is used after this.
      var closure = BorrowedClosure(body: body)
      return unsafe withUnsafeMutablePointer(to: &closure) { closure in
        unsafe lanyard_call(pointer, runBorrowedClosure, closure)
      }
    }
    guard status == LANYARD_OK else { throw WorkerError(status) }
  }

  /// Has a repetition called at a time of its own, until it has no next one or the worker closes.
  func schedule(_ repetition: Repetition, at time: Nanoseconds) throws(WorkerError) {
    // Retained for the core; the last `tick` releases it.
    let argument = unsafe Unmanaged.passRetained(repetition)
    let status = unsafe lanyard__set_timer(pointer, time, tick, argument.toOpaque())
    guard status == LANYARD_OK else {
      unsafe argument.release()
      throw WorkerError(status)
    }
  }

  // MARK: Executors

  /// Counts an executor in, which then owns a reference. False: the thread is about to end, or has ended.
  func acquireExecutor() -> Bool { unsafe lanyard__executor_acquire(pointer) }

  /// Counts an executor out, and releases its reference as `release` does.
  func releaseExecutor() {
    var pointer: OpaquePointer? = unsafe self.pointer
    Self.releasing { deadline, limit in
      unsafe lanyard__executor_release_until(&pointer, deadline, limit)
    }
  }

  /// Hands over a job of an actor on that executor. It is the last use of the job here.
  func enqueue(_ job: UnownedJob, on executor: WorkerExecutor) {
    // A job is one pointer in size and representation. The executor is kept until the job has run.
    let owner = unsafe Unmanaged.passRetained(executor).toOpaque()
    unsafe enqueue(runSerialJob, unsafeBitCast(job, to: UnsafeMutableRawPointer.self), owner)
  }

  /// Hands over a job of a task that prefers that executor. It is the last use of the job here.
  func enqueue(_ job: UnownedJob, on executor: WorkerTaskExecutor) {
    // As above.
    let owner = unsafe Unmanaged.passRetained(executor).toOpaque()
    unsafe enqueue(runTaskJob, unsafeBitCast(job, to: UnsafeMutableRawPointer.self), owner)
  }

  private func enqueue(
    _ run: @convention(c) (UnsafeMutableRawPointer, UnsafeMutableRawPointer) -> Void,
    _ job: UnsafeMutableRawPointer, _ executor: UnsafeMutableRawPointer
  ) {
    switch unsafe lanyard__enqueue(pointer, run, job, executor) {
    case LANYARD_OK: return
    case LANYARD_FORKED:
      fatalError(
        "a task was resumed on a worker's executor in a child of fork, where that worker's thread does not "
          + "exist; call exec or _exit in the child, or open another worker there")
    case LANYARD_NO_THREAD:
      fatalError(
        "the thread of a worker's executor can never be started (errno \(lanyard__thread_error())); a task "
          + "waits for it: check the configuration's stackSize")
    default:
      // As the runtime does when there is none for a task itself.
      fatalError("there is no memory for the jobs of a worker's executor")
    }
  }

  // MARK: What runs

  /// The request whose body the calling thread runs, if it can be withdrawn.
  static var running: WithdrawableRequest? {
    guard let request = unsafe lanyard__running() else { return nil }
    return unsafe Unmanaged<WithdrawableRequest>.fromOpaque(request).takeUnretainedValue()
  }

  /// Runs a body as that of a request, which whoever calls this keeps.
  static func run<Result>(as request: WithdrawableRequest, _ body: () -> Result) -> Result {
    let before = unsafe lanyard__set_running(Unmanaged.passUnretained(request).toOpaque())
    defer { _ = unsafe lanyard__set_running(before) }
    return body()
  }

  // MARK: Alarms

  /// Has a target called at a time, by a thread of the process. The caller keeps the target until it has unset it.
  static func setAlarm(at time: Nanoseconds, for target: AlarmTarget) throws(WorkerError) -> Alarm {
    var alarm: OpaquePointer?
    let status = unsafe lanyard__alarm_set(time, ring, Unmanaged.passUnretained(target).toOpaque(), &alarm)
    guard status == LANYARD_OK else { throw WorkerError(status) }
    return unsafe Alarm(pointer: alarm)
  }

  // MARK: Closing

  /// Waits for the thread's end. Without effect on the waiting where it would be for ever.
  func close(_ mode: Worker.CloseMode) {
    _ = unsafe lanyard_close(pointer, mode.core)
  }

  /// Begins to close and waits for the end, for so long. True if there is nothing left to wait for.
  func close(_ mode: Worker.CloseMode, within limit: Nanoseconds) -> Bool {
    let deadline = limit == 0 ? 0 : Self.now + limit
    return unsafe lanyard_close_until(pointer, mode.core, deadline) != LANYARD_TIMED_OUT
  }

  /// Begins to close, and has `ended` answered with `run` when the thread has nothing left to do but to
  /// end, or to serve an executor. False: it will not be, because that is so, or for lack of memory.
  func close(_ mode: Worker.CloseMode, thenAnswer ended: Request) -> Bool {
    // Retained for the core; `answerRequest` takes it.
    let argument = unsafe Unmanaged.passRetained(ended)
    let status = unsafe lanyard__close_then(pointer, mode.core, answerRequest, argument.toOpaque())
    if status == LANYARD_OK { return true }
    unsafe argument.release()
    return false
  }

  /// Begins to close, and has `closed` answered with `run` after the thread was joined. False: it will not
  /// be, for lack of memory or of a thread.
  func close(_ mode: Worker.CloseMode, whenClosed closed: Request) -> Bool {
    // As above.
    let argument = unsafe Unmanaged.passRetained(closed)
    let status = unsafe lanyard_close_async(pointer, mode.core, answerRequest, argument.toOpaque())
    if status == LANYARD_OK { return true }
    unsafe argument.release()
    return false
  }

  // MARK: Asking

  var isCurrent: Bool { unsafe lanyard_is_current(pointer) }
  var isClosed: Bool { unsafe lanyard_is_closed(pointer) }

  /// The slots of the ring, after rounding up.
  var capacity: Int { statistics.capacity }

  /// In a child of fork, all zero.
  var statistics: Worker.Statistics {
    var stats = lanyard_stats()
    stats.size = MemoryLayout<lanyard_stats>.size
    _ = unsafe lanyard_get_stats(pointer, &stats)
    return Worker.Statistics(
      submitted: stats.submitted, completed: stats.completed, cancelled: stats.cancelled,
      discarded: stats.discarded, timedOut: stats.timed_out, refusedFull: stats.refused_full,
      batches: stats.batches, jobs: unsafe lanyard__enqueued(pointer), parks: stats.parks,
      wakes: stats.wakes,
      capacity: Int(stats.capacity), depth: Int(stats.depth), depthHigh: Int(stats.depth_high))
  }

  static var live: [WorkerInfo] {
    var infos: [WorkerInfo] = []
    unsafe withUnsafeMutablePointer(to: &infos) { infos in
      // It calls back on this thread, before it returns.
      unsafe lanyard_each_live(appendInfo, infos)
    }
    return infos
  }

  static var libraryVersion: String {
    let version = lanyard_version()
    return "\(version >> 16).\(version >> 8 & 0xff).\(version & 0xff)"
  }

  static func quiesce(until deadline: Nanoseconds) -> Int {
    lanyard_quiesce(deadline)
  }

  // MARK: Time

  /// The core's clock.
  static var now: Nanoseconds { lanyard_now_ns() }

  /// An instant on the core's clock. One that is too far away is none.
  static func nanoseconds(at instant: ContinuousClock.Instant) -> Nanoseconds {
    let present = ContinuousClock.now
    // Compared first: the way to one that is long past may not be expressible.
    guard instant > present else { return now }
    return nanoseconds(fromNow: present.duration(to: instant))
  }

  /// The end of a duration that begins now, likewise.
  static func nanoseconds(fromNow duration: Duration) -> Nanoseconds {
    let (sum, overflow) = now.addingReportingOverflow(nanoseconds(duration))
    return overflow ? forever : sum
  }

  /// A duration in nanoseconds: what is negative as 0, what is too long as all there are.
  static func nanoseconds(_ duration: Duration) -> Nanoseconds {
    guard duration > .zero else { return 0 }
    // Not its components, which trap where the seconds do not fit into 64 bits.
    return Nanoseconds(clamping: duration.attoseconds / 1_000_000_000)
  }
}

extension Worker.CloseMode {
  fileprivate var core: lanyard_close_mode {
    switch self {
    case .drain: LANYARD_DRAIN
    case .discard: LANYARD_DISCARD
    }
  }
}

extension WorkerError {
  /// Read at once, on the thread that got the status.
  fileprivate init(_ status: lanyard_status) {
    switch status {
    case LANYARD_FULL: self.init(.full)
    case LANYARD_CLOSED, LANYARD_CLOSING: self.init(.closed)
    case LANYARD_TIMED_OUT: self.init(.deadlineExceeded)
    case LANYARD_WOULD_DEADLOCK: self.init(.wouldDeadlock)
    case LANYARD_FORKED: self.init(.forked)
    case LANYARD_NO_MEMORY: self.init(.noMemory)
    case LANYARD_NO_THREAD: self.init(.noThread, errno: lanyard__thread_error())
    default: self.init(.invalid, detail: unsafe String(cString: lanyard_status_text(status)))
    }
  }
}

extension Outcome {
  fileprivate init(_ status: lanyard_status) {
    switch status {
    case LANYARD_OK: self = .run
    case LANYARD_CANCELLED: self = .withdrawn
    default: self = .refused(WorkerError(status))
    }
  }
}

// MARK: - What the core calls

/// Takes the reference that the submit gave, so the box may go here.
private func answerRequest(_ argument: UnsafeMutableRawPointer?, _ status: lanyard_status) {
  guard let argument = unsafe argument else { preconditionFailure("a request without its box") }
  unsafe Unmanaged<Request>.fromOpaque(argument).takeRetainedValue().answer(Outcome(status))
}

/// A request of a batch is taken by `serve`; what the core calls here will not be served.
private func discardSlot(_ argument: UnsafeMutableRawPointer?, _: lanyard_status) {
  guard let argument = unsafe argument else { preconditionFailure("an element without its slots") }
  unsafe Unmanaged<SlotOwner>.fromOpaque(argument).takeUnretainedValue().discardNext()
}

private func announceRoom(_ argument: UnsafeMutableRawPointer?, _: lanyard_status) {
  guard let argument = unsafe argument else { preconditionFailure("a call without its line") }
  unsafe Unmanaged<RoomLine>.fromOpaque(argument).takeRetainedValue().roomWasMade()
}

private struct BorrowedClosure {
  let body: () -> Void
}

private func runBorrowedClosure(_ argument: UnsafeMutableRawPointer?, _: lanyard_status) {
  guard let argument = unsafe argument else { preconditionFailure("a call without its closure") }
  unsafe argument.assumingMemoryBound(to: BorrowedClosure.self).pointee.body()
}

/// Gives the reference back with the last call.
private func tick(_ argument: UnsafeMutableRawPointer, _ status: lanyard_status) -> UInt64 {
  let repetition = unsafe Unmanaged<Repetition>.fromOpaque(argument)
  if status == LANYARD_OK, let next = unsafe repetition.takeUnretainedValue().tick() { return next }
  unsafe repetition.release()
  return 0
}

/// The executor is released only after the job's last step, which may have let go of all others.
private func runSerialJob(_ job: UnsafeMutableRawPointer, _ executor: UnsafeMutableRawPointer) {
  SharedThread.runsJob()
  let executor = unsafe Unmanaged<WorkerExecutor>.fromOpaque(executor).takeRetainedValue()
  unsafe unsafeBitCast(job, to: UnownedJob.self).runSynchronously(
    on: executor.asUnownedSerialExecutor())
  withExtendedLifetime(executor) {}
}

private func runTaskJob(_ job: UnsafeMutableRawPointer, _ executor: UnsafeMutableRawPointer) {
  SharedThread.runsJob()
  let executor = unsafe Unmanaged<WorkerTaskExecutor>.fromOpaque(executor).takeRetainedValue()
  unsafe unsafeBitCast(job, to: UnownedJob.self).runSynchronously(
    on: executor.asUnownedTaskExecutor())
  withExtendedLifetime(executor) {}
}

private func hooks(_ context: UnsafeMutableRawPointer?) -> WorkerHooks {
  guard let context = unsafe context else { preconditionFailure("a worker without its hooks") }
  return unsafe Unmanaged<WorkerHooks>.fromOpaque(context).takeUnretainedValue()
}

private func startHooks(_ context: UnsafeMutableRawPointer?) {
  unsafe hooks(context).start()
}

private func stopHooks(_ context: UnsafeMutableRawPointer?) {
  unsafe hooks(context).stop()
}

/// On the thread that cancels, or on that of the alarms. It holds the request that it withdraws, which is this one.
private func interruptHooks(
  _ context: UnsafeMutableRawPointer?, _ argument: UnsafeMutableRawPointer?, _: lanyard_ticket
) {
  let hooks = unsafe hooks(context)
  hooks.interrupt()
  guard !hooks.servesBatches, let argument = unsafe argument else { return }
  unsafe Unmanaged<Request>.fromOpaque(argument).takeUnretainedValue().interrupt()
}

/// Borrowed: whoever set the alarm unsets it, which waits for this, before it lets go of the target.
private func ring(_ argument: UnsafeMutableRawPointer?) {
  guard let argument = unsafe argument else { preconditionFailure("an alarm without its target") }
  unsafe Unmanaged<AlarmTarget>.fromOpaque(argument).takeUnretainedValue().alarm()
}

private func serveHooks(
  _ context: UnsafeMutableRawPointer?, _: UnsafeMutablePointer<lanyard_request>, _ count: Int
) {
  unsafe hooks(context).serve(count)
}

/// Takes the reference that open gave.
private func destroyHooks(_ context: UnsafeMutableRawPointer?) {
  guard let context = unsafe context else { preconditionFailure("a worker without its hooks") }
  unsafe Unmanaged<WorkerHooks>.fromOpaque(context).release()
}

private func appendInfo(_ info: UnsafePointer<lanyard_info>, _ argument: UnsafeMutableRawPointer?) {
  guard let argument = unsafe argument else { preconditionFailure("a visit without its list") }
  let visited = unsafe info.pointee
  let age = lanyard_now_ns() - (unsafe visited.opened_ns)
  // The strings are copied: they are good until this returns.
  let entry = unsafe WorkerInfo(
    id: visited.id, name: String(cString: visited.name),
    fileID: visited.file.map { unsafe String(cString: $0) }, line: Int(visited.line),
    age: .nanoseconds(Int64(clamping: age)), depth: Int(visited.depth), isClosed: visited.closed)
  unsafe argument.assumingMemoryBound(to: [WorkerInfo].self).pointee.append(entry)
}

// MARK: - Alarms

/// Something that is called at a time.
class AlarmTarget: @unchecked Sendable {
  /// Called once at most, on the thread of the alarms. It must be short.
  func alarm() {
    preconditionFailure("a subclass overrides this")
  }
}

/// @unchecked: the pointer is handed to C alone, once.
@safe
struct Alarm: @unchecked Sendable {
  fileprivate let pointer: OpaquePointer?

  /// Exactly once. Afterwards the target is not called, nor being called.
  func unset() {
    _ = unsafe lanyard__alarm_unset(pointer)
  }
}

// MARK: - Waiting

/// A task that waits for an answer.
///
/// Its continuation is checked in debug builds alone: the check costs an allocation, and more time than the rest
/// of a hand-over. What takes its place is that a request owns its waiter, gives it away with its one answer,
/// and traps when it is asked for another. (In debug builds it also keeps ThreadSanitizer quiet: the code
/// that resumes an unchecked one is compiled into this module, but what orders it lies in the runtime,
/// where the sanitizer does not look.)
@safe
struct Waiter<Value>: Sendable {
  #if DEBUG
    private let continuation: CheckedContinuation<Transfer<Value>, any Error>
  #else
    private let continuation: UnsafeContinuation<Transfer<Value>, any Error>
  #endif

  /// Suspends the task until the waiter is resumed. The body runs at once, on the task's thread.
  static nonisolated(nonsending) func wait(
    _ body: (Waiter<Value>) -> Void
  ) async throws -> Transfer<Value> {
    #if DEBUG
      try await withCheckedThrowingContinuation { continuation in
        body(Waiter(continuation: continuation))
      }
    #else
      try await unsafe withUnsafeThrowingContinuation { continuation in
        body(unsafe Waiter(continuation: continuation))
      }
    #endif
  }

  /// Exactly once, with no lock held.
  func resume(with result: Result<Transfer<Value>, any Error>) {
    #if DEBUG
      continuation.resume(with: result)
    #else
      unsafe continuation.resume(with: result)
    #endif
  }
}

/// Carries a result to the one task that waits for it.
///
/// @unchecked: it is made from a value that was sent, and its value is taken by that one task.
struct Transfer<Value>: @unchecked Sendable {
  // Sent in, and read once by the receiver, so no two threads ever share it.
  nonisolated(unsafe) private let value: Value

  init(_ value: sending Value) {
    unsafe self.value = value
  }

  consuming func take() -> sending Value {
    unsafe value
  }
}

// MARK: - Slots

/// Where the elements of a typed ring lie. What the core knows of it.
class SlotOwner {
  fileprivate init() {}

  func discardNext() {
    preconditionFailure("a subclass overrides this")
  }
}

/// The elements beside a ring: the one with ticket n lies in slot n - 1, modulo twice the capacity.
///
/// Twice, because the core frees a slot of its ring before it serves what was in it: up to one capacity of
/// elements may be in the batch that is being served, and up to another one in the ring. Nothing is ever
/// withdrawn from such a ring, so the worker meets the elements in the order of their tickets, without a
/// gap, and needs no more than a counter to find them.
///
/// Orderings: an element is stored between the claim and the publication of its ticket, and taken after
/// the publication was seen (PUBLISH in ring.h). It is taken before the worker takes the next batch out of
/// the ring, and the slot comes round again only after a slot of that batch, or of a later one, was freed
/// and claimed (RECYCLE in ring.h).
@safe
final class Slots<Element>: SlotOwner, @unchecked Sendable {
  private let elements: UnsafeMutablePointer<Element>
  private let mask: Int

  /// The worker's own: the slot of the element that it will meet next.
  private var next = 0

  /// - Parameter capacity: The ring's, a power of two.
  init(capacity: Int) {
    mask = 2 * capacity - 1
    unsafe elements = .allocate(capacity: 2 * capacity)
    super.init()
  }

  deinit {
    // Every element was taken: the core has served or discarded what it accepted.
    unsafe elements.deallocate()
  }

  fileprivate func store(_ element: consuming Element, at ticket: WorkerHandle.Ticket) {
    unsafe (elements + (Int(truncatingIfNeeded: ticket - 1) & mask)).initialize(to: element)
  }

  /// On the worker, once for each element that it was told of.
  func takeNext() -> Element {
    defer { next = (next + 1) & mask }
    return unsafe (elements + next).move()
  }

  override func discardNext() {
    _ = takeNext()
  }
}
