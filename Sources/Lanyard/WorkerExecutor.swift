// Actors and tasks that live on a worker's thread.
//
//   actor or task ---holds---> executor ---owns a reference, counted---> core <---runs--- thread
//
// An executor is an owner of the core like a `Worker`, and one for whom the thread stays: a job can be
// neither refused nor dropped, so there is a thread for it as long as there is somebody to enqueue it. The
// core keeps jobs in a list of their own, which grows, and runs them in turn with the requests of the ring.
//
//   enqueue    the runtime, on any thread: hands over the job, which may have run and be gone when it
//              returns; with it one reference to the executor, which the worker gives back after the job
//   deinit     counts the executor out. It may run on the worker, and does so routinely: a task lets go
//              of its executor in its last job. As with `Worker`, nothing but the handle is touched.
//
// They are two types on purpose: a type that is both makes the runtime enqueue jobs twice
// (swiftlang/swift-platform-executors#11).

import Synchronization

/// Runs actors on a worker's thread.
///
/// ```swift
/// actor Camera {
///   private let executor: WorkerExecutor
///   nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
///
///   init(on worker: Worker) { executor = worker.executor }
/// }
/// ```
///
/// The actor's methods then run on the worker's thread, one at a time and in turn with its requests, so an
/// actor is the natural home of state that belongs to a thread.
///
/// **Lifetime.** Hold it strongly in the actor, as above: the runtime itself does not. As long as it lives the
/// worker's thread does, also when the worker was closed to requests or let go of. It may be let go of
/// anywhere, by the actor's own last job too.
public final class WorkerExecutor: SerialExecutor {
  private let handle: WorkerHandle

  /// - Parameter handle: Of a core that has counted this executor in.
  fileprivate init(owning handle: WorkerHandle) {
    self.handle = handle
  }

  deinit {
    handle.releaseExecutor()
  }

  /// Hands over a job. Called by the runtime.
  ///
  /// **Blocking.** Never, and it never drops a job. (Where the configuration is `lazy` and the system refuses
  /// the thread, it waits until it does not.)
  /// **Fork.** Stops the process with a message in a child of fork: there is no thread to run it.
  public func enqueue(_ job: consuming ExecutorJob) {
    handle.enqueue(UnownedJob(job), on: self)
  }

  /// Whether the calling thread is the worker's own, as the runtime asks for `assumeIsolated`. True in a
  /// request of the worker as well.
  public func isIsolatingCurrentContext() -> Bool? { handle.isCurrent }

  /// Stops the process unless the calling thread is the worker's own.
  public func checkIsolated() {
    guard handle.isCurrent else {
      fatalError(
        "this runs on another thread than that of the actor's worker; await the actor, or use worker.run"
      )
    }
  }
}

/// Runs tasks on a worker's thread.
///
/// ```swift
/// await withTaskExecutorPreference(worker.taskExecutor) { await render(page) }
/// let task = Task(executorPreference: worker.taskExecutor) { await render(page) }
/// ```
///
/// What such a task does outside of actors that have executors of their own runs on the worker's thread,
/// child tasks included. `Task { }` and `Task.detached { }` inside of it do not inherit the preference.
///
/// **Lifetime.** A task holds its executor until it ends. As long as it lives the worker's thread does, also
/// when the worker was closed to requests or let go of.
public final class WorkerTaskExecutor: TaskExecutor {
  private let handle: WorkerHandle

  /// - Parameter handle: Of a core that has counted this executor in.
  fileprivate init(owning handle: WorkerHandle) {
    self.handle = handle
  }

  deinit {
    handle.releaseExecutor()
  }

  /// Hands over a job. Called by the runtime.
  ///
  /// **Blocking, fork.** As ``WorkerExecutor/enqueue(_:)``.
  public func enqueue(_ job: consuming ExecutorJob) {
    handle.enqueue(UnownedJob(job), on: self)
  }

  /// Whether the calling thread is the worker's own.
  public func isIsolatingCurrentContext() -> Bool? { handle.isCurrent }
}

extension Worker {
  /// An executor for actors that live on this worker's thread. The same one as long as anybody holds it.
  ///
  /// **Threads.** Call from anywhere.
  /// **After close.** If no executor of the worker lives, the thread has ended. The executor then brings
  /// another one, of the same name, which starts with its first job.
  public var executor: WorkerExecutor { executors.serial() }

  /// An executor for tasks that run on this worker's thread. The same one as long as anybody holds it.
  ///
  /// **Threads, after close.** As ``executor``.
  public var taskExecutor: WorkerTaskExecutor { executors.task() }
}

/// The executors of one worker: found again as long as somebody holds them, and not held.
final class Executors: Sendable {
  private struct Living {
    weak var serial: WorkerExecutor?
    weak var task: WorkerTaskExecutor?
  }

  private let handle: WorkerHandle
  private let name: String
  private let stackSize: Int?
  private let fileID: StaticString
  private let line: Int

  // Whoever finds one under the lock takes it out of there, so none ends under it.
  private let living = Lock(Living())

  init(of handle: WorkerHandle, name: String, stackSize: Int?, fileID: StaticString, line: Int) {
    self.handle = handle
    self.name = name
    self.stackSize = stackSize
    self.fileID = fileID
    self.line = line
  }

  func serial() -> WorkerExecutor {
    living.withLock { living in
      if let executor = living.serial { return executor }
      let executor = WorkerExecutor(owning: acquire())
      living.serial = executor
      return executor
    }
  }

  func task() -> WorkerTaskExecutor {
    living.withLock { living in
      if let executor = living.task { return executor }
      let executor = WorkerTaskExecutor(owning: acquire())
      living.task = executor
      return executor
    }
  }

  /// A core that has counted the executor in: the worker's own, or another if that one's thread has ended.
  private func acquire() -> WorkerHandle {
    if handle.acquireExecutor() { return handle }
    var configuration = Worker.Configuration()
    configuration.stackSize = stackSize
    configuration.lazy = true  // so that opening it can fail for lack of memory alone
    do throws(WorkerError) {
      let other = try WorkerHandle.open(
        name, configuration, hooks: WorkerHooks(configuration), fileID: fileID, line: line)
      guard other.acquireExecutor() else {
        preconditionFailure("a worker that was just opened is not closed")
      }
      other.release()  // the executor's is the one that stays
      return other
    } catch {
      // As the runtime does when there is none for an object.
      fatalError("an executor of the closed worker \"\(name)\" cannot be made: \(error)")
    }
  }
}
