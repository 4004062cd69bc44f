// The only file that touches the C core, and the one that holds every `unsafe` that this takes.
//
// A handle is a borrowed pointer to the core. `Worker` owns one reference and gives it back in its deinit;
// whoever calls anything here owns one, or is called by the core in a request, when the thread keeps the
// core's memory. What crosses into C as an argument is either a class reference that the core holds from
// the accepted call until it calls back once (`Unmanaged`, retained and taken), or a variable on the stack
// of a caller who waits for the core to return.

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
    _ name: String, _ configuration: Worker.Configuration, fileID: StaticString, line: Int
  ) throws(WorkerError) -> WorkerHandle {
    try configuration.validate()
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
    var pointer: OpaquePointer?
    // The core copies the name.
    let status = unsafe name.withCString { name in
      unsafe options.name = unsafe name
      return unsafe lanyard_open(&options, &pointer)
    }
    guard status == LANYARD_OK, let pointer = unsafe pointer else { throw WorkerError(status) }
    return unsafe WorkerHandle(pointer)
  }

  /// One more reference, which the caller gives back with `release`.
  func retained() -> WorkerHandle {
    unsafe lanyard_retain(pointer)
    return self
  }

  /// Gives a reference back. The last one closes, and waits for the thread unless this is the thread.
  func release() {
    var pointer: OpaquePointer? = unsafe self.pointer
    unsafe lanyard_release(&pointer)
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

  /// Withdraws a request that has not started; its answer comes before this returns.
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

  // MARK: Closing

  /// Waits for the thread's end. Without effect on the waiting where it would be for ever.
  func close(_ mode: Worker.CloseMode) {
    _ = unsafe lanyard_close(pointer, mode.core)
  }

  /// Begins to close without waiting. True if the thread was joined already.
  func beginClose(_ mode: Worker.CloseMode) -> Bool {
    unsafe lanyard_close_until(pointer, mode.core, 0) == LANYARD_OK
  }

  /// Has `closed` answered with `run` after the thread was joined. False: it will not be.
  func close(_ mode: Worker.CloseMode, whenClosed closed: Request) -> Bool {
    // Retained for the core; `answerRequest` takes it.
    let argument = unsafe Unmanaged.passRetained(closed)
    let status = unsafe lanyard_close_async(pointer, mode.core, answerRequest, argument.toOpaque())
    if status == LANYARD_OK { return true }
    unsafe argument.release()
    return false
  }

  // MARK: Asking

  var isCurrent: Bool { unsafe lanyard_is_current(pointer) }
  var isClosed: Bool { unsafe lanyard_is_closed(pointer) }

  /// The core's clock.
  static var now: Nanoseconds { lanyard_now_ns() }

  /// An instant on the core's clock. One that is too far away is none.
  static func nanoseconds(at instant: ContinuousClock.Instant) -> Nanoseconds {
    let distance = nanoseconds(ContinuousClock.now.duration(to: instant))
    let (sum, overflow) = now.addingReportingOverflow(distance)
    return overflow ? forever : sum
  }

  /// A duration in nanoseconds: what is negative as 0, what is too long as all there are.
  private static func nanoseconds(_ duration: Duration) -> Nanoseconds {
    let (seconds, attoseconds) = duration.components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    let (sum, carry) = whole.addingReportingOverflow(UInt64(attoseconds) / 1_000_000_000)
    return overflow || carry ? forever : sum
  }

  /// In a child of fork, all zero.
  var statistics: Worker.Statistics {
    var stats = lanyard_stats()
    stats.size = MemoryLayout<lanyard_stats>.size
    _ = unsafe lanyard_get_stats(pointer, &stats)
    return Worker.Statistics(
      submitted: stats.submitted, completed: stats.completed, cancelled: stats.cancelled,
      discarded: stats.discarded, timedOut: stats.timed_out, refusedFull: stats.refused_full,
      batches: stats.batches, parks: stats.parks, wakes: stats.wakes,
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
  fileprivate init(_ status: lanyard_status) {
    switch status {
    case LANYARD_FULL: self.init(.full)
    case LANYARD_CLOSED, LANYARD_CLOSING: self.init(.closed)
    case LANYARD_TIMED_OUT: self.init(.deadlineExceeded)
    case LANYARD_WOULD_DEADLOCK: self.init(.wouldDeadlock)
    case LANYARD_FORKED: self.init(.forked)
    case LANYARD_NO_MEMORY: self.init(.noMemory)
    case LANYARD_NO_THREAD: self.init(.noThread)
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

// MARK: What the core calls

/// Takes the reference that the submit gave, so the box may go here.
private func answerRequest(_ argument: UnsafeMutableRawPointer?, _ status: lanyard_status) {
  guard let argument = unsafe argument else { preconditionFailure("a request without its box") }
  unsafe Unmanaged<Request>.fromOpaque(argument).takeRetainedValue().answer(Outcome(status))
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
