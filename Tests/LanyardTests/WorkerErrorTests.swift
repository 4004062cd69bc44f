// The error's codes and sentences.

import LanyardTestSupport
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 1)))
struct WorkerErrorTests {
  static let codes: [WorkerError.Code] = [
    .closed, .full, .deadlineExceeded, .wouldDeadlock, .forked, .noThread, .noMemory, .invalid,
  ]

  @Test func `codes are different and have different sentences`() {
    #expect(Set(Self.codes).count == Self.codes.count)
    #expect(Set(Self.codes.map { "\(WorkerError($0))" }).count == Self.codes.count)
    #expect("\(WorkerError.Code.deadlineExceeded)" == "deadlineExceeded")
  }

  @Test func `a sentence says what to do`() {
    #expect("\(WorkerError(.full))".contains("await run(_:)"))
    #expect("\(WorkerError(.invalid, detail: "capacity is 1"))" == "capacity is 1")
  }
}
