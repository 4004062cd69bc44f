// A request is handed over on its caller's own thread, before the caller suspends. Each test here fills the threads
// that all tasks share and looks whether a worker that is idle starts all the same.

import Dispatch
import Foundation
import LanyardTestSupport
import Synchronization
import Testing

@testable import Lanyard

/// Tests that block every thread that tasks share. One at a time: two would wait for each other.
@Suite(.serialized, .timeLimit(.native(minutes: 2)), .joinsAtExit)
enum WholePool {}

extension WholePool {
  struct HandOverTests {
    /// Lives on a worker's thread, which is none of the pool.
    actor Resident {
      private let executor: WorkerExecutor
      nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

      init(on worker: Worker) { executor = worker.executor }

      func run(on worker: Worker, while pool: FullPool, deadline: ContinuousClock.Instant? = nil)
        async throws
      {
        pool.awaitFull()
        try await worker.run(deadline: deadline) { pool.empty() }
      }

      func run(on confined: Confined<Int>, while pool: FullPool) async throws {
        pool.awaitFull()
        try await confined.run { _ in pool.empty() }
      }

      func makeConfined(while pool: FullPool) async throws -> Confined<Int> {
        pool.awaitFull()
        return try await Confined("made") {
          pool.empty()
          return 1
        }
      }

      func send(_ number: Int, to loop: RequestLoop<Int>, while pool: FullPool) async throws {
        pool.awaitFull()
        try await loop.send(number)
      }
    }

    @Test func `a body starts while the pool is full, called by an actor on another worker`()
      async throws
    {
      let resident = Resident(on: try Worker("caller"))
      let worker = try Worker("idle")
      let pool = FullPool()
      try await resident.run(on: worker, while: pool)
      #expect(pool.wasFullWhenEmptied)
    }

    @Test @MainActor func `a body starts while the pool is full, called on the main actor`()
      async throws
    {
      let worker = try Worker("idle")
      let pool = FullPool()
      pool.awaitFull()
      try await worker.run { pool.empty() }
      #expect(pool.wasFullWhenEmptied)
    }

    // If it were not handed over at once it would find its deadline passed when the pool is given up.
    @Test func `a body starts before its deadline while the pool is full`() async throws {
      let resident = Resident(on: try Worker("caller"))
      let worker = try Worker("idle")
      let pool = FullPool()
      try await resident.run(on: worker, while: pool, deadline: .now + FullPool.limit / 2)
      #expect(pool.wasFullWhenEmptied)
    }

    @Test func `a confined value is made and used while the pool is full`() async throws {
      let resident = Resident(on: try Worker("caller"))
      let first = FullPool()
      let confined = try await resident.makeConfined(while: first)
      #expect(first.wasFullWhenEmptied)
      let second = FullPool()
      try await resident.run(on: confined, while: second)
      #expect(second.wasFullWhenEmptied)
    }

    @Test func `a request that finds no room stands in line while the pool is full`() async throws {
      let gate = Gate()
      let poolToEmpty = Lock<FullPool?>(nil)
      var configuration = Worker.Configuration()
      configuration.capacity = 2
      configuration.batchLimit = 1
      let loop = try RequestLoop<Int>("full", configuration: configuration) { batch in
        while let number = batch.next() {
          switch number {
          case 0: gate.pass()
          case 100: poolToEmpty.withLock { $0 }?.empty()
          default: break
          }
        }
      }
      try loop.trySend(0)
      await gate.arrived()
      while (try? loop.trySend(1)) != nil {}
      let resident = Resident(on: try Worker("caller"))
      let pool = FullPool()
      poolToEmpty.withLock { $0 = pool }
      Thread.detachNewThread {
        while loop.worker.line.isEmpty, pool.isFull { usleep(1000) }
        gate.open()
      }
      try await resident.send(100, to: loop, while: pool)
      await loop.close()
      #expect(pool.wasFullWhenEmptied)
    }
  }
}

/// Fills the pool of the caller's priority with tasks that block their threads until it is emptied, or given up.
final class FullPool: Sendable {
  static let limit = patience(seconds: 20)

  private enum State {
    case full, emptied, givenUp
  }

  private let state = Lock(State.full)
  private let arrived = DispatchSemaphore(value: 0)
  private let isOver = DispatchSemaphore(value: 0)

  // As many as the pool has threads. More could not run at once.
  private let count = ProcessInfo.processInfo.activeProcessorCount

  init() {
    for _ in 0..<count {
      Task.detached(priority: Task.currentPriority) { [self] in
        arrived.signal()
        isOver.wait()
      }
    }
    // The one who gives up is on a thread of its own, for no task could.
    Thread.detachNewThread { [self] in
      _ = isOver.wait(timeout: .now() + Self.limit.seconds)
      end(.givenUp)
    }
  }

  /// On a thread of the caller's own: blocks until no thread of the pool is left.
  func awaitFull() {
    // A pool of fewer threads is full before all have arrived: then the limit is waited for in vain.
    for _ in 0..<count where arrived.wait(timeout: .now() + Self.limit.seconds / 4) == .timedOut {
      return
    }
  }

  func empty() { end(.emptied) }

  var isFull: Bool { state.withLock { $0 == .full } }

  /// Whether it was emptied before it was given up.
  var wasFullWhenEmptied: Bool { state.withLock { $0 == .emptied } }

  private func end(_ outcome: State) {
    let isFirst = state.withLock { state in
      guard state == .full else { return false }
      state = outcome
      return true
    }
    guard isFirst else { return }
    for _ in 0...count { isOver.signal() }
  }
}

extension Duration {
  fileprivate var seconds: Double { self / .seconds(1) }
}
