// The line of requests that wait for room in the ring, served in the order in which they came.
//
// A caller that finds the ring full, or finds others in line before it, stands at the end and suspends. One
// of them, the pump, submits from the front until the ring is full, then asks the core to be called when
// there is room. The core's own list of such calls is not used as the line: what was registered there can
// not be withdrawn, and a call may find the ring full again and would have to go to the end.
//
//   idle -> working        by the first to join; by the core's call when somebody stands in line
//   working -> idle        nobody is left
//   working -> registering the ring is full; the pump is about to register itself with the core
//   registering -> called  the core's call came before the pump was back; the pump goes on
//   registering -> registered   the pump is done; the core's call will be the next pump
//   registered -> working, idle by the core's call
//
// `registering` keeps the core's call, which may come on the pump's own stack, from becoming a recursion.
//
// Who owns what: the worker owns the line; the core owns a reference while a call is registered. The handle
// is borrowed. It is used by callers of `submit` and `leave`, who own a reference to the worker, and by the
// core's call, which takes one of its own under the lock while somebody stands in line: whoever stands in
// line is a call of `run` that cannot end without the lock, and that call owns the worker.
//
// The lock is held over `trySubmit`, so that a newcomer cannot overtake the one that is being submitted.
// Nothing is answered under it. Lock order: this lock, then the core's.

import Synchronization

final class RoomLine: Sendable {
  private enum Pump {
    case idle, working, registering, called, registered
  }

  private struct State {
    var queue = TicketQueue<WithdrawableRequest>()
    var pump = Pump.idle
  }

  private enum Step {
    case empty
    case full
    case accepted(WithdrawableRequest, WorkerHandle.Ticket)
    case answer(WithdrawableRequest, Outcome)
  }

  let handle: WorkerHandle
  private let state = Lock(State())

  /// The length of the queue, for those who only want to know whether there is one. Written under the lock.
  private let waiting = Atomic<Int>(0)

  init(of handle: WorkerHandle) {
    self.handle = handle
  }

  /// Whether a newcomer need not stand in line. Relaxed: nothing is read through it.
  var isEmpty: Bool { length == 0 }

  /// How many stand in line; out of date as soon as it is read.
  var length: Int { waiting.load(ordering: .relaxed) }

  /// Submits a request now or as soon as there is room. It is answered, here or later.
  func submit(_ request: WithdrawableRequest) {
    guard request.reason == nil else { return request.answer(.withdrawn) }
    guard isEmpty else { return join(request) }
    switch request.trySubmit(to: handle) {
    case .accepted(let ticket): request.wasAccepted(as: ticket, by: handle)
    case .refused(let error): request.answer(.refused(error))
    case .full: join(request)
    }
  }

  /// Takes a request out of the line. False if it does not stand in it: it is not the caller's to answer.
  func leave(_ request: WithdrawableRequest) -> Bool {
    state.withLock { state in
      guard let place = request.place else { return false }
      remove(request, at: place, from: &state)
      return true
    }
  }

  /// The core's call: there is room, or the worker closes; the next submit tells which.
  func roomWasMade() {
    let owned: WorkerHandle? = state.withLock { state in
      switch state.pump {
      case .registering:
        state.pump = .called
        return nil
      case .registered where !state.queue.isEmpty:
        state.pump = .working
        return handle.retained()
      case .registered:
        state.pump = .idle
        return nil
      case .idle, .working, .called:
        preconditionFailure("the core called twice for one registration")
      }
    }
    guard let owned else { return }
    pump()
    owned.release()  // may be the last one; here, on the worker, it does not wait
  }

  private func join(_ request: WithdrawableRequest) {
    enum Joined { case withdrawn, waits, pumps }
    let joined: Joined = state.withLock { state in
      // A withdrawal before this found it in no line and left it to us.
      guard request.reason == nil else { return .withdrawn }
      request.place = state.queue.append(request)
      waiting.add(1, ordering: .relaxed)
      guard state.pump == .idle else { return .waits }
      state.pump = .working
      return .pumps
    }
    switch joined {
    case .withdrawn: request.answer(.withdrawn)
    case .waits: break
    case .pumps: pump()
    }
  }

  /// Submits from the front until the line is empty or the ring is full.
  private func pump() {
    while true {
      switch state.withLock(step) {
      case .empty: return
      case .accepted(let request, let ticket): request.wasAccepted(as: ticket, by: handle)
      case .answer(let request, let outcome): request.answer(outcome)
      case .full: if !register() { return }
      }
    }
  }

  private func step(_ state: inout sending State) -> sending Step {
    guard let (place, request) = state.queue.first() else {
      state.pump = .idle
      return .empty
    }
    if request.reason != nil {
      remove(request, at: place, from: &state)
      return .answer(request, .withdrawn)
    }
    switch request.trySubmit(to: handle) {
    case .full:
      state.pump = .registering
      return .full
    case .accepted(let ticket):
      remove(request, at: place, from: &state)
      return .accepted(request, ticket)
    case .refused(let error):
      remove(request, at: place, from: &state)
      return .answer(request, .refused(error))
    }
  }

  /// Asks the core to call when there is room. True if the pump has to go on.
  private func register() -> Bool {
    if let error = handle.callWhenRoom(self) {
      // Nobody will call. The one in front hears why, and the next one is tried in its turn.
      let request = state.withLock { state -> WithdrawableRequest? in
        state.pump = .working
        guard let (place, request) = state.queue.first() else { return nil }
        remove(request, at: place, from: &state)
        return request
      }
      request?.answer(.refused(error))
      return true
    }
    return state.withLock { state in
      let goesOn = state.pump == .called
      state.pump = goesOn ? .working : .registered
      return goesOn
    }
  }

  private func remove(
    _ request: WithdrawableRequest, at place: TicketQueue<WithdrawableRequest>.Ticket,
    from state: inout State
  ) {
    _ = state.queue.remove(place)
    request.place = nil
    waiting.subtract(1, ordering: .relaxed)
  }
}
