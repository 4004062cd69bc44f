// The columns of the table that a file becomes, and the values that a record becomes.
//
// A type is a column's only if every value of the file is of it, so a look at the whole file comes first:
//
//   INTEGER   what is written as SQLite would write it: no leading zeros or signs, within 64 bits
//   REAL      decimal numbers of at most 15 digits, which a Double keeps
//   TEXT      anything else, and a column that is always empty
//   none      of JSON, whose values have types of their own: a column where they differ
//
// So nothing is lost by a conversion. In a column of numbers an empty field is NULL.

import LanyardDatabase

enum ColumnType: String, Codable, Sendable {
  case integer = "INTEGER"
  case real = "REAL"
  case text = "TEXT"
  case any = ""
}

struct TableColumn: Codable, Hashable, Sendable {
  let name: String
  let type: ColumnType
}

struct TableShape: Codable, Hashable, Sendable {
  let format: RecordFormat
  let hasHeader: Bool
  let columns: [TableColumn]

  /// The values of a record, or what is wrong with it.
  func values(of record: Record) -> Result<[Value], RecordProblem> {
    if format.isJSON { return objectValues(of: record) }
    guard let fields = format.fields(record.bytes) else {
      return .failure(RecordProblem("it is not UTF-8, or its quotes are in the wrong places"))
    }
    guard fields.count == columns.count else {
      return .failure(
        RecordProblem("it has \(counted(fields.count, "field")), not \(columns.count)"))
    }
    return .success(
      zip(columns, fields).map { column, field in
        switch column.type {
        case .integer: field.isEmpty ? .null : Int64(field).map(Value.integer) ?? .text(field)
        case .real: field.isEmpty ? .null : Double(field).map(Value.real) ?? .text(field)
        case .text, .any: .text(field)
        }
      })
  }

  private func objectValues(of record: Record) -> Result<[Value], RecordProblem> {
    guard let object = JSONValue.object(record.bytes) else {
      return .failure(RecordProblem("it is no JSON object"))
    }
    return .success(columns.map { object[$0.name]?.databaseValue ?? .null })
  }

  /// A name for the number of a row that no column has.
  var rowIdentifier: String? {
    let names = Set(columns.map { $0.name.lowercased() })
    return ["rowid", "_rowid_", "oid"].first { !names.contains($0) }
  }
}

/// Why a record is none.
struct RecordProblem: Error {
  let reason: String

  init(_ reason: String) {
    self.reason = reason
  }
}
