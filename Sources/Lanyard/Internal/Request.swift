// The boxes that cross into C: what a request does, and who may answer it.
//
// A box never refers to the `Worker`, or else a request that waits would keep alive the very object whose
// end it waits for. It lives as long as somebody may still touch it: the C core holds one reference from
// the accepted submit until it has called `answer`, the line of those that wait for room holds one while
// the request stands in it, and the frame of `run` holds one until it returns.
//
// Every request is answered exactly once, by the one who owns its answer:
//
//   unsubmitted --- refused by the core ------------------------------> the submitter answers
//        |     \--- stands in the line -- leaves it, under its lock --> whoever took it out answers
//        v
//     accepted ---- runs, is discarded, is withdrawn in the ring -----> the core answers, through `answer`
//
// `WithdrawableRequest.phase` decides only who has to carry out a withdrawal. Its three states are
// `unsubmitted`, `accepted` and withdrawn, the last one in two colours for the two reasons:
//
//   unsubmitted -> accepted     by the submitter, once the core has accepted it and the ticket is noted
//   unsubmitted -> withdrawn    by the withdrawer, who then answers it if it finds it in the line.
//                               Otherwise the submitter finds out: before it submits, under the line's
//                               lock, or when it fails to go to `accepted`; then it cancels by the ticket.
//   accepted    -> withdrawn    by the withdrawer, who then cancels by the ticket
//
// Orderings
//   TICKET  submitter: release CAS unsubmitted -> accepted  ->  withdrawer: acquire load or CAS of `phase`
//           the withdrawer reads the ticket that the submitter wrote.
//   REASON  withdrawer: release CAS to cancelled or expired ->  whoever answers: acquire load of `phase`
//           nothing but the reason itself is read through it.
//   ANSWER  whoever answers: release store of `answered`  ->  the task that was resumed: acquire load
//           adds nothing to what the continuation guarantees. It shows ThreadSanitizer that order, which the
//           runtime does not where the answer comes before the task has come to suspend.
//   BODY    everything else in a box is written before the submit and handed on by the core's own promise
//           (before an accepted submit happens before the request) or by the line's lock.

import Synchronization

/// What became of a request.
enum Outcome {
  /// This is the worker's thread: do the work.
  case run
  /// It will never run, for this reason.
  case refused(WorkerError)
  /// It will never run, because it was withdrawn.
  case withdrawn
}

/// A request as the core sees it: something that is answered once.
///
/// @unchecked: the core calls `answer` once, after everything that was written before the submit; the
/// subclasses say who touches their fields when.
class Request: @unchecked Sendable {
  /// Called exactly once, with no lock held.
  func answer(_ outcome: Outcome) {
    preconditionFailure("a subclass overrides this")
  }

  /// Called while it runs and the core keeps it from ending, on the thread that cancels it.
  func interrupt() {}
}

/// A closure that nobody waits for.
final class ClosureRequest: Request, @unchecked Sendable {
  // Written before the submit, read by the one answer (BODY).
  private let body: () -> Void

  init(_ body: sending @escaping () -> Void) {
    self.body = body
  }

  override func answer(_ outcome: Outcome) {
    if case .run = outcome { body() }
  }
}

/// A request that its caller may withdraw before it starts.
class WithdrawableRequest: Request, @unchecked Sendable {
  enum Phase: UInt8, AtomicRepresentable {
    case unsubmitted, accepted, cancelled, expired
  }

  /// Why a request is withdrawn.
  enum Reason {
    case cancelled, expired

    fileprivate var phase: Phase { self == .cancelled ? .cancelled : .expired }
  }

  private let phase = Atomic<Phase>(.unsubmitted)

  // Written by the submitter before it goes to `accepted`, read by the withdrawer after it saw that (TICKET).
  private var ticket: WorkerHandle.Ticket = 0

  /// Where it stands in the line for room; nil where it does not. Only under that line's lock.
  var place: TicketQueue<WithdrawableRequest>.Ticket?

  /// The reason for which it was withdrawn, if it was (REASON).
  var reason: Reason? {
    switch phase.load(ordering: .acquiring) {
    case .unsubmitted, .accepted: nil
    case .cancelled: .cancelled
    case .expired: .expired
    }
  }

  /// Has a handler called once when it is withdrawn while it runs: now, if it is already.
  func onWithdrawal(_ handler: @escaping @Sendable () -> Void) {
    preconditionFailure("only what runs can be asked")
  }

  /// Offers it to the ring. Under the line's lock, or before anybody stands in the line.
  func trySubmit(to handle: WorkerHandle) -> WorkerHandle.Acceptance {
    handle.trySubmit(self)
  }

  /// The submitter's word that the core has accepted it. A withdrawal that came meanwhile is carried out.
  func wasAccepted(as ticket: WorkerHandle.Ticket, by handle: WorkerHandle) {
    self.ticket = ticket
    let (exchanged, _) = phase.compareExchange(  // TICKET
      expected: .unsubmitted, desired: .accepted, ordering: .acquiringAndReleasing)
    if !exchanged { withdraw(ticket, from: handle) }
  }

  /// Withdraws what the ring has accepted, if it can be.
  func withdraw(_ ticket: WorkerHandle.Ticket, from handle: WorkerHandle) {
    handle.cancel(ticket)
  }

  /// Withdraws it if it has not started. Answers it at once, on this thread, unless it is just being
  /// submitted; then the submitter does. Without effect if it runs or was answered or withdrawn before.
  ///
  /// The caller owns a reference to the worker.
  func withdraw(_ reason: Reason, from line: RoomLine) {
    var seen = Phase.unsubmitted
    while true {
      let (exchanged, found) = phase.compareExchange(  // TICKET, REASON
        expected: seen, desired: reason.phase, ordering: .acquiringAndReleasing)
      if exchanged { break }
      guard found == .unsubmitted || found == .accepted else { return }
      seen = found
    }
    if seen == .accepted {
      withdraw(ticket, from: line.handle)
    } else if line.leave(self) {
      answer(.withdrawn)
    }
  }
}

/// A closure whose caller waits for its result.
final class RunRequest<Success, Failure: Error>: WithdrawableRequest, @unchecked Sendable {
  typealias Body = () throws(Failure) -> sending Success

  // Both are written before the submit and taken by the one answer (BODY). What is not run keeps its body
  // until the box goes, which is not under the task's own lock, as the answer to a cancellation may be.
  private var body: Body?
  private var waiter: Waiter<Success>?

  private let answered = Atomic<Bool>(false)

  /// What the body has asked to be called when it is to stop. Each is taken out once, under the lock, and called
  /// outside of it, by whoever cancels or, where that has happened before, by the body itself.
  private let handlers = Lock<[@Sendable () -> Void]>([])

  /// When it must have started, on the core's clock.
  private let deadline: WorkerHandle.Nanoseconds

  init(deadline: WorkerHandle.Nanoseconds, _ body: sending @escaping Body) {
    self.body = consume body
    self.deadline = deadline
  }

  /// The submitter's first step, before anybody else may answer.
  func resume(_ waiter: Waiter<Success>) {
    self.waiter = waiter
  }

  override func answer(_ outcome: Outcome) {
    let result: Result<Transfer<Success>, any Error> =
      switch outcome {
      case .run where deadline <= WorkerHandle.now: .failure(WorkerError(.deadlineExceeded))
      case .run: perform()
      case .refused(let error): .failure(error)
      case .withdrawn where reason == .expired: .failure(WorkerError(.deadlineExceeded))
      case .withdrawn: .failure(CancellationError())
      }
    guard let waiter else { preconditionFailure("answered before it was submitted, or twice") }
    self.waiter = nil
    answered.store(true, ordering: .releasing)  // ANSWER
    waiter.resume(with: result)
  }

  /// The task's first step after it was resumed.
  func seeAnswer() {
    _ = answered.load(ordering: .acquiring)  // ANSWER
  }

  /// Runs the body. What it captured goes here, on the worker, before the caller hears of the result.
  private func perform() -> Result<Transfer<Success>, any Error> {
    guard let body else { preconditionFailure("run twice") }
    self.body = nil
    defer { takeHandlers() }  // what they captured goes with the body
    return WorkerHandle.run(as: self) {
      do {
        return .success(Transfer(try body()))
      } catch {
        return .failure(error)
      }
    }
  }

  /// Has a handler called once when the body is to stop: now, if it is already.
  override func onWithdrawal(_ handler: @escaping @Sendable () -> Void) {
    handlers.withLock { $0.append(handler) }
    // The withdrawer sets the reason before it looks for handlers: at least one of the two sees the other.
    if reason != nil { interrupt() }
  }

  override func interrupt() {
    for handler in takeHandlers() { handler() }
  }

  @discardableResult
  private func takeHandlers() -> [@Sendable () -> Void] {
    handlers.withLock { handlers in
      let taken = handlers
      handlers = []
      return taken
    }
  }
}

/// The end of the time that a request has, as an alarm sees it.
///
/// @unchecked: constant. The line is that of the worker whose caller has set the alarm, and keeps it.
final class Expiry: AlarmTarget, @unchecked Sendable {
  private let request: WithdrawableRequest
  private let line: RoomLine

  init(of request: WithdrawableRequest, in line: RoomLine) {
    self.request = request
    self.line = line
  }

  override func alarm() {
    request.withdraw(.expired, from: line)
  }
}

/// An element that its caller sends into a typed ring, and waits only for room.
final class SendRequest<Element>: WithdrawableRequest, @unchecked Sendable {
  private let slots: Slots<Element>

  // Written before the submit. The element is taken by the one submission that is accepted, or goes with the
  // box; the waiter by the one answer (BODY).
  private var element: Element?
  private var waiter: Waiter<Void>?

  init(_ element: Element, to slots: Slots<Element>) {
    self.element = element
    self.slots = slots
  }

  /// The submitter's first step, before anybody else may answer.
  func resume(_ waiter: Waiter<Void>) {
    self.waiter = waiter
  }

  override func trySubmit(to handle: WorkerHandle) -> WorkerHandle.Acceptance {
    guard let element else { preconditionFailure("submitted twice") }
    let acceptance = handle.trySubmit(element, into: slots)
    if case .accepted = acceptance { self.element = nil }
    return acceptance
  }

  /// Acceptance is all that its caller waits for.
  override func wasAccepted(as ticket: WorkerHandle.Ticket, by handle: WorkerHandle) {
    super.wasAccepted(as: ticket, by: handle)
    answer(.run)
  }

  /// It is no longer the caller's: it will be served.
  override func withdraw(_ ticket: WorkerHandle.Ticket, from handle: WorkerHandle) {}

  override func answer(_ outcome: Outcome) {
    guard let waiter else { preconditionFailure("answered before it was submitted, or twice") }
    self.waiter = nil
    switch outcome {
    case .run: waiter.resume(with: .success(Transfer(())))
    case .refused(let error): waiter.resume(with: .failure(error))
    case .withdrawn where reason == .expired:
      waiter.resume(with: .failure(WorkerError(.deadlineExceeded)))
    case .withdrawn: waiter.resume(with: .failure(CancellationError()))
    }
  }
}
