// The bug that this library exists for, kept as a test beside the cure.
//
// A class owns a thread, the thread refers to the class, and the class's deinit would end the thread:
//
//   owner --x--> NaiveWorker ---owns---> thread ---captures---> NaiveWorker
//
// so an owner's letting go ends nothing. A weak reference looks like the cure and is half of one: it is
// made strong while a request runs, and whoever lets go meanwhile leaves the last reference to the thread,
// whose deinit then joins the thread that it runs on.
//
// The naive threads are ended by the tests through a back door, so that the process keeps none.

import Foundation
import LanyardTestSupport
import Testing

@testable import Lanyard

@Suite(.timeLimit(.native(minutes: 2)), .joinsAtExit, .serialized)
struct LeakTests {
  private static let count = 100

  // MARK: Let go of while idle

  @Test func `of a hundred naive workers let go of, every object and every thread stays`() async {
    let name = "naive"
    let endings = Endings()
    let workers = await used {
      NaiveWorker(name, capturing: .strongly, endings)
    }
    #expect(await threadsLeft(named: name, within: .seconds(1)) == Self.count)
    #expect(workers.count { $0.object != nil } == Self.count)
    #expect(endings.count == 0)

    for worker in workers { worker.object?.openBackDoor() }
    #expect(await endings.join(Self.count) == Self.count)
    #expect(await threadsLeft(named: name, within: patience(seconds: 30)) == 0)
  }

  @Test func `of a hundred workers let go of, no object and no thread stays`() async throws {
    let name = "let go idle"
    let workers = try await used { try Worker(name) }
    #expect(workers.count { $0.object != nil } == 0)
    #expect(await threadsLeft(named: name, within: patience(seconds: 30)) == 0)
    #expect(!Worker.live.contains { $0.name == name })
  }

  // MARK: Let go of while a request runs
  //
  //     test                                  thread
  //                                           serves a request, and owns the object meanwhile
  //     lets go: not the last reference
  //     opens the gate                    ->  ends the request: the last reference goes here

  @Test func `corrected by half, every one of a hundred naive workers would join itself`() async {
    let name = "half naive"
    let endings = Endings()
    let gates = (0..<Self.count).map { _ in Gate() }
    let workers = await leftBusy(gates) { gate in
      let worker = NaiveWorker(name, capturing: .weakly, endings)
      worker.submit { gate.pass() }
      return worker
    }
    #expect(workers.count { $0.object != nil } == Self.count, "their threads own them")

    for gate in gates { gate.open() }
    #expect(await endings.join(Self.count) == Self.count)
    #expect(endings.onOwnThread == Self.count)
    #expect(await threadsLeft(named: name, within: patience(seconds: 30)) == 0)
  }

  @Test func `a hundred workers let go of on their own threads all end`() async throws {
    let name = "let go busy"
    let onOwnThread = Counter()
    let gates = (0..<Self.count).map { _ in Gate() }
    let workers = try await leftBusy(gates) { gate in
      let worker = try Worker(name)
      try worker.submit { [worker] in
        gate.pass()
        if worker.isCurrent { onOwnThread.increment() }
      }
      return worker
    }
    #expect(workers.count { $0.object != nil } == Self.count, "their requests own them")

    for gate in gates { gate.open() }
    #expect(await liveAfterQuiesce(named: name).isEmpty)
    #expect(onOwnThread.value == Self.count)
    #expect(workers.count { $0.object != nil } == 0)
    #expect(await threadsLeft(named: name, within: patience(seconds: 30)) == 0)
  }

  // MARK: What both halves share

  /// Makes a hundred, has each serve a request, lets go of them all and tells what became of each.
  private func used<Subject: Serving, Failure: Error>(
    _ make: () throws(Failure) -> Subject
  ) async throws(Failure) -> [Weak<Subject>] {
    var subjects: [Subject] = []
    for _ in 0..<Self.count { subjects.append(try make()) }
    for subject in subjects { await subject.serveOne() }
    return subjects.map { Weak($0) }
  }

  /// Makes one for each gate, lets go of them all when each stands at its gate, and tells what became of
  /// each.
  private func leftBusy<Subject: AnyObject, Failure: Error>(
    _ gates: [Gate], _ make: (Gate) throws(Failure) -> Subject
  ) async throws(Failure) -> [Weak<Subject>] {
    var subjects: [Subject] = []
    for gate in gates { subjects.append(try make(gate)) }
    for gate in gates { await gate.arrived() }
    return subjects.map { Weak($0) }
  }
}

// MARK: - What the tests look at

private struct Weak<Object: AnyObject> {
  weak var object: Object?

  init(_ object: Object) {
    self.object = object
  }
}

private protocol Serving: AnyObject {
  /// Returns when it has served a request.
  func serveOne() async
}

extension Worker: Serving {
  fileprivate func serveOne() async {
    await #expect(throws: Never.self) { try await run {} }
  }
}

/// How many threads of this process bear a name, once none does or they have had time to end.
private func threadsLeft(named name: String, within limit: Duration) async -> Int {
  await wait(for: 0, within: limit) { threads(named: name) }
}

/// What a count comes to: the one that is awaited, or another if that takes too long.
private func wait(for wanted: Int, within limit: Duration, _ count: () -> Int) async -> Int {
  let end = ContinuousClock.now + limit
  while true {
    let found = count()
    if found == wanted || ContinuousClock.now > end { return found }
    try? await Task.sleep(for: .milliseconds(10))
  }
}

private func threads(named name: String) -> Int {
  let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []
  return tasks.count { threadName("/proc/self/task/\($0)/comm") == name }
}

/// A thread's name from the system's file; nil if the thread has ended since it was listed.
///
/// By C's own means: Foundation loses its buffer when the thread ends between its open and its read.
private func threadName(_ path: String) -> String? {
  guard let file = fopen(path, "r") else { return nil }
  defer { fclose(file) }
  var line = [UInt8](repeating: 0, count: 32)
  let count = fread(&line, 1, line.count, file)
  return count == 0 ? nil : String(decoding: line[..<(count - 1)], as: UTF8.self)
}

/// How the naive workers ended, and the threads that none of them could join.
private final class Endings: Sendable {
  private enum Ending {
    case elsewhere
    case onOwnThread(PosixThread)
  }

  private let endings = Lock<[Ending]>([])

  var count: Int { endings.withLock { $0.count } }

  var onOwnThread: Int {
    endings.withLock { $0.count { if case .onOwnThread = $0 { true } else { false } } }
  }

  /// In the deinit of a naive worker: joins its thread, unless that is the thread that this runs on.
  func joinOrRecord(_ thread: PosixThread) {
    // The class from which this is taken does not ask: it joins itself, and hangs or is told EDEADLK.
    let isCurrent = thread.isCurrent
    if !isCurrent { thread.join() }
    endings.withLock { $0.append(isCurrent ? .onOwnThread(thread) : .elsewhere) }
  }

  /// Waits until so many have ended and joins what is left to join. Returns how many have ended.
  func join(_ wanted: Int) async -> Int {
    let count = await wait(for: wanted, within: patience(seconds: 30)) { self.count }
    for case .onOwnThread(let thread) in endings.withLock({ $0 }) { thread.join() }
    return count
  }
}

// MARK: - The naive class

/// A worker as one writes it first.
///
/// @unchecked: `thread` is written in init, before anybody else has the object, and read in deinit.
private final class NaiveWorker: Serving, @unchecked Sendable {
  enum Capture { case strongly, weakly }

  private let requests = RequestQueue()
  private let endings: Endings
  private var thread: PosixThread?

  init(_ name: String, capturing capture: Capture, _ endings: Endings) {
    self.endings = endings
    switch capture {
    case .strongly:
      thread = PosixThread(named: name) {
        while let request = self.requests.next() { self.serve(request) }  // the bug
      }
    case .weakly:
      thread = PosixThread(named: name) { [weak self, requests] in
        while let request = requests.next() { self?.serve(request) }  // half of its correction
      }
    }
  }

  deinit {
    requests.stop()
    if let thread { endings.joinOrRecord(thread) }
  }

  func submit(_ request: @escaping RequestQueue.Request) {
    requests.append(request)
  }

  func serveOne() async {
    await withCheckedContinuation { continuation in
      submit { continuation.resume() }
    }
  }

  /// What a user of the class has not got: ends the thread although the object is in use, by the thread.
  func openBackDoor() {
    requests.stop()
  }

  private func serve(_ request: RequestQueue.Request) {
    request()
  }
}

/// @unchecked: every access to the variables is under the condition's lock.
private final class RequestQueue: @unchecked Sendable {
  typealias Request = @Sendable () -> Void

  private let changed = NSCondition()
  private var requests: [Request] = []
  private var isStopped = false

  func append(_ request: @escaping Request) {
    changed.withLock {
      requests.append(request)
      changed.signal()
    }
  }

  /// Waits for a request; nil when it was stopped.
  func next() -> Request? {
    changed.withLock {
      while requests.isEmpty && !isStopped { changed.wait() }
      return requests.isEmpty ? nil : requests.removeFirst()
    }
  }

  func stop() {
    changed.withLock {
      isStopped = true
      changed.signal()
    }
  }
}

/// A thread that can be joined, which Foundation's cannot.
private struct PosixThread: Sendable {
  private final class Start: Sendable {
    let name: String
    let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }
  }

  private let thread: pthread_t

  init(named name: String, _ body: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    let start = Unmanaged.passRetained(Start(name: name, body: body))
    let status = pthread_create(
      &thread, nil,
      { argument in
        let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
        Thread.current.name = start.name
        start.body()
        return nil
      }, start.toOpaque())
    precondition(status == 0, "no thread to be had: \(status)")
    self.thread = thread
  }

  var isCurrent: Bool { pthread_equal(thread, pthread_self()) != 0 }

  func join() {
    let status = pthread_join(thread, nil)
    precondition(status == 0, "not to be joined: \(status)")
  }
}
