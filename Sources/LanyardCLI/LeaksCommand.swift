// `lanyard leaks`: the leak that this library exists for, made and counted, and its cure beside it.
//
//   owner --x--> NaiveHandle ---owns---> thread ---captures---> NaiveHandle
//
// The naive handle is what one writes first: a class with a thread and a queue of requests, whose deinit
// would end the thread. The thread's closure refers to the class, so letting go of it ends nothing.

import ArgumentParser
import Foundation
import Lanyard

struct LeaksCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "leaks",
    abstract: "Show the leak of a thread that refers to its owner, and the cure, counted.",
    discussion: """
      Makes handles with a background thread, uses each once, and lets go of all of them; then counts the \
      objects that were deinitialised and the threads that are left, as the system lists them.
      """
  )

  @Option(help: "How many handles of each kind.")
  var count = 100

  func validate() throws {
    guard (1...10_000).contains(count) else {
      throw ValidationError("--count is \(count): give 1 to 10000")
    }
  }

  func run() async throws {
    print("\(pad("\(count) of each, used and let go of", 38))deinitialised  threads left")
    let naive = try await census(of: "naive") { ended in
      let handle = NaiveHandle(named: "naive", ended)
      handle.send {}
    }
    let cured = try await census(of: "cured") { ended in
      let handle = try CuredHandle(named: "cured", ended)
      try await handle.worker.run {}
    }
    report("a class whose thread captures it", naive)
    report("a class with a Lanyard worker", cured)
    guard cured.deinitialised == count, cured.threads == 0 else {
      throw ImportError("something was left behind: please report it")
    }
  }

  private struct Census {
    let deinitialised: Int
    let threads: Int
  }

  private func census(
    of name: String, _ use: (EndCounter) async throws -> Void
  ) async throws -> Census {
    let ended = EndCounter()
    for _ in 0..<count { try await use(ended) }
    // What ends by itself gets a second for it; a thread is listed for a moment after it was joined.
    let end = ContinuousClock.now + .seconds(1)
    while .now < end, ended.count < count || ProcessThread.named(name) > 0 {
      try await Task.sleep(for: .milliseconds(5))
    }
    return Census(deinitialised: ended.count, threads: ProcessThread.named(name))
  }

  private func report(_ subject: String, _ census: Census) {
    print(
      pad(subject, 38) + pad("\(census.deinitialised) of \(count)", 15)
        + "\(census.threads) of \(count)")
  }

  private func pad(_ text: String, _ width: Int) -> String {
    text.padding(toLength: max(width, text.count), withPad: " ", startingAt: 0)
  }
}

/// Counts deinitialisations.
private final class EndCounter: Sendable {
  private let ends = Lock(0)
  var count: Int { ends.withLock { $0 } }
  func add() { ends.withLock { $0 += 1 } }
}

/// What one writes first. Its threads stay until the process ends.
private final class NaiveHandle: @unchecked Sendable {
  private let condition = NSCondition()
  private var requests: [@Sendable () -> Void] = []
  private var isClosed = false
  private let ended: EndCounter

  init(named name: String, _ ended: EndCounter) {
    self.ended = ended
    Thread {
      ProcessThread.nameCurrent(name)
      self.serve()  // here it refers to its owner
    }.start()
  }

  deinit {
    condition.lock()
    isClosed = true
    condition.signal()
    condition.unlock()
    ended.add()
  }

  func send(_ request: @escaping @Sendable () -> Void) {
    condition.lock()
    requests.append(request)
    condition.signal()
    condition.unlock()
  }

  private func serve() {
    while true {
      condition.lock()
      while requests.isEmpty, !isClosed { condition.wait() }
      let pending = requests
      requests = []
      let isOver = isClosed
      condition.unlock()
      for request in pending { request() }
      if isOver { return }
    }
  }
}

/// The same with a worker.
private final class CuredHandle: Sendable {
  let worker: Worker
  private let ended: EndCounter

  init(named name: String, _ ended: EndCounter) throws {
    worker = try Worker(name)
    self.ended = ended
  }

  deinit { ended.add() }
}
