// Statements that callers have sent and that have not started, in the order in which they came.
//
// The first to come while nobody serves is told so, and submits one request to the worker, which serves
// until the backlog is empty. A member is taken out just before it starts, so that one that is cancelled
// before can leave at once, and one that comes while others are served can still join them. The backlog
// needs no bound of its own: whoever has a member in it is suspended until that member is answered.
//
// Who answers a member: whoever took it out, or was not allowed to put it in. Under no lock.
//
//   outside -> queued -> taken           the worker runs it, or nobody can: it is answered there
//      |          \----> cancelled       its caller's cancellation answers it
//      \---------------> cancelled       it came before the member did, which `add` then refuses

import Lanyard

/// One statement and the caller who waits for it.
final class Member: Sendable {
  fileprivate enum Place {
    case outside
    case queued(TicketQueue<Member>.Ticket)
    case cancelled
    case taken
  }

  let sql: SQL
  let returnsRows: Bool

  /// The statement's text, put together on the caller's thread.
  let text: String

  // Written before the member is added, read by the one who answers: handed on by the backlog's lock.
  nonisolated(unsafe) private var continuation: CheckedContinuation<Answer, any Error>?

  // Only under the backlog's lock.
  nonisolated(unsafe) fileprivate var place = Place.outside

  init(_ sql: SQL, returnsRows: Bool) {
    self.sql = sql
    self.returnsRows = returnsRows
    text = sql.text
  }

  /// Its caller's first step, before anybody else may answer.
  func resume(_ continuation: CheckedContinuation<Answer, any Error>) {
    unsafe self.continuation = continuation
  }

  /// Called once.
  func answer(_ result: Result<Answer, any Error>) {
    guard let continuation = unsafe continuation else { preconditionFailure("answered twice") }
    unsafe self.continuation = nil
    continuation.resume(with: result)
  }
}

/// Safe to use from any thread.
final class Backlog: Sendable {
  private struct State {
    var members = TicketQueue<Member>()
    var isServed = false
    var isStopped = false
  }

  private let state = Lock(State())

  /// How many members wait; out of date as soon as it is read.
  var count: Int { state.withLock { $0.members.count } }

  /// Every member that waits now has a lower ticket.
  var nextTicket: TicketQueue<Member>.Ticket { state.withLock { $0.members.nextTicket } }

  enum Added {
    /// It will be answered. The caller has to see to it that somebody serves.
    case first
    /// It will be answered.
    case queued
    /// It was not added, for this reason; the caller answers it.
    case refused(any Error)
  }

  func add(_ member: Member) -> Added {
    state.withLock { state in
      if case .cancelled = unsafe member.place { return .refused(CancellationError()) }
      guard !state.isStopped else { return .refused(DatabaseError.closed) }
      unsafe member.place = .queued(state.members.append(member))
      guard !state.isServed else { return .queued }
      state.isServed = true
      return .first
    }
  }

  /// Withdraws a member that has not started, and answers it.
  func cancel(_ member: Member) {
    let isTakenOut = state.withLock { state in
      switch unsafe member.place {
      case .outside:
        unsafe member.place = .cancelled
        return false
      case .queued(let ticket):
        unsafe member.place = .cancelled
        return state.members.remove(ticket) != nil
      case .cancelled, .taken:
        return false
      }
    }
    if isTakenOut { member.answer(.failure(CancellationError())) }
  }

  /// Accepts nothing more. True for the first caller.
  func stop() -> Bool {
    state.withLock { state in
      defer { state.isStopped = true }
      return !state.isStopped
    }
  }

  /// Takes out the member that has waited longest; nil if there is none.
  ///
  /// - Parameter limit: Only a member with a lower ticket.
  func next(below limit: TicketQueue<Member>.Ticket = .max) -> Member? {
    state.withLock { state in take(from: &state, below: limit) }
  }

  /// As `next`, and where there is none the service is over: the next one to come is the first again.
  func nextOrRest() -> Member? {
    state.withLock { state in
      let member = take(from: &state, below: .max)
      if member == nil { state.isServed = false }
      return member
    }
  }

  /// Answers everybody who waits. For the case that nobody can serve.
  func fail(_ error: any Error) {
    while let member = nextOrRest() { member.answer(.failure(error)) }
  }

  private func take(
    from state: inout State, below limit: TicketQueue<Member>.Ticket
  ) -> Member? {
    guard let (ticket, member) = state.members.first(), ticket < limit else { return nil }
    _ = state.members.remove(ticket)
    unsafe member.place = .taken
    return member
  }
}
