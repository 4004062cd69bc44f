// No thread of the library outlives the tests.

import Foundation
import Lanyard
package import Testing

/// Joins the threads of the library when the process of the tests ends: what asynchronous closes leave to
/// be joined later would be a leaked thread there.
package struct JoinsAtExit: SuiteTrait {
  // A global's initializer runs once, whoever comes first.
  private static let registered: Void = {
    atexit { _ = Worker.quiesce(within: .seconds(10)) }
  }()

  package func prepare(for test: Test) async throws {
    Self.registered
  }
}

extension Trait where Self == JoinsAtExit {
  package static var joinsAtExit: Self { Self() }
}
