// Rows as text for people and for programs.
//
//   table   aligned columns, numbers to the right; NULL is an empty cell that says NULL
//   csv     RFC 4180, with a line of names; NULL is an empty field, an empty text is ""
//   json    one array of objects; a blob is its hexadecimal digits
//   jsonl   an object a line

import ArgumentParser
import Foundation
import LanyardDatabase

enum RowFormat: String, CaseIterable, ExpressibleByArgument, Sendable {
  case table, csv, json, jsonl
}

struct RowPrinter {
  private let format: RowFormat
  private var columns: [String]?
  private var count = 0
  /// Of a table, whose columns' widths are known only at the end.
  private var rows: [[Value]] = []

  init(_ format: RowFormat) {
    self.format = format
  }

  mutating func add(_ row: Row, to output: inout some TextOutputStream) {
    let names = columns ?? row.columns
    switch format {
    case .table:
      rows.append(row.values)
    case .csv:
      if columns == nil { output.write(csv(names.map(Value.text))) }
      output.write(csv(row.values))
    case .json:
      output.write((count == 0 ? "[\n  " : ",\n  ") + object(names, row.values))
    case .jsonl:
      output.write(object(names, row.values) + "\n")
    }
    columns = names
    count += 1
  }

  func end(_ output: inout some TextOutputStream) {
    switch format {
    case .table: writeTable(&output)
    case .json: output.write(count == 0 ? "[]\n" : "\n]\n")
    case .csv, .jsonl: break
    }
  }

  // MARK: Table

  private func writeTable(_ output: inout some TextOutputStream) {
    guard let columns else { return }
    let cells = rows.map { $0.map(Self.cell) }
    let widths = columns.indices.map { column in
      max(columns[column].width, cells.map { $0[column].width }.max() ?? 0)
    }
    func line(_ texts: [String], _ isNumber: (Int) -> Bool) -> String {
      let padded = texts.indices.map { column in
        let padding = String(repeating: " ", count: widths[column] - texts[column].width)
        return isNumber(column) ? padding + texts[column] : texts[column] + padding
      }
      var text = padded.joined(separator: "  ")
      while text.last == " " { text.removeLast() }
      return text + "\n"
    }
    output.write(line(columns) { _ in false })
    output.write(widths.map { String(repeating: "-", count: $0) }.joined(separator: "  ") + "\n")
    for (values, texts) in zip(rows, cells) {
      output.write(line(texts) { values[$0].isNumber })
    }
    output.write("(\(counted(count, "row")))\n")
  }

  private static func cell(_ value: Value) -> String {
    switch value {
    case .null: "NULL"
    case .integer(let integer): String(integer)
    case .real(let real): String(real)
    case .text(let text):
      // One line a row, whatever is in it.
      String(text.map { $0.isNewline || $0 == "\t" ? " " : $0 })
    case .blob(let bytes): "x'" + hexadecimal(bytes.prefix(32)) + (bytes.count > 32 ? "...'" : "'")
    }
  }

  // MARK: CSV

  private func csv(_ values: [Value]) -> String {
    values.map { value in
      switch value {
      case .null: ""
      case .integer(let integer): String(integer)
      case .real(let real): String(real)
      case .text(let text):
        text.isEmpty || text.contains(where: { "\",\r\n".contains($0) || $0.isNewline })
          ? "\"" + text.replacingOccurrences(of: "\"", with: "\"\"") + "\"" : text
      case .blob(let bytes): Self.hexadecimal(bytes)
      }
    }.joined(separator: ",") + "\r\n"
  }

  // MARK: JSON

  private func object(_ names: [String], _ values: [Value]) -> String {
    "{" + zip(names, values).map { "\(quoted($0)): \(json($1))" }.joined(separator: ", ") + "}"
  }

  private func json(_ value: Value) -> String {
    switch value {
    case .null: "null"
    case .integer(let integer): String(integer)
    // JSON has no infinity.
    case .real(let real): real.isFinite ? String(real) : "null"
    case .text(let text): quoted(text)
    case .blob(let bytes): quoted(Self.hexadecimal(bytes))
    }
  }

  private func quoted(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\n": quoted += "\\n"
      case "\r": quoted += "\\r"
      case "\t": quoted += "\\t"
      case _ where scalar.value < 0x20: quoted += String(format: "\\u%04x", scalar.value)
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }

  private static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { String(format: "%02x", $0) }.joined()
  }
}

extension Value {
  fileprivate var isNumber: Bool {
    switch self {
    case .integer, .real: true
    case .null, .text, .blob: false
    }
  }
}

extension String {
  /// How many cells of a terminal it takes: two for what East Asian fonts make wide and for emoji, none for
  /// marks that combine. Characters, not scalars.
  fileprivate var width: Int {
    reduce(0) { width, character in
      guard let first = character.unicodeScalars.first else { return width }
      let properties = first.properties
      if properties.isEmojiPresentation { return width + 2 }
      switch first.value {
      case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF,
        0xA000...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE4F, 0xFF00...0xFF60,
        0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x20000...0x3FFFD:
        return width + 2
      default:
        return width + (properties.generalCategory == .nonspacingMark ? 0 : 1)
      }
    }
  }
}
