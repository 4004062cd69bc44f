// A gate that holds a worker: the means by which the tests arrange what happens in which order.

import Dispatch
package import Lanyard

/// Holds a worker's thread in a request until the test opens it, so that a test can arrange what waits.
///
///     worker                      test
///     pass() says it is there ->  arrived() returns
///     waits                       ... arranges ...
///     goes on                 <-  open()
package final class Gate: Sendable {
  private enum Arrival {
    case awaited
    case expected(CheckedContinuation<Void, Never>)
    case over
  }

  private let arrival = Lock(Arrival.awaited)
  private let opened = DispatchSemaphore(value: 0)

  package init() {}

  /// On the worker's thread: waits until the gate is open.
  package func pass() {
    let waiter: CheckedContinuation<Void, Never>? = arrival.withLock { arrival in
      defer { arrival = .over }
      if case .expected(let continuation) = arrival { return continuation }
      return nil
    }
    waiter?.resume()
    opened.wait()
  }

  /// Returns when the worker stands at the gate.
  package func arrived() async {
    await withCheckedContinuation { continuation in
      let isOver = arrival.withLock { arrival in
        if case .over = arrival { return true }
        arrival = .expected(continuation)
        return false
      }
      if isOver { continuation.resume() }
    }
  }

  package func open() {
    opened.signal()
  }

  /// Holds a worker that has nothing else to do.
  package static func holding(_ worker: Worker) async throws -> Gate {
    let gate = Gate()
    try worker.submit { gate.pass() }
    await gate.arrived()
    return gate
  }
}
