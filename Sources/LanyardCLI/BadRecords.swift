// The records that could not be imported, set aside as they were:
//
//   # line 12: it has 3 fields, not 4
//   the record's own bytes
//
// The file is made with the first of them. Without its lines that begin with #, it can be corrected and
// imported again.

import Foundation

struct BadRecords {
  let path: String
  private var file: FileHandle?
  private(set) var count = 0

  /// Nothing of an earlier import stays.
  init(_ path: String) throws {
    self.path = path
    guard FileManager.default.fileExists(atPath: path) else { return }
    do {
      try FileManager.default.removeItem(atPath: path)
    } catch {
      throw ImportError("cannot replace \(path): \(error.localizedDescription); give another --bad")
    }
  }

  mutating func add(_ record: Record, _ reason: String) throws {
    count += 1
    do {
      if file == nil {
        guard FileManager.default.createFile(atPath: path, contents: nil),
          let created = FileHandle(forWritingAtPath: path)
        else { throw CocoaError(.fileWriteUnknown) }
        file = created
      }
      try file?.write(
        contentsOf: Data("# line \(record.line): \(reason)\n".utf8) + record.bytes + [10])
    } catch {
      throw ImportError("cannot set a bad row aside in \(path): \(error.localizedDescription)")
    }
  }
}
