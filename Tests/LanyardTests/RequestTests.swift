// The races of a withdrawal, each step in its order: no luck is needed for these.

import Foundation
import LanyardTestSupport
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 1)), .joinsAtExit)
struct RequestTests {
  /// Waits for a request's answer, whatever happens to it in the body.
  private func answer(
    to request: RunRequest<Void, Never>, _ body: (RunRequest<Void, Never>) -> Void
  ) async throws {
    _ = try await Waiter<Void>.wait { waiter in
      request.resume(waiter)
      body(request)
    }
  }

  //     submitter                        withdrawer
  //     the core accepts the request
  //                                      unsubmitted -> cancelled; it stands in no line
  //     cannot say accepted: cancels
  @Test func `a withdrawal between the core's acceptance and the submitter's word is carried out`()
    async throws
  {
    let worker = try Worker()
    let gate = try await Gate.holding(worker)
    await #expect(throws: CancellationError.self) {
      try await answer(
        to: RunRequest(deadline: WorkerHandle.forever) { _ = Issue.record("it ran") }
      ) {
        guard case .accepted(let ticket) = worker.handle.trySubmit($0) else {
          Issue.record("there is room")
          return
        }
        $0.withdraw(.cancelled, from: worker.line)
        $0.wasAccepted(as: ticket, by: worker.handle)
      }
    }
    gate.open()
  }

  //     submitter                        withdrawer
  //                                      unsubmitted -> cancelled; it stands in no line
  //     sees it before it submits
  @Test func `a withdrawal before the submit keeps the request from being submitted`() async throws
  {
    let worker = try Worker()
    await #expect(throws: CancellationError.self) {
      try await answer(
        to: RunRequest(deadline: WorkerHandle.forever) { _ = Issue.record("it ran") }
      ) {
        $0.withdraw(.cancelled, from: worker.line)
        worker.line.submit($0)
      }
    }
    #expect(worker.statistics.submitted == 0)
  }

  //     submitter                        withdrawer
  //     sees no withdrawal
  //                                      unsubmitted -> cancelled; it stands in no line
  //     the ring is full
  //     sees it before it stands in line
  @Test func `a withdrawal on the way to the line keeps the request out of it`() async throws {
    /// Is withdrawn right after it was first asked whether it is.
    final class Late: WithdrawableRequest, @unchecked Sendable {
      let line: RoomLine
      let answered = Counter()

      init(_ line: RoomLine) {
        self.line = line
      }

      override var reason: Reason? {
        let reason = super.reason
        if reason == nil { withdraw(.cancelled, from: line) }
        return reason
      }

      override func answer(_ outcome: Outcome) {
        guard case .withdrawn = outcome else { return }
        answered.increment()
      }
    }
    var configuration = Worker.Configuration()
    configuration.capacity = 2
    let worker = try Worker(configuration: configuration)
    let gate = try await Gate.holding(worker)
    for _ in 0..<2 { try worker.submit {} }
    let request = Late(worker.line)
    worker.line.submit(request)
    #expect(request.answered.value == 1)
    #expect(worker.line.isEmpty)
    gate.open()
    await worker.close()
    #expect(request.answered.value == 1)
  }

  @Test func `the second withdrawal has no effect, and the first one's reason is told`()
    async throws
  {
    let worker = try Worker()
    let gate = try await Gate.holding(worker)
    await #expect(throws: WorkerError(.deadlineExceeded)) {
      try await answer(
        to: RunRequest(deadline: WorkerHandle.forever) { _ = Issue.record("it ran") }
      ) {
        worker.line.submit($0)
        $0.withdraw(.expired, from: worker.line)
        $0.withdraw(.cancelled, from: worker.line)
      }
    }
    gate.open()
  }

  @Test func `a withdrawal after the answer has no effect`() async throws {
    let worker = try Worker()
    let request = RunRequest<Void, Never>(deadline: WorkerHandle.forever) {}
    try await answer(to: request) { worker.line.submit($0) }
    request.withdraw(.cancelled, from: worker.line)
    #expect(worker.statistics.cancelled == 0)
  }

  // A list of what was cancelled would grow by an entry for each: the way in which NIOThreadPool does it.
  @Test func `a million cancellations that come too late leave nothing behind`() async {
    await #expect(processExitsWith: .success) {
      let worker = try Worker()
      func cancelLate(_ times: Int) throws {
        for _ in 0..<times / 500 {
          let requests = (0..<500).map { _ in IgnoredRequest() }
          for request in requests { worker.line.submit(request) }
          try blockingCall(worker) {}
          for request in requests { request.withdraw(.cancelled, from: worker.line) }
        }
      }
      try cancelLate(scaled(100_000))
      let before = residentPages()
      try cancelLate(scaled(1_000_000))
      // 16 bytes each would be 3,900 pages. (A sanitizer keeps what was freed.)
      let grown = residentPages() - before
      precondition(grown < 1000 || !isUnder(.native), "\(grown) pages more")
    }
  }
}

private final class IgnoredRequest: WithdrawableRequest, @unchecked Sendable {
  override func answer(_ outcome: Outcome) {}
}

private func residentPages() -> Int {
  let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(
    separator: " ")
  return fields.flatMap { Int($0[1]) } ?? 0
}
