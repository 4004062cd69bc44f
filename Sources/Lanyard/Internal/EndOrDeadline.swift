// Whatever comes first: the end of a worker's thread, or a deadline. The task that waits for it is resumed once.
//
//   waiting, nobody yet -> waiting, a task -> over        or over before the task comes to wait
//
// The core holds `end` until the thread's end, which may come long after the deadline; the alarm is unset before the
// task that set it goes on. Nobody is resumed under the lock.

/// @unchecked: what changes is under the lock.
final class EndOrDeadline: AlarmTarget, @unchecked Sendable {
  private enum State {
    case waiting(CheckedContinuation<Void, Never>?)
    case over
  }

  private let state = Lock(State.waiting(nil))

  /// What the core answers at the end.
  var end: Request { ClosureRequest { [self] in finish() } }

  override func alarm() { finish() }

  /// Returns when one of the two has come. For one task.
  nonisolated(nonsending) func wait() async {
    await withCheckedContinuation { continuation in
      let isOver = state.withLock { state in
        if case .over = state { return true }
        state = .waiting(continuation)
        return false
      }
      if isOver { continuation.resume() }
    }
  }

  /// One of the two has come. The second one is too late.
  private func finish() {
    let waiting: CheckedContinuation<Void, Never>? = state.withLock { state in
      defer { state = .over }
      if case .waiting(let continuation) = state { return continuation }
      return nil
    }
    waiting?.resume()
  }
}
