// What the tests of this target share.

import Foundation
import LanyardTestSupport

/// Runs a test with the path of a file of these bytes, which goes afterwards.
func withFile<Result>(
  named name: String = "data.txt", _ bytes: some Sequence<UInt8>,
  _ body: (String) async throws -> Result
) async throws -> Result {
  try await withFolder { folder in
    let file = folder.appending(path: name)
    try Data(bytes).write(to: file)
    return try await body(file.path)
  }
}
