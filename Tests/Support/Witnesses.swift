// What sees and remembers what happened, from any thread.

import Lanyard
import Synchronization

/// Something to count.
package final class Counter: Sendable {
  private let count = Atomic<Int>(0)

  package init() {}

  package var value: Int { count.load(ordering: .sequentiallyConsistent) }

  package func increment() {
    count.add(1, ordering: .sequentiallyConsistent)
  }
}

/// Notes values in the order in which they come.
package final class Notes<Value: Sendable>: Sendable {
  private let values = Lock<[Value]>([])

  package init() {}

  package var all: [Value] { values.withLock { $0 } }

  package func add(_ value: Value) {
    values.withLock { $0.append(value) }
  }
}

/// Something whose end can be seen.
package final class Canary: Sendable {
  package init() {}
}
