// Whether the calling thread is one that tasks share, and how long it may still be held.
//
// A release waits for the thread that it ends. On a thread that tasks share it may not wait for long: what it waits
// for may need that very thread. Four things are asked, because no single one knows all such threads:
//
//   a current task        nearly every case, and the one public question
//   a current executor    an isolated deinit that had to go to its actor runs as a job without a task. The runtime
//                         notes the executor for every job: compiled code asks it by this same function.
//   the current queue     a task that ends is no longer current when its result or what is left of it goes; on the
//                         pool there is no executor then either. The label tells a queue of the pool, and the
//                         queues of `DispatchQueue.global()`, which run on the same few threads.
//   a note of our own     the same on a worker's thread that has run a job of an executor.
//
// What is told by none of them is taken for a thread of its caller's: the main thread outside of tasks, a thread that
// somebody made, a block on a queue of somebody's own. There a release waits for the end.
//
// The executor and the queue are looked up at run time. For neither is there a public way that needs no more than the
// standard library: `import Dispatch` would make it a dependency, and the runtime's name cannot be declared in
// Swift. Where a program links the runtime statically they are not found, and then only the other two are asked.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

enum SharedThread {
  /// Whether tasks share the calling thread, as far as can be known.
  static var isCurrent: Bool {
    if unsafe withUnsafeCurrentTask(body: { unsafe $0 != nil }) { return true }
    return note.runsJobs || hasExecutor || isOfPool
  }

  // MARK: Asking the runtime

  private static var hasExecutor: Bool {
    guard let currentExecutor = unsafe currentExecutor else { return false }
    return unsafe currentExecutor() != nil
  }

  private static var isOfPool: Bool {
    guard let queueLabel = unsafe queueLabel, let label = unsafe queueLabel(nil) else {
      return false
    }
    let name = unsafe String(cString: label)
    // A queue of one's own brings threads of its own, and so does one that overcommits: it is what a thread without a
    // queue is taken for, too.
    return name == "Swift global concurrent queue"
      || name.hasPrefix("com.apple.root.") && !name.hasSuffix(".overcommit")
  }

  /// It returns a pair of words, in registers. The first one, all that is read here, is nil for no executor.
  private typealias CurrentExecutor = @convention(c) () -> UnsafeRawPointer?
  private typealias QueueLabel = @convention(c) (UnsafeRawPointer?) -> UnsafePointer<CChar>?

  private static let currentExecutor: CurrentExecutor? = unsafe lookUp(
    "swift_task_getCurrentExecutor"
  ).map { unsafe unsafeBitCast($0, to: CurrentExecutor.self) }

  private static let queueLabel: QueueLabel? = unsafe lookUp("dispatch_queue_get_label").map {
    unsafe unsafeBitCast($0, to: QueueLabel.self)
  }

  private static func lookUp(_ name: String) -> UnsafeMutableRawPointer? {
    #if canImport(Darwin)
      unsafe dlsym(UnsafeMutableRawPointer(bitPattern: -2), name)  // RTLD_DEFAULT
    #else
      unsafe dlsym(nil, name)
    #endif
  }

  // MARK: What is noted of a thread

  /// What is known of the calling thread from before.
  static var note: ThreadNote {
    get {
      guard let key else { return ThreadNote(word: 0) }
      return unsafe ThreadNote(word: UInt(bitPattern: pthread_getspecific(key)))
    }
    set {
      guard let key else { return }
      // If there is no memory for it, a release waits longer than it should.
      _ = unsafe pthread_setspecific(key, UnsafeRawPointer(bitPattern: newValue.word))
    }
  }

  /// No destructor: the value is a number. Nil where the process has used up its keys; then nothing is noted.
  private static let key: pthread_key_t? = {
    var key = pthread_key_t()
    return unsafe pthread_key_create(&key, nil) == 0 ? key : nil
  }()

  /// The calling thread runs a job of an executor. Cheap when that is known.
  static func runsJob() {
    if !note.runsJobs { note.runsJobs = true }
  }
}

/// One word about a thread: how long it may be held by releases, and whether it runs jobs.
///
/// The allowance is 200 ms. Waiting uses it up, and all other time gives it back, so that of one stretch no more is
/// waited however many workers are let go of. It is kept as the instant at which it will be whole again, on the
/// core's clock: time that goes by needs no note.
struct ThreadNote: Equatable {
  typealias Nanoseconds = WorkerHandle.Nanoseconds

  static let wholeAllowance: Nanoseconds = 200_000_000

  private(set) var word: UInt

  init(word: UInt) {
    self.word = word
  }

  var runsJobs: Bool {
    get { word & 1 != 0 }
    set { word = word & ~1 | (newValue ? 1 : 0) }
  }

  private var wholeAt: Nanoseconds {
    get { Nanoseconds(word >> 1) }
    set { word = UInt(newValue) << 1 | word & 1 }
  }

  /// How long it may wait from now on.
  func allowance(at now: Nanoseconds) -> Nanoseconds {
    let missing = wholeAt > now ? wholeAt - now : 0
    return missing < Self.wholeAllowance ? Self.wholeAllowance - missing : 0
  }

  /// It has waited from then to now.
  mutating func waited(from start: Nanoseconds, to now: Nanoseconds) {
    // Missing afterwards: what was missing at the start, and what was waited since.
    let missing = (wholeAt > start ? wholeAt - start : 0) + (now - start)
    wholeAt = now + min(missing, Self.wholeAllowance)
  }
}
