// A scenario of the file layer that fails (faults.h), for Swift.

import CFaults
import CSQLite
import Foundation
import Synchronization
import Testing

@testable import LanyardDatabase

/// @unchecked: its functions may be called on any thread.
final class Faults: @unchecked Sendable {
  private static let made = Atomic<Int>(0)

  /// Of the file layer: for `Database.Configuration.vfs`.
  let name: String

  private let scenario: OpaquePointer

  init() throws {
    name = "faults-\(Self.made.add(1, ordering: .relaxed).newValue)"
    scenario = try #require(faults_create(name))
  }

  deinit {
    faults_destroy(scenario)
  }

  func count(_ kind: faults_kind) -> Int { Int(faults_count(scenario, kind)) }
  var failed: Int { Int(faults_failed(scenario)) }

  func fail(_ kind: faults_kind, at first: Int = 1, forEver: Bool = false, code: Int32) {
    faults_fail(scenario, kind, UInt32(first), forEver ? UInt32.max : 1, code)
  }

  func tear(_ tears: Bool = true) { faults_tear(scenario, tears) }
  func forget(_ forgets: Bool = true) { faults_forget(scenario, forgets) }
  func heal() { faults_heal(scenario) }

  func cut() { faults_cut(scenario) }
  func cut(at kind: faults_kind, _ n: Int) { faults_cut_at(scenario, kind, UInt32(n)) }
  var isCut: Bool { faults_is_cut(scenario) }

  /// Writes what a disk could hold into a folder, which it makes.
  func disk(seed: UInt64, into folder: URL) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try #require(faults_disk(scenario, seed, folder.path) == 0)
  }

  /// The same, of a process that was killed.
  func kept(into folder: URL) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try #require(faults_kept(scenario, folder.path) == 0)
  }
}
