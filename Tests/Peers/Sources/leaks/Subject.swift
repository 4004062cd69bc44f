// The subjects: each is made, has one request served, and is let go of without a goodbye.
//
// Everything here blocks and nothing is a task: the pool that runs tasks has threads of its own, which
// would be counted with those of Dispatch.

import Foundation
import Lanyard
import NIOCore
import NIOPosix

/// Something that has requests served by a thread.
protocol Subject: AnyObject {
  /// Has one request served, and returns the thread that did.
  func serveOne() throws -> SystemThread
}

enum Subjects {
  typealias Entry = (name: String, make: @Sendable () throws -> any Subject)

  static let naive: Entry = ("Thread whose closure captures its owner", { NaiveWorker() })
  static let lanyard: Entry = ("Lanyard.Worker", { try Worker("lanyard") })

  static let all: [Entry] = [
    naive,
    ("NIOThreadPool(numberOfThreads: 1)", { NIOThreadPool.started() }),
    (
      "MultiThreadedEventLoopGroup(numberOfThreads: 1)",
      { MultiThreadedEventLoopGroup(numberOfThreads: 1) }
    ),
    ("DispatchQueue (owns no thread)", { DispatchQueue(label: "serial") }),
    ("OperationQueue (owns no thread)", { OperationQueue() }),
    lanyard,
  ]
}

/// Has the closure submit a request that reports its thread, and waits for the report.
private func threadServing(_ submit: (_ report: @escaping @Sendable () -> Void) -> Void)
  -> SystemThread
{
  // Written before the signal, read after the wait.
  nonisolated(unsafe) var thread: SystemThread?
  let reported = DispatchSemaphore(value: 0)
  submit {
    thread = .current
    reported.signal()
  }
  reported.wait()
  return thread!
}

// MARK: - Lanyard

extension Worker: Subject {
  func serveOne() throws -> SystemThread {
    try call { .current }
  }
}

// MARK: - swift-nio

extension NIOThreadPool: Subject {
  static func started() -> NIOThreadPool {
    let pool = NIOThreadPool(numberOfThreads: 1)
    pool.start()
    return pool
  }

  func serveOne() -> SystemThread {
    threadServing { report in submit { _ in report() } }
  }
}

extension MultiThreadedEventLoopGroup: Subject {
  func serveOne() throws -> SystemThread {
    try next().submit { .current }.wait()
  }
}

// MARK: - Dispatch and Foundation's queues

extension DispatchQueue: Subject {
  func serveOne() -> SystemThread {
    threadServing { report in async { report() } }
  }
}

extension OperationQueue: Subject {
  func serveOne() -> SystemThread {
    threadServing { report in addOperation(report) }
  }
}

// MARK: - Written by hand

/// Starts a thread whose closure refers back: the deinit that would end it never runs.
final class NaiveWorker: Subject, Sendable {
  private let requests = RequestQueue()

  init() {
    Thread.detachNewThread {
      // Foundation forgets a name that is given before its `start` has returned.
      try? "naive worker".write(
        toFile: "/proc/thread-self/comm", atomically: false, encoding: .utf8)
      while let request = self.requests.next() { request() }
    }
  }

  deinit {
    requests.stop()
  }

  func serveOne() -> SystemThread {
    threadServing { report in requests.append(report) }
  }
}

/// @unchecked: every access to the variables is under the condition's lock.
private final class RequestQueue: @unchecked Sendable {
  typealias Request = @Sendable () -> Void

  private let changed = NSCondition()
  private var requests: [Request] = []
  private var isStopped = false

  func append(_ request: @escaping Request) {
    changed.withLock {
      requests.append(request)
      changed.signal()
    }
  }

  /// Waits for a request; nil when it was stopped.
  func next() -> Request? {
    changed.withLock {
      while requests.isEmpty && !isStopped { changed.wait() }
      return requests.isEmpty ? nil : requests.removeFirst()
    }
  }

  func stop() {
    changed.withLock {
      isStopped = true
      changed.signal()
    }
  }
}
