// How much a test does, how long it may take, and under what: from the same variables as the tests of the
// C core (check.h).
//
//   LANYARD_TEST_SCALE   per cent of the native count that a repeated test does (default 100)
//   LANYARD_TEST_TOOL    native, tsan, asan, memcheck, helgrind, drd, coverage (default native)

import Foundation
package import Testing

/// How often a repeated test repeats: the scale's share of `native`, once at least.
package func scaled(_ native: Int) -> Int {
  max(1, native * percent / 100)
}

/// The same for what only a long run does often enough: from the scale of `make soak` on, `soak`, and the share
/// of `native` up to a scale of a hundred.
package func soaked(_ native: Int, _ soak: Int) -> Int {
  percent <= 100 ? scaled(native) : native + (soak - native) * min(percent, 1000) / 1000
}

/// What watches the tests run.
package enum Tool: String {
  case native, tsan, asan, memcheck, helgrind, drd, coverage

  /// How many times as long the tests may take.
  fileprivate var slowness: Int {
    switch self {
    case .native, .coverage: 1
    case .tsan, .asan: 5
    case .memcheck, .helgrind, .drd: 20
    }
  }
}

/// Whether the tests run under that tool.
package func isUnder(_ tool: Tool) -> Bool {
  tool == current
}

/// How long to wait for what should not take so long: a native time, and more under a tool.
package func patience(seconds: Int) -> Duration {
  .seconds(seconds * current.slowness)
}

extension TimeLimitTrait.Duration {
  /// So many minutes for a native run at full scale; more under a tool, and for a scale of more.
  package static func native(minutes: Int) -> Self {
    .minutes(minutes * current.slowness * max(1, percent / 100))
  }
}

private let percent = variable("LANYARD_TEST_SCALE").flatMap(Int.init) ?? 100
private let current = variable("LANYARD_TEST_TOOL").flatMap(Tool.init) ?? .native

private func variable(_ name: String) -> String? {
  ProcessInfo.processInfo.environment[name]
}
