// One row of an answer: a window on the values of a block of rows, which all its rows share.
//
// A block is what crosses from the engine's thread to the caller at once: the whole answer of a query, or a
// part of a stream. Its values lie side by side, so that a row costs no memory of its own.

/// The names of an answer's columns, and where each is.
@usableFromInline
final class Columns: Sendable {
  @usableFromInline let names: [String]
  private let places: [String: Int]

  init(_ names: [String]) {
    self.names = names
    places = Dictionary(zip(names, names.indices), uniquingKeysWith: { first, _ in first })
  }

  /// The place of the first column of that name.
  func place(of name: String) -> Int? { places[name] }
}

/// Rows of one answer, side by side: `values.count` is a multiple of the number of columns.
@usableFromInline
struct RowBlock: Sendable {
  @usableFromInline let columns: Columns
  @usableFromInline let values: [Value]
  @usableFromInline let count: Int

  static let empty = RowBlock(columns: Columns([]), values: [], count: 0)

  @inlinable
  subscript(row: Int) -> Row {
    Row(columnsOfAnswer: columns, block: values, start: row * columns.names.count)
  }

  @inlinable
  func map<Result, Failure: Error>(_ body: (Row) throws(Failure) -> Result) throws(Failure)
    -> [Result]
  {
    var results: [Result] = []
    results.reserveCapacity(count)
    for row in 0..<count { results.append(try body(self[row])) }
    return results
  }
}

/// One row that a query returned.
///
/// ```swift
/// let name = try row.value("name", as: String.self)
/// let note = try row.value(at: 2, as: String?.self)      // may be NULL
/// ```
///
/// It shares its memory with the rows that came with it: to keep one of many for long, keep its values.
public struct Row: Sendable {
  @usableFromInline let columnsOfAnswer: Columns
  @usableFromInline let block: [Value]
  @usableFromInline let start: Int

  @inlinable
  init(columnsOfAnswer: Columns, block: [Value], start: Int) {
    self.columnsOfAnswer = columnsOfAnswer
    self.block = block
    self.start = start
  }

  /// The names of the columns, in order.
  public var columns: [String] { columnsOfAnswer.names }

  /// The number of columns.
  @inlinable
  public var count: Int { columnsOfAnswer.names.count }

  /// The values, in the same order.
  public var values: [Value] { Array(block[start..<start + count]) }

  /// The value at an index from 0, which must be in range.
  public subscript(index: Int) -> Value {
    precondition((0..<count).contains(index), "a row of \(count) columns has no column \(index)")
    return block[start + index]
  }

  /// The value of the first column of that name; `nil` if there is none.
  public subscript(column: String) -> Value? {
    columnsOfAnswer.place(of: column).map { block[start + $0] }
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
    guard let index = columnsOfAnswer.place(of: column) else {
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
  @inlinable
  public func value<T: ValueConvertible>(
    at index: Int, as type: T.Type = T.self
  ) throws(DatabaseError) -> T {
    guard (0..<count).contains(index) else { throw noColumn(at: index) }
    guard let value = T(databaseValue: block[start + index]) else {
      throw wrongType(T.self, at: index)
    }
    return value
  }

  @usableFromInline
  func noColumn(at index: Int) -> DatabaseError {
    DatabaseError(
      .noSuchColumn, "there is no column \(index)", advice: "the row has \(count), counted from 0")
  }

  @usableFromInline
  func wrongType(_ type: Any.Type, at index: Int) -> DatabaseError {
    let stored = block[start + index]
    return DatabaseError(
      .wrongType, "column \"\(columns[index])\" holds \(stored.kind), which is no \(type)",
      advice: stored == .null
        ? "ask for \(type)? where a value may be NULL"
        : "ask for the type that was stored, or for Value")
  }

  func place(of column: String) -> Int? { columnsOfAnswer.place(of: column) }
}

extension Row: Hashable {
  /// Whether the columns have the same names and the same values.
  public static func == (left: Row, right: Row) -> Bool {
    left.columns == right.columns && left.values == right.values
  }

  /// Feeds the names and the values to a hasher.
  public func hash(into hasher: inout Hasher) {
    hasher.combine(columns)
    hasher.combine(values)
  }
}
