// The look at a whole file before its import: its columns, their types, and how many records there are.
//
// A first line is a header if its fields are all there, differ and are no numbers, and either a column below
// it has only numbers, or the file is a .csv or .tsv and they all look like names.

import Foundation
import LanyardDatabase

struct Survey {
  let shape: TableShape
  /// Without the header.
  let records: Int

  /// - Parameters:
  ///   - header: Whether the first line is one; nil: as it looks.
  ///   - types: Whether columns get other types than TEXT.
  init(file: String, format: RecordFormat, header: Bool?, types: Bool) throws {
    var reader = try RecordReader(path: file, format: format)
    if format.isJSON {
      self = try Survey(objects: &reader, file: file)
      return
    }
    guard let first = try reader.next() else { throw Self.empty(file) }
    guard let fields = format.fields(first.bytes) else {
      throw ImportError("line 1 of \(file) is not UTF-8, or its quotes are in the wrong places")
    }
    var guesses = Array(repeating: TypeGuess(), count: fields.count)
    var records = 0
    while let record = try reader.next() {
      records += 1
      guard let values = format.fields(record.bytes), values.count == fields.count else { continue }
      for index in values.indices { guesses[index].see(values[index]) }
    }
    let looksNamed = file.lowercased().hasSuffix(".csv") || file.lowercased().hasSuffix(".tsv")
    let hasHeader = header ?? Self.isHeader(fields, over: guesses, mayBeOnlyText: looksNamed)
    if hasHeader {
      try Self.check(fields)
    } else {
      records += 1
      for index in fields.indices { guesses[index].see(fields[index]) }
    }
    shape = TableShape(
      format: format, hasHeader: hasHeader,
      columns: fields.indices.map { index in
        TableColumn(
          name: hasHeader ? fields[index] : "c\(index + 1)",
          type: types ? guesses[index].type : .text)
      })
    self.records = records
  }

  /// How many records there are of a file whose shape is known.
  static func records(_ file: String, _ shape: TableShape) throws -> Int {
    var reader = try RecordReader(path: file, format: shape.format)
    var records = shape.hasHeader ? -1 : 0
    while try reader.next() != nil { records += 1 }
    return records
  }

  private init(objects reader: inout RecordReader, file: String) throws {
    var columns: [String] = []
    var types: [String: ColumnType?] = [:]
    var records = 0
    while let record = try reader.next() {
      records += 1
      guard let object = JSONValue.object(record.bytes) else { continue }
      for (name, value) in object.sorted(by: { $0.key < $1.key }) {
        if types[name] == nil {
          columns.append(name)
          types[name] = .some(nil)
        }
        guard let type = Self.type(of: value) else { continue }
        if let known = types[name] ?? nil, known != type {
          types[name] = [known, type].allSatisfy { $0 == .integer || $0 == .real } ? .real : .any
        } else {
          types[name] = type
        }
      }
    }
    guard records > 0 else { throw Self.empty(file) }
    guard !columns.isEmpty else {
      throw ImportError(
        "no line of \(file) is a JSON object with a key: there is nothing to import")
    }
    try Self.check(columns)
    shape = TableShape(
      format: .jsonLines, hasHeader: false,
      columns: columns.map { TableColumn(name: $0, type: (types[$0] ?? nil) ?? .text) })
    self.records = records
  }

  private static func type(of value: JSONValue) -> ColumnType? {
    switch value.databaseValue {
    case .null: nil
    case .integer: .integer
    case .real: .real
    case .text, .blob: .text
    }
  }

  private static func isHeader(
    _ fields: [String], over guesses: [TypeGuess], mayBeOnlyText: Bool
  ) -> Bool {
    guard Set(fields.map { $0.lowercased() }).count == fields.count,
      fields.allSatisfy({ !$0.isEmpty && Double($0) == nil })
    else { return false }
    if guesses.contains(where: { $0.type != .text }) { return true }
    return mayBeOnlyText
      && fields.allSatisfy { name in
        name.count <= 64
          && name.allSatisfy { $0.isLetter || $0.isNumber || "_ -.".contains($0) }
      }
  }

  /// A table's columns have different names.
  private static func check(_ names: [String]) throws {
    var seen: Set<String> = []
    for (index, name) in names.enumerated() {
      guard !name.isEmpty else {
        throw ImportError(
          "column \(index + 1) of the header has no name: give it one, or --no-header")
      }
      guard seen.insert(name.lowercased()).inserted else {
        throw ImportError(
          "there are two columns \"\(name)\" in the header: give them different names, or --no-header"
        )
      }
    }
  }

  private static func empty(_ file: String) -> ImportError {
    ImportError("\(file) is empty: there is nothing to import")
  }
}

/// What a column of text may be.
private struct TypeGuess {
  private var mayBeInteger = true
  private var mayBeReal = true
  private var isEmpty = true

  mutating func see(_ field: String) {
    guard mayBeReal, !field.isEmpty else { return }
    isEmpty = false
    if mayBeInteger, Int64(field).map({ String($0) == field }) ?? false { return }
    mayBeInteger = false
    mayBeReal = Self.isDecimal(field)
  }

  var type: ColumnType {
    if isEmpty || !mayBeReal { return .text }
    return mayBeInteger ? .integer : .real
  }

  /// -12.5e3, and not 012, +1, 1., .5, 0x1 or nan; of at most 15 digits.
  private static func isDecimal(_ field: String) -> Bool {
    var rest = Substring(field).utf8
    func digits() -> Substring.UTF8View {
      let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
      rest = rest.dropFirst(digits.count)
      return digits
    }
    if rest.first == UInt8(ascii: "-") { rest = rest.dropFirst() }
    let whole = digits()
    guard !whole.isEmpty, whole.count == 1 || whole.first != UInt8(ascii: "0") else { return false }
    var count = whole.count
    if rest.first == UInt8(ascii: ".") {
      rest = rest.dropFirst()
      let fraction = digits()
      guard !fraction.isEmpty else { return false }
      count += fraction.count
    }
    if let mark = rest.first, mark | 0x20 == UInt8(ascii: "e") {
      rest = rest.dropFirst()
      if let sign = rest.first, "+-".utf8.contains(sign) { rest = rest.dropFirst() }
      guard !digits().isEmpty else { return false }
    }
    return rest.isEmpty && count <= 15 && Double(field)?.isFinite == true
  }
}
