// How a row becomes what the caller asked for: one value, a tuple of values, or a Decodable type.

/// Makes a `Result` of each row of a block.
@usableFromInline
struct RowDecoding<Result>: Sendable {
  @usableFromInline let decode: @Sendable (RowBlock) throws -> [Result]

  @inlinable
  init(_ decode: @escaping @Sendable (RowBlock) throws -> [Result]) {
    self.decode = decode
  }

  @inlinable
  func callAsFunction(_ block: RowBlock) throws -> [Result] { try decode(block) }
}

extension RowDecoding where Result == Row {
  @inlinable static var row: RowDecoding { RowDecoding { block in block.map { $0 } } }
}

extension RowDecoding {
  /// One value from a row of one column, or several from a row of as many.
  @inlinable
  static func values<each Column: ValueConvertible>(_: repeat (each Column).Type) -> RowDecoding
  where Result == (repeat each Column) {
    var width = 0
    for _ in repeat (each Column).self { width += 1 }
    return RowDecoding { [width] block in
      try check(block, has: width)
      return try block.map { row in
        var index = -1
        func next<T: ValueConvertible>() throws(DatabaseError) -> T {
          index += 1
          return try row.value(at: index)
        }
        return (repeat try next() as each Column)
      }
    }
  }

  @usableFromInline
  static func check(_ block: RowBlock, has width: Int) throws(DatabaseError) {
    guard block.columns.names.count != width, block.count > 0 else { return }
    throw DatabaseError(
      .wrongType, "the rows have \(block.columns.names.count) columns, and \(width) were asked for",
      advice: "ask for as many values as the statement selects")
  }

  /// A type whose properties have the columns' names.
  static func decodable(_ type: Result.Type = Result.self) -> RowDecoding
  where Result: Decodable & SendableMetatype {
    if let stored = type as? any ValueConvertible.Type { return value(of: stored) }
    return RowDecoding { block in try block.map { row in try Result(from: RowDecoder(row)) } }
  }
}

extension RowDecoding where Result: Decodable & SendableMetatype {
  /// A type that is stored as it is, such as bytes, whatever else it can be decoded from.
  private static func value<Stored: ValueConvertible>(of type: Stored.Type) -> RowDecoding {
    RowDecoding { block in
      try check(block, has: 1)
      return try block.map { row in
        guard let value = try row.value(at: 0, as: Stored.self) as? Result else {
          throw DatabaseError.notNested("a \(Stored.self) is no \(Result.self)")
        }
        return value
      }
    }
  }
}

/// A row as a keyed container: a property for each column, by its name.
private struct RowDecoder: Decoder {
  let row: Row

  init(_ row: Row) {
    self.row = row
  }

  var codingPath: [any CodingKey] { [] }
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedDecodingContainer<Key> {
    KeyedDecodingContainer(KeyedRow(row))
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
    throw DatabaseError.notNested("a row is no list of values")
  }

  /// A type that is one value, such as an enum with a raw value, from a row of one column.
  func singleValueContainer() throws -> any SingleValueDecodingContainer {
    guard row.count == 1 else {
      throw DatabaseError.notNested("a row of \(row.count) columns is no single value")
    }
    return ColumnDecoder(row, 0)
  }
}

private struct KeyedRow<Key: CodingKey>: KeyedDecodingContainerProtocol {
  private let row: Row

  init(_ row: Row) {
    self.row = row
  }

  var codingPath: [any CodingKey] { [] }
  var allKeys: [Key] { row.columns.compactMap(Key.init(stringValue:)) }

  func contains(_ key: Key) -> Bool { row.place(of: key.stringValue) != nil }

  func decodeNil(forKey key: Key) throws -> Bool {
    try row.value(key.stringValue, as: Value.self) == .null
  }

  func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool { try value(key) }
  func decode(_ type: String.Type, forKey key: Key) throws -> String { try value(key) }
  func decode(_ type: Double.Type, forKey key: Key) throws -> Double { try value(key) }
  func decode(_ type: Float.Type, forKey key: Key) throws -> Float { try value(key) }
  func decode(_ type: Int.Type, forKey key: Key) throws -> Int { try value(key) }
  func decode(_ type: Int8.Type, forKey key: Key) throws -> Int8 { try value(key) }
  func decode(_ type: Int16.Type, forKey key: Key) throws -> Int16 { try value(key) }
  func decode(_ type: Int32.Type, forKey key: Key) throws -> Int32 { try value(key) }
  func decode(_ type: Int64.Type, forKey key: Key) throws -> Int64 { try value(key) }
  func decode(_ type: UInt.Type, forKey key: Key) throws -> UInt { try value(key) }
  func decode(_ type: UInt8.Type, forKey key: Key) throws -> UInt8 { try value(key) }
  func decode(_ type: UInt16.Type, forKey key: Key) throws -> UInt16 { try value(key) }
  func decode(_ type: UInt32.Type, forKey key: Key) throws -> UInt32 { try value(key) }
  func decode(_ type: UInt64.Type, forKey key: Key) throws -> UInt64 { try value(key) }

  func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
    guard let place = row.place(of: key.stringValue) else {
      // Throws, and says which columns there are.
      _ = try row.value(key.stringValue, as: Value.self)
      throw DatabaseError.notNested("there is no column \"\(key.stringValue)\"")
    }
    return try ColumnDecoder(row, place).decode(type)
  }

  private func value<T: ValueConvertible>(_ key: Key) throws -> T {
    try row.value(key.stringValue, as: T.self)
  }

  func nestedContainer<NestedKey: CodingKey>(keyedBy type: NestedKey.Type, forKey key: Key) throws
    -> KeyedDecodingContainer<NestedKey>
  {
    throw DatabaseError.notNested("column \"\(key.stringValue)\" holds one value")
  }

  func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
    throw DatabaseError.notNested("column \"\(key.stringValue)\" holds one value")
  }

  func superDecoder() throws -> any Decoder { RowDecoder(row) }
  func superDecoder(forKey key: Key) throws -> any Decoder { RowDecoder(row) }
}

/// A column's name, for the errors of types that decode themselves.
private struct ColumnKey: CodingKey {
  let stringValue: String
  var intValue: Int? { nil }

  init(stringValue: String) {
    self.stringValue = stringValue
  }

  init?(intValue: Int) { nil }
}

/// One column as a single value, for types that decode themselves from one.
private struct ColumnDecoder: Decoder, SingleValueDecodingContainer {
  private let row: Row
  private let place: Int

  init(_ row: Row, _ place: Int) {
    self.row = row
    self.place = place
  }

  var codingPath: [any CodingKey] { [ColumnKey(stringValue: row.columns[place])] }
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func singleValueContainer() -> any SingleValueDecodingContainer { self }

  func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
    throw DatabaseError.notNested("column \"\(row.columns[place])\" holds one value")
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
    throw DatabaseError.notNested("column \"\(row.columns[place])\" holds one value")
  }

  func decodeNil() -> Bool { row[place] == .null }

  func decode<T: Decodable>(_ type: T.Type) throws -> T {
    if let stored = type as? any ValueConvertible.Type {
      func value<V: ValueConvertible>(_ type: V.Type) throws -> V {
        try row.value(at: place, as: V.self)
      }
      if let value = try value(stored) as? T { return value }
    }
    return try T(from: self)
  }
}

extension DatabaseError {
  fileprivate static func notNested(_ message: String) -> DatabaseError {
    DatabaseError(
      .wrongType, message,
      advice:
        "decode a flat type, with a property for each column, or ask for Row and decode it yourself"
    )
  }
}
