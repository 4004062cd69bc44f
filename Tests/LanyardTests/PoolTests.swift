// The threads that all tasks share are few, and Lanyard must never hold one: not in a close, not when a worker
// is let go of, not while a ring is full. Each test here fills them all, and goes on.

import Dispatch
import Foundation
import LanyardTestSupport
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit)
struct PoolTests {
  /// Workers that are all held, each by a request that waits until the gates are opened.
  private func heldWorkers(_ count: Int, named name: String) async throws -> ([Worker], [Gate]) {
    var workers: [Worker] = []
    var gates: [Gate] = []
    for _ in 0..<count {
      let worker = try Worker(name)
      gates.append(try await Gate.holding(worker))
      workers.append(worker)
    }
    return (workers, gates)
  }

  // If letting go waited for the running request, the threads of the pool would all stand in the first few
  // deinits, and the task that opens the gates would never run.
  @Test
  func `a task progresses while a hundred busy workers are let go of on all threads of the pool`()
    async throws
  {
    let name = "let go of while busy"
    let letGo = Counter()
    func letGoOfAll() async throws -> ([Task<Void, Never>], [Gate]) {
      let (workers, gates) = try await heldWorkers(100, named: name)
      let tasks = workers.map { worker in
        let box = Box(worker)
        return Task {
          box.empty()
          letGo.increment()
        }
      }
      return (tasks, gates)
    }
    let (tasks, gates) = try await letGoOfAll()
    await Task {
      await until { letGo.value == 100 }
      for gate in gates { gate.open() }
    }.value
    for task in tasks { await task.value }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
  }

  @Test func `a task progresses while a hundred closes of busy workers are awaited`() async throws {
    let (workers, gates) = try await heldWorkers(100, named: "closed while busy")
    let closing = Counter()
    await withTaskGroup(of: Void.self) { group in
      for worker in workers {
        group.addTask {
          closing.increment()
          await worker.close()
        }
      }
      group.addTask {
        await until { closing.value == 100 && workers.allSatisfy { $0.isClosed } }
        for gate in gates { gate.open() }
      }
    }
    #expect(workers.allSatisfy { $0.statistics.completed == 1 })
  }

  // The drain takes longer than the time after which a worker on which nothing ends is given up. A busy machine may
  // hold up one request for that long, so it is tried again; that it never waits would show in each try.
  @Test(.enabled(if: isUnder(.native), "a request may take longer than the time that nothing ends"))
  func `in a task too, letting go waits for a drain that goes on`() async throws {
    var isWaitedFor = false
    for _ in 0..<20 where !isWaitedFor {
      let ran = Counter()
      var worker: Worker? = try Worker("drains")
      for _ in 0..<120 {
        try worker?.submit {
          usleep(1000)
          ran.increment()
        }
      }
      SharedThread.note = ThreadNote(word: 0)  // the try before, or another test, may have used it up
      worker = nil
      isWaitedFor = ran.value == 120
    }
    #expect(isWaitedFor)
    #expect(await liveAfterQuiesce(named: "drains").isEmpty)
  }

  @Test func `outside of tasks letting go waits for the thread, on however many threads at once`()
    async throws
  {
    let name = "let go of outside"
    let ran = Counter()
    for _ in 0..<20 {
      let box = Box(try Worker(name))
      for _ in 0..<50 {
        try box.value?.submit {
          usleep(200)
          ran.increment()
        }
      }
      let before = ran.value
      await onThreadOfItsOwn { box.empty() }
      #expect(ran.value >= before, "it never runs backwards")
      #expect(ran.value % 50 == 0, "what was accepted has run when the thread that let go goes on")
    }
    #expect(!Worker.live.contains { $0.name == name })
  }
}

/// Holds the last reference to a worker until somebody empties it.
private final class Box: Sendable {
  private let held: Lock<Worker?>

  init(_ worker: Worker) {
    held = Lock(worker)
  }

  var value: Worker? { held.withLock { $0 } }

  func empty() {
    // Taken out under the lock, let go of after it.
    _ = held.withLock { held in
      defer { held = nil }
      return held
    }
  }
}
