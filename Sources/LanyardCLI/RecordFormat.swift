// How a file is divided into records, and a record of separated values into fields.
//
//   ','          RFC 4180: a field may be in double quotes, and then hold separators, line ends and doubled quotes
//   other        no quoting: every line is a record, every separator separates
//   JSON lines   every line is an object

/// A format of records.
struct RecordFormat: Sendable, Hashable, Codable {
  /// What stands between fields; 0 for JSON lines, which have none.
  let separator: UInt8

  static let jsonLines = RecordFormat(separator: 0)

  var isJSON: Bool { separator == 0 }
  var allowsQuotes: Bool { separator == UInt8(ascii: ",") }

  init(separator: UInt8) {
    self.separator = separator
  }

  /// The format that was asked for, or that the file's name suggests.
  init(separator: String?, file: String) throws {
    if let separator = separator?.utf8.first {
      self.init(separator: separator)
      return
    }
    let suffixes: [String: Character] = [
      ".csv": ",", ".tsv": "\t", ".txt": ";", ".jsonl": "\0", ".ndjson": "\0",
    ]
    let name = file.lowercased()
    guard let separator = suffixes.first(where: { name.hasSuffix($0.key) })?.value.asciiValue else {
      throw ImportError(
        "the name \(file) does not tell what separates its fields: give --separator, or name it "
          + ".csv, .tsv, .txt, .jsonl or .ndjson")
    }
    self.init(separator: separator)
  }

  /// Whether a record that begins with these lines goes on in the next one: a quote is open.
  func isOpen(_ record: some Sequence<UInt8>) -> Bool {
    allowsQuotes && !record.count { $0 == UInt8(ascii: "\"") }.isMultiple(of: 2)
  }

  /// The fields of a record; nil if it is not UTF-8 or its quotes are in the wrong places.
  func fields(_ record: [UInt8]) -> [String]? {
    guard allowsQuotes, record.contains(UInt8(ascii: "\"")) else {
      // One check of the whole; its parts are then UTF-8 too, for the separator is ASCII.
      guard let text = String(validating: record, as: UTF8.self) else { return nil }
      return text.utf8.split(separator: separator, omittingEmptySubsequences: false).map {
        String($0) ?? ""
      }
    }
    return quotedFields(record)
  }

  private func quotedFields(_ record: [UInt8]) -> [String]? {
    enum State { case start, plain, quoted, ended }
    let quote = UInt8(ascii: "\"")
    var fields: [String] = []
    var field: [UInt8] = []
    var state = State.start
    func finish() -> Bool {
      guard let text = String(validating: field, as: UTF8.self) else { return false }
      fields.append(text)
      field = []
      state = .start
      return true
    }
    for byte in record {
      switch (state, byte) {
      case (.start, quote): state = .quoted
      case (.quoted, quote): state = .ended
      case (.ended, quote):  // doubled: one of the field's own
        field.append(byte)
        state = .quoted
      case (.quoted, _): field.append(byte)
      case (_, separator):
        guard finish() else { return nil }
      case (.ended, _), (.plain, quote): return nil
      case (.start, _), (.plain, _):
        field.append(byte)
        state = .plain
      }
    }
    guard state != .quoted, finish() else { return nil }
    return fields
  }
}
