// Calling a closure again and again on the worker, for an owner that this does not keep alive.
//
// This is the rule of the weak back-reference: what runs on a worker and needs the object that owns the
// worker must not own it, or neither would ever go.
//
//   owner ---owns---> Worker ---owns---> core ---holds---> Repetition - - weakly - -> owner
//
// The owner is held strongly for the time of one call. If that turns out to be the last reference, the owner
// goes on the worker's thread, and the worker with it: the case that `Worker`'s deinit is made for.

extension Worker {
  /// Calls a closure on the worker's thread at regular times, until its owner is gone or the worker closes.
  ///
  /// ```swift
  /// try worker.every(.seconds(30), weakly: cache) { cache in cache.dropExpired() }
  /// ```
  ///
  /// - Parameters:
  ///   - interval: From now to the first call, and from each time to the next. The times do not drift; what
  ///     a busy worker misses is left out and not made up for. What is too long to express never comes.
  ///   - owner: What the calls are for. Not kept alive; they end when it is gone.
  ///   - body: Gets the owner, which lives at least until it returns. It runs between requests, is none
  ///     itself and is not counted in ``statistics``.
  /// - Throws: ``WorkerError`` with code `invalid` if the interval is not positive; `closed`, `noThread`
  ///   (where the configuration is `lazy`), `noMemory` or `forked`.
  ///
  /// **Threads.** Call from anywhere. `body` runs on the worker's thread, outside any lock.
  /// **Blocking.** Never. A worker that waits for the next time sleeps.
  /// **Lifetime.** Keeps neither the owner nor the worker. What `body` captured goes on the worker's thread,
  /// at the first time after the owner has gone or when the worker closes.
  /// **After close.** Throws `closed`; what was begun before has ended.
  public func every<Owner: AnyObject & Sendable>(
    _ interval: Duration, weakly owner: Owner, _ body: sending @escaping (Owner) -> Void
  ) throws(WorkerError) {
    let step = WorkerHandle.nanoseconds(interval)
    guard step > 0 else {
      throw WorkerError(
        .invalid, detail: "the interval is \(interval): give one that is longer than zero")
    }
    let start = WorkerHandle.nanoseconds(fromNow: interval)
    try handle.schedule(
      OwnedRepetition(of: owner, every: step, from: start, body), at: start)
  }
}

/// Something that the core calls again and again.
///
/// @unchecked: called by the worker's thread alone, after everything that was written before `schedule`.
class Repetition: @unchecked Sendable {
  /// When it wants to be called again; nil: never.
  func tick() -> WorkerHandle.Nanoseconds? {
    preconditionFailure("a subclass overrides this")
  }
}

private final class OwnedRepetition<Owner: AnyObject & Sendable>: Repetition, @unchecked Sendable {
  private weak let owner: Owner?
  private let step: WorkerHandle.Nanoseconds
  private var time: WorkerHandle.Nanoseconds
  private let body: (Owner) -> Void

  init(
    of owner: Owner, every step: WorkerHandle.Nanoseconds, from time: WorkerHandle.Nanoseconds,
    _ body: sending @escaping (Owner) -> Void
  ) {
    self.owner = owner
    self.step = step
    self.time = time
    self.body = body
  }

  override func tick() -> WorkerHandle.Nanoseconds? {
    guard let owner else { return nil }
    body(owner)
    // The first of the regular times that is still to come.
    let late = WorkerHandle.now - time
    let (next, overflow) = time.addingReportingOverflow((late / step + 1) * step)
    time = overflow ? WorkerHandle.forever : next
    return time
  }
}
