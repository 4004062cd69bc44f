// The standard library's mutex, made visible to ThreadSanitizer.
//
// The slow path of `Mutex` lies in the runtime's library, which no build instruments, so the sanitizer does
// not see the order that a contended lock makes and reports a race for everything under it. One atomic
// that is read after the lock was taken and written before it is given back shows it that order:
//
//   SEEN  release store of `edge` at the end of one critical section  ->  acquire load at the start of the next
//
// It adds nothing to what the mutex guarantees, and costs two plain moves.

import Synchronization

/// A value that is reached only under a lock. Nothing that calls out runs under it.
package struct Lock<Value>: ~Copyable, Sendable {
  private let mutex: Mutex<Value>
  private let edge = Atomic<Bool>(false)

  package init(_ value: consuming sending Value) {
    mutex = Mutex(value)
  }

  package borrowing func withLock<Result, Failure: Error>(
    _ body: (inout sending Value) throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    try mutex.withLock { (value: inout sending Value) throws(Failure) -> sending Result in
      _ = edge.load(ordering: .acquiring)  // SEEN
      defer { edge.store(false, ordering: .releasing) }  // SEEN
      return try body(&value)
    }
  }
}
