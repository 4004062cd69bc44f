// Reads a file record by record, in blocks of bounded size, with the number of the line at which each begins.

import Foundation

/// One record as it is in the file.
struct Record: Sendable {
  /// The number of its first line, from 1.
  let line: Int
  /// Its bytes, without the line end.
  let bytes: [UInt8]
}

struct RecordReader {
  private static let blockSize = 1 << 16

  private let file: FileHandle
  private let path: String
  private let format: RecordFormat
  private var block: [UInt8] = []
  private var position = 0
  private var line = 0

  init(path: String, format: RecordFormat) throws {
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw ImportError("cannot read \(path): check that it exists and may be read")
    }
    self.file = file
    self.path = path
    self.format = format
  }

  /// The next record; nil at the end of the file.
  mutating func next() throws -> Record? {
    guard var bytes = try nextLine() else { return nil }
    let first = line
    // A mark that some programs write before the first line of UTF-8.
    if first == 1, bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes.removeFirst(3) }
    while format.isOpen(bytes), let more = try nextLine() {
      bytes.append(UInt8(ascii: "\n"))
      bytes += more
    }
    if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
    return Record(line: first, bytes: bytes)
  }

  /// The next line without its end; a carriage return before it is left to the record.
  private mutating func nextLine() throws -> [UInt8]? {
    var bytes: [UInt8] = []
    var isAtEnd = true
    while true {
      if position == block.count {
        guard let data = try read(), !data.isEmpty else { break }
        block = Array(data)
        position = 0
      }
      isAtEnd = false
      if let end = block[position...].firstIndex(of: UInt8(ascii: "\n")) {
        bytes += block[position..<end]
        position = end + 1
        line += 1
        return bytes
      }
      bytes += block[position...]
      position = block.count
    }
    // The last line need not have an end.
    if isAtEnd { return nil }
    line += 1
    return bytes
  }

  private func read() throws -> Data? {
    do {
      return try file.read(upToCount: Self.blockSize)
    } catch {
      throw ImportError("cannot read \(path): \(error.localizedDescription)")
    }
  }
}
