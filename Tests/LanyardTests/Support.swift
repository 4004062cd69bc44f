// What the tests of this target share: a gate that holds a worker, and a look at the process's threads.

import Dispatch
import Foundation
import Lanyard
import Synchronization
import Testing

/// Holds a worker's thread in a request until the test opens it, so that a test can arrange what waits.
///
///     worker                      test
///     pass() says it is there ->  arrived() returns
///     waits                       ... arranges ...
///     goes on                 <-  open()
final class Gate: Sendable {
  private enum Arrival {
    case awaited
    case expected(CheckedContinuation<Void, Never>)
    case over
  }

  private let arrival = Lock(Arrival.awaited)
  private let opened = DispatchSemaphore(value: 0)

  /// On the worker's thread: waits until the gate is open.
  func pass() {
    let waiter: CheckedContinuation<Void, Never>? = arrival.withLock { arrival in
      defer { arrival = .over }
      if case .expected(let continuation) = arrival { return continuation }
      return nil
    }
    waiter?.resume()
    opened.wait()
  }

  /// Returns when the worker stands at the gate.
  func arrived() async {
    await withCheckedContinuation { continuation in
      let isOver = arrival.withLock { arrival in
        if case .over = arrival { return true }
        arrival = .expected(continuation)
        return false
      }
      if isOver { continuation.resume() }
    }
  }

  func open() {
    opened.signal()
  }

  /// Holds a worker that has nothing else to do.
  static func holding(_ worker: Worker) async throws -> Gate {
    let gate = Gate()
    try worker.submit { gate.pass() }
    await gate.arrived()
    return gate
  }
}

/// Joins the threads of the library when the process of the tests ends: what asynchronous closes leave to
/// be joined later would be a leaked thread there.
struct JoinsAtExit: SuiteTrait {
  // A global's initializer runs once, whoever comes first.
  private static let registered: Void = {
    atexit { _ = Worker.quiesce(within: .seconds(10)) }
  }()

  func prepare(for test: Test) async throws {
    Self.registered
  }
}

extension Trait where Self == JoinsAtExit {
  static var joinsAtExit: Self { Self() }
}

/// Something to count, from any thread.
final class Counter: Sendable {
  private let count = Atomic<Int>(0)

  var value: Int { count.load(ordering: .sequentiallyConsistent) }

  func increment() {
    count.add(1, ordering: .sequentiallyConsistent)
  }
}

/// Notes values in the order in which they come, from any thread.
final class Notes<Value: Sendable>: Sendable {
  private let values = Lock<[Value]>([])

  var all: [Value] { values.withLock { $0 } }

  func add(_ value: Value) {
    values.withLock { $0.append(value) }
  }
}

/// Something whose end can be seen.
final class Canary: Sendable {}

/// The calling thread as the system names it: `PROCESS/task/THREAD`.
func currentThread() -> String {
  (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self")) ?? "unknown"
}

/// Whether a thread still exists.
func threadExists(_ thread: String) -> Bool {
  FileManager.default.fileExists(atPath: "/proc/\(thread)")
}

/// Waits for something that another thread or task brings about. The suite's time limit ends it.
func until(_ condition: () -> Bool) async {
  while !condition() { await Task.yield() }
}

/// Waits until no worker of that name lives, and returns those that still do after a generous time.
///
/// In small steps: quiesce also waits for the asynchronous closes of other tests, which may need the
/// thread that it blocks.
func liveAfterQuiesce(named name: String) async -> [WorkerInfo] {
  let end = ContinuousClock.now + .seconds(30)
  while true {
    _ = Worker.quiesce(within: .milliseconds(1))
    let live = Worker.live.filter { $0.name == name }
    if live.isEmpty || ContinuousClock.now > end { return live }
    await Task.yield()
  }
}
