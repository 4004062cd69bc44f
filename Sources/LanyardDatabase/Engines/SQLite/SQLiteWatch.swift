// Stops the statement that runs, when its own caller asks for it: by cancellation or at its deadline.
//
// SQLite asks on the connection's thread, every `instructions` of its virtual machine and whenever it waits
// for a lock, and the answer is what the member that runs there says of itself. `sqlite3_interrupt`, which
// names a connection and not a statement, could hit the next one; this cannot.
//
// An interrupted write loses the whole transaction. So a member of a group is interrupted only when it has
// run for so long that its neighbours are better served by running again; a shorter one runs to its end and
// is undone by itself.

import CSQLite
import Lanyard

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The connection owns it and outlives SQLite's pointers to it; its thread's own.
final class SQLiteWatch {
  /// Of SQLite's virtual machine, between two looks: some tens of microseconds.
  private static let instructions: Int32 = 2000

  private let busyTimeout: Duration

  private var member: Member?
  private var crowd: ArraySlice<any SQLiteMember>?
  private var patience = Duration.zero
  private var started = ContinuousClock.now
  private var waitsSince: ContinuousClock.Instant?

  init(busyTimeout: Duration) {
    self.busyTimeout = busyTimeout
  }

  /// Runs statements of a member.
  ///
  /// - Parameter patience: How long it runs before it is interrupted.
  func watching<Result, Failure: Error>(
    _ member: Member, patience: Duration, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    self.member = member
    self.patience = patience
    // Only an interrupt after some patience needs the time.
    if patience > .zero { started = .now }
    defer { self.member = nil }
    return try body()
  }

  /// Waits for a lock on behalf of members: as long as there is one that is not to stop.
  func waiting(
    for members: ArraySlice<any SQLiteMember>, _ body: () throws(DatabaseError) -> Void
  ) throws(DatabaseError) {
    crowd = members
    defer { crowd = nil }
    try body()
  }

  private var isToStop: Bool {
    if let crowd { return crowd.allSatisfy { $0.stopReason != nil } }
    guard let member, member.stopReason != nil else { return false }
    return patience == .zero || started.duration(to: .now) >= patience
  }

  /// Whether to go on waiting for somebody else's lock, after a pause.
  private func waits(_ attempt: Int32) -> Bool {
    let now = ContinuousClock.now
    if attempt == 0 { waitsSince = now }
    let waited = (waitsSince ?? now).duration(to: now)
    guard waited < busyTimeout, !isToStop else { return false }
    let pauses: [UInt32] = [1, 2, 5, 10, 15, 20]  // milliseconds
    usleep(pauses[min(Int(attempt), pauses.count - 1)] * 1000)
    return true
  }

  /// Makes SQLite ask. It must live as long as the connection.
  func install(on connection: OpaquePointer) {
    // Not retained: the connection's object owns this one and closes before it lets go of it.
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    unsafe sqlite3_progress_handler(
      connection, Self.instructions,
      { context in
        guard let context = unsafe context else { return 0 }
        return unsafe Unmanaged<SQLiteWatch>.fromOpaque(context).takeUnretainedValue().isToStop
          ? 1 : 0
      }, context)
    unsafe sqlite3_busy_handler(
      connection,
      { context, attempt in
        guard let context = unsafe context else { return 0 }
        let watch = unsafe Unmanaged<SQLiteWatch>.fromOpaque(context).takeUnretainedValue()
        return watch.waits(attempt) ? 1 : 0
      }, context)
  }
}
