// What a worker tells about itself: its figures, and its entry in the list of all that live.

extension Worker {
  /// What a worker has done so far.
  ///
  /// Each figure is exact once the worker is closed. While it runs they are read one after the other and
  /// need not add up.
  public struct Statistics: Sendable, Hashable {
    /// Accepted requests.
    public let submitted: UInt64
    /// Requests that ran.
    public let completed: UInt64
    /// Requests that were withdrawn before they started, by a cancellation or by the deadline of
    /// ``Worker/run(deadline:_:)``.
    public let cancelled: UInt64
    /// Requests that were discarded by a close.
    public let discarded: UInt64
    /// Requests that the ring dropped at their deadline: those of callers from C.
    public let timedOut: UInt64
    /// Submits that found no room, those of ``Worker/run(deadline:_:)`` that then waited for it included.
    public let refusedFull: UInt64
    /// Batches served.
    public let batches: UInt64
    /// Jobs of executors that were handed over. They are no requests, and counted nowhere else.
    public let jobs: UInt64
    /// How often the idle worker went to sleep.
    public let parks: UInt64
    /// How often someone woke it.
    public let wakes: UInt64
    /// The slots of the ring, after rounding up.
    public let capacity: Int
    /// Accepted requests that wait in the ring, withdrawn ones included.
    public let depth: Int
    /// The most that the worker has found waiting.
    public let depthHigh: Int
  }
}

/// A live worker, as ``Worker/live`` shows it.
public struct WorkerInfo: Sendable, Hashable, Identifiable {
  /// Counts from 1 in each process.
  public let id: UInt64
  /// The name it was opened with, in full.
  public let name: String
  /// The file it was opened in, as `Module/File.swift`; `nil` if unknown.
  public let fileID: String?
  /// The line it was opened at.
  public let line: Int
  /// How long ago it was opened.
  public let age: Duration
  /// Accepted requests that wait.
  public let depth: Int
  /// Whether closing has begun; someone still owns it, or its thread still runs.
  public let isClosed: Bool
}
