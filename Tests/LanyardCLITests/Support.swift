// What the tests of this target share.

import Foundation
import Lanyard
import Testing

/// Joins the threads of the library when the process of the tests ends: what asynchronous closes leave to
/// be joined later would be a leaked thread there.
struct JoinsAtExit: SuiteTrait {
  // A global's initializer runs once, whoever comes first.
  private static let registered: Void = {
    atexit { _ = Worker.quiesce(within: .seconds(10)) }
  }()

  func prepare(for test: Test) async throws {
    Self.registered
  }
}

extension Trait where Self == JoinsAtExit {
  static var joinsAtExit: Self { Self() }
}

/// Runs a test with the path of a file of these bytes, in a folder that goes afterwards.
func withFile<Result>(
  named name: String = "data.txt", _ bytes: some Sequence<UInt8>,
  _ body: (String) async throws -> Result
) async throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appending(path: "lanyard-\(UUID())")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  let file = folder.appending(path: name)
  try Data(bytes).write(to: file)
  return try await body(file.path)
}
