// What a caller has sent to an engine's thread, and the caller's wait for the answer.
//
//   waiting -> started               its thread runs it, again if the engine undid its transaction, and answers
//      \-----> withdrawn             its caller's cancellation or deadline answers it; its thread skips it
//
// A member that is stopped after it started sees so itself: `stopReason` is asked while its statement runs
// and while it waits for a lock, and is this member's own, so that no stop can reach the one after it.
//
// Who answers: whoever moved it out of `waiting` and, once it was started, its thread. Under no lock.
//
//   ANSWER  `answer` and `waiter` are handed over by the exchange of `reply`: whoever comes second
//           sees what the first wrote, and resumes.

import Synchronization

/// Why a member is to stop.
enum StopReason: UInt8 {
  case cancelled = 1
  case expired = 2

  var error: any Error {
    switch self {
    case .cancelled: CancellationError()
    case .expired: DatabaseError.deadlineExceeded
    }
  }
}

/// One request, whatever it returns.
///
/// @unchecked: see above who may touch what.
class Member: @unchecked Sendable {
  private enum Phase {
    static let waiting: UInt8 = 0
    static let started: UInt8 = 1
    static let withdrawn: UInt8 = 2
  }

  private let phase = Atomic<UInt8>(Phase.waiting)
  private let stop = Atomic<UInt8>(0)

  /// How often the engine has undone the transaction it ran in. Its thread's own.
  final var losses = 0

  /// Before each run. False: it was withdrawn, and answered.
  final func start() -> Bool {
    let (exchanged, found) = phase.compareExchange(
      expected: Phase.waiting, desired: Phase.started, ordering: .acquiringAndReleasing)
    return exchanged || found == Phase.started
  }

  /// Whether it was answered before it started, and is to be skipped.
  final var isWithdrawn: Bool { phase.load(ordering: .acquiring) == Phase.withdrawn }

  /// Why it is to stop; nil if it is not.
  final var stopReason: StopReason? { StopReason(rawValue: stop.load(ordering: .acquiring)) }

  /// Answers a member that has not started, and stops one that has. From any thread.
  final func withdraw(_ reason: StopReason) {
    _ = stop.compareExchange(
      expected: 0, desired: reason.rawValue, ordering: .acquiringAndReleasing)
    let (exchanged, _) = phase.compareExchange(
      expected: Phase.waiting, desired: Phase.withdrawn, ordering: .acquiringAndReleasing)
    if exchanged { fail(reason.error) }
  }

  /// Answers with an error.
  func fail(_ error: any Error) {
    preconditionFailure("a subclass overrides this")
  }
}

private enum Place {
  static let empty: UInt8 = 0
  static let awaited: UInt8 = 1
  static let answered: UInt8 = 2
}

/// A request that returns a `Value`.
class Reply<Value: Sendable>: Member, @unchecked Sendable {
  private let reply = Atomic<UInt8>(Place.empty)
  private var waiter: Waiter<Value>?
  private var answer: Result<Value, any Error>?

  /// Called once.
  final func answer(_ result: Result<Value, any Error>) {
    answer = result
    let found = reply.exchange(Place.answered, ordering: .acquiringAndReleasing)  // ANSWER
    precondition(found != Place.answered, "a request was answered twice")
    guard found == Place.awaited, let waiter else { return }
    self.waiter = nil
    waiter.resume(with: result)
  }

  final override func fail(_ error: any Error) { answer(.failure(error)) }

  /// Waits for the answer. Called once, after the request was accepted.
  final nonisolated(nonsending) func value() async throws -> Value {
    try await withTaskCancellationHandler {
      try await Waiter.wait { waiter in
        self.waiter = waiter
        let (exchanged, _) = reply.compareExchange(  // ANSWER
          expected: Place.empty, desired: Place.awaited, ordering: .acquiringAndReleasing)
        guard !exchanged, let answer else { return }
        waiter.resume(with: answer)
      }
    } onCancel: {
      withdraw(.cancelled)
    }
  }
}

/// The task that waits for an answer; its continuation is checked in debug builds. The runtime's unchecked
/// ones hide from ThreadSanitizer what orders a resumption.
///
/// @safe: it is resumed once, by `answer` or where it is made.
@safe
private struct Waiter<Value: Sendable>: Sendable {
  #if DEBUG
    private let continuation: CheckedContinuation<Value, any Error>
  #else
    private let continuation: UnsafeContinuation<Value, any Error>
  #endif

  static nonisolated(nonsending) func wait(_ body: (Waiter) -> Void) async throws -> Value {
    #if DEBUG
      try await withCheckedThrowingContinuation { body(Waiter(continuation: $0)) }
    #else
      try await unsafe withUnsafeThrowingContinuation { body(unsafe Waiter(continuation: $0)) }
    #endif
  }

  func resume(with result: Result<Value, any Error>) {
    #if DEBUG
      continuation.resume(with: result)
    #else
      unsafe continuation.resume(with: result)
    #endif
  }
}
