// What the core calls besides requests: on the worker's thread before the first and after the last of them,
// with a batch of them, and from other threads to interrupt the one that runs.
//
// The core holds one reference from open until its memory goes. What the hooks captured goes earlier, at
// the end of the thread and on it: an object that only a hook refers to is not kept by a worker that has
// ended. (A lazy worker that never started a thread has no such end; there it goes with the object.)

/// @unchecked: `start`, `serve` and `stop` are called on the worker's thread, one at a time; `interrupt` from
/// any thread, but only while a request runs, and the core keeps it apart from what comes before and after.
class WorkerHooks: @unchecked Sendable {
  private var onStart: (@Sendable () -> Void)?
  private var onStop: (@Sendable () -> Void)?
  private var onInterrupt: (@Sendable () -> Void)?

  /// Whether the core shall hand over batches, to `serve`.
  var servesBatches: Bool { false }

  /// Whether a running request can be interrupted.
  final let interrupts: Bool

  init(_ configuration: Worker.Configuration) {
    onStart = configuration.onStart
    onStop = configuration.onStop
    onInterrupt = configuration.interrupt
    interrupts = configuration.interrupt != nil
  }

  final func start() {
    onStart?()
    onStart = nil
  }

  func serve(_ count: Int) {
    preconditionFailure("a subclass that serves batches overrides this")
  }

  func interrupt() {
    onInterrupt?()
  }

  func stop() {
    onStop?()
    onStop = nil
    onInterrupt = nil
  }
}
