// One row of an answer: values, and the names of their columns, which all rows of an answer share.

/// One row that a query returned.
///
/// ```swift
/// let name = try row.value("name", as: String.self)
/// let note = try row.value(at: 2, as: String?.self)      // may be NULL
/// ```
public struct Row: Sendable, Hashable {
  /// The names of the columns, in order.
  public let columns: [String]

  /// The values, in the same order.
  public let values: [Value]

  /// The value at an index from 0, which must be in range.
  public subscript(index: Int) -> Value { values[index] }

  /// The value of the first column of that name; `nil` if there is none.
  public subscript(column: String) -> Value? {
    columns.firstIndex(of: column).map { values[$0] }
  }

  /// The value of the first column of that name.
  ///
  /// - Parameters:
  ///   - column: The column's name, exactly.
  ///   - type: What it is to be; an `Optional` where it may be NULL.
  /// - Throws: ``DatabaseError`` with code `noSuchColumn`, or `wrongType` if it is no value of that type.
  public func value<T: ValueConvertible>(
    _ column: String, as type: T.Type = T.self
  ) throws(DatabaseError) -> T {
    guard let index = columns.firstIndex(of: column) else {
      throw DatabaseError(
        .noSuchColumn, "there is no column \"\(column)\"",
        advice: "the columns are \(columns.map { "\"\($0)\"" }.joined(separator: ", "))")
    }
    return try value(at: index, as: type)
  }

  /// The value at an index from 0.
  ///
  /// - Parameters:
  ///   - index: The column's index.
  ///   - type: What it is to be; an `Optional` where it may be NULL.
  /// - Throws: ``DatabaseError`` with code `noSuchColumn`, or `wrongType` if it is no value of that type.
  public func value<T: ValueConvertible>(
    at index: Int, as type: T.Type = T.self
  ) throws(DatabaseError) -> T {
    guard values.indices.contains(index) else {
      throw DatabaseError(
        .noSuchColumn, "there is no column \(index)",
        advice: "the row has \(values.count), counted from 0")
    }
    guard let value = T(databaseValue: values[index]) else {
      throw DatabaseError(
        .wrongType,
        "column \"\(columns[index])\" holds \(values[index].kind), which is no \(T.self)",
        advice: values[index] == .null
          ? "ask for \(T.self)? where a value may be NULL"
          : "ask for the type that was stored, or for Value")
    }
    return value
  }
}
