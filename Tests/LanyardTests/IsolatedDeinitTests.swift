// Isolated deinits that let go of workers.

import Dispatch
import Foundation
import LanyardTestSupport
import Testing

@testable import Lanyard

extension WholePool {
  struct IsolatedDeinitTests {
    // Its job has no task.
    @Test func `an isolated deinit that has to wait for its actor runs on a shared thread`() async {
      let hub = Hub()
      let gate = Gate()
      let seen = Notes<[Bool]>()
      let busy = Task { await hub.hold(at: gate) }
      await gate.arrived()
      await onThreadOfItsOwn {
        _ = HubMember(of: hub) {
          seen.add([SharedThread.isCurrent, unsafe withUnsafeCurrentTask { unsafe $0 == nil }])
        }
        gate.open()  // here: there may be no thread for a task
      }
      await busy.value
      await until { !seen.all.isEmpty }
      #expect(seen.all == [[true, true]])
    }

    // Every thread of the pool runs an isolated deinit that lets go of a worker. The workers' requests wait for a task.
    @Test func `tasks progress while isolated deinits let go of busy workers on the whole pool`()
      async throws
    {
      let name = "let go of by an isolated deinit"
      let isDone = DispatchSemaphore(value: 0)
      let end = Lock<String?>(nil)
      let count = ProcessInfo.processInfo.activeProcessorCount
      let finish: @Sendable (String) -> Void = { how in
        let isFirst = end.withLock { end in
          defer { end = end ?? how }
          return end == nil
        }
        if isFirst { for _ in 0..<count { isDone.signal() } }
      }

      // Each priority has a queue of its own: all of this is to need the one that the deinits come from.
      let priorities = Notes<TaskPriority>()
      await onThreadOfItsOwn { priorities.add(Task.currentPriority) }
      let priority = priorities.all[0]
      let hubs = (0..<count).map { _ in Hub() }
      let gate = DispatchSemaphore(value: 0)
      let held = Counter()
      let deinits = Counter()
      let busy = hubs.map { hub in
        Task(priority: priority) {
          await hub.hold {
            held.increment()
            gate.wait()
          }
        }
      }
      // A thread of its own: there may be none for a task.
      await onThreadOfItsOwn {
        let limit = ContinuousClock.now + patience(seconds: 20)
        while held.value < count, ContinuousClock.now < limit { usleep(1000) }
        for hub in hubs {
          do {
            let worker = try Worker(name)
            try worker.submit { isDone.wait() }
            _ = HubMember(of: hub, owning: worker) { deinits.increment() }
          } catch {
            Issue.record(error)
          }
        }
        for _ in 0..<count { gate.signal() }
        while deinits.value < count, ContinuousClock.now < limit { usleep(1000) }
        // Not before they have returned: the system adds threads in time, and one of those would run the task.
        if deinits.value == count {
          Task.detached(priority: priority) { finish("by a task") }
        }
        while end.withLock({ $0 == nil }), ContinuousClock.now < limit { usleep(1000) }
        finish("given up")
      }
      #expect(end.withLock { $0 } == "by a task")
      for task in busy { await task.value }
      #expect(await liveAfterQuiesce(named: name).isEmpty)
    }
  }
}

/// Lends its executor.
private actor Hub {
  func hold(at gate: Gate) { gate.pass() }
  func hold(_ body: @Sendable () -> Void) { body() }
}

/// Ends on its hub's executor: lets go of its worker there, and then says so.
private actor HubMember {
  private let hub: Hub
  private var worker: Worker?
  private let atEnd: @Sendable () -> Void
  nonisolated var unownedExecutor: UnownedSerialExecutor { hub.unownedExecutor }

  init(of hub: Hub, owning worker: Worker? = nil, _ atEnd: @escaping @Sendable () -> Void) {
    self.hub = hub
    self.worker = worker
    self.atEnd = atEnd
  }

  isolated deinit {
    worker = nil
    atEnd()
  }
}
