// What a database stores: five kinds of value, and how Swift's types become one and come back.

/// One value as a database stores it.
public enum Value: Hashable, Sendable {
  /// No value.
  case null
  /// A whole number.
  case integer(Int64)
  /// A floating-point number. SQLite stores "not a number" as ``null``.
  case real(Double)
  /// Text, in UTF-8.
  case text(String)
  /// Bytes.
  case blob([UInt8])

  /// The kind of value, for a sentence: never the value itself, which may be nobody's business.
  var kind: String {
    switch self {
    case .null: "NULL"
    case .integer: "an integer"
    case .real: "a real"
    case .text: "text"
    case .blob: "a blob"
    }
  }
}

/// A type whose values can be bound to SQL and read from a row.
///
/// Reading is strict: a value of another kind is no value of this type, except that an integer is also a
/// floating-point number. Nothing is converted from text.
public protocol ValueConvertible: SendableMetatype {
  /// What is stored; `nil` if a database has no room for it.
  var databaseValue: Value? { get }

  /// Reads a stored value; `nil` if it is no value of this type.
  init?(databaseValue: Value)
}

extension Value: ValueConvertible {
  public var databaseValue: Value? { self }

  @inlinable
  public init?(databaseValue: Value) {
    self = databaseValue
  }
}

extension ValueConvertible where Self: FixedWidthInteger {
  public var databaseValue: Value? { Int64(exactly: self).map(Value.integer) }

  @inlinable
  public init?(databaseValue: Value) {
    guard case .integer(let integer) = databaseValue else { return nil }
    self.init(exactly: integer)
  }
}

extension Int: ValueConvertible {}
extension Int8: ValueConvertible {}
extension Int16: ValueConvertible {}
extension Int32: ValueConvertible {}
extension Int64: ValueConvertible {}
extension UInt: ValueConvertible {}
extension UInt8: ValueConvertible {}
extension UInt16: ValueConvertible {}
extension UInt32: ValueConvertible {}
extension UInt64: ValueConvertible {}

extension Double: ValueConvertible {
  public var databaseValue: Value? { .real(self) }

  @inlinable
  public init?(databaseValue: Value) {
    switch databaseValue {
    case .real(let real): self = real
    case .integer(let integer): self = Double(integer)
    case .null, .text, .blob: return nil
    }
  }
}

extension Float: ValueConvertible {
  public var databaseValue: Value? { .real(Double(self)) }

  @inlinable
  public init?(databaseValue: Value) {
    guard let real = Double(databaseValue: databaseValue) else { return nil }
    self.init(real)
  }
}

extension Bool: ValueConvertible {
  /// 1 for true, 0 for false.
  public var databaseValue: Value? { .integer(self ? 1 : 0) }

  /// False for 0, true for every other integer.
  @inlinable
  public init?(databaseValue: Value) {
    guard case .integer(let integer) = databaseValue else { return nil }
    self = integer != 0
  }
}

extension String: ValueConvertible {
  public var databaseValue: Value? { .text(self) }

  @inlinable
  public init?(databaseValue: Value) {
    guard case .text(let text) = databaseValue else { return nil }
    self = text
  }
}

extension Substring: ValueConvertible {
  public var databaseValue: Value? { .text(String(self)) }

  @inlinable
  public init?(databaseValue: Value) {
    guard let text = String(databaseValue: databaseValue) else { return nil }
    self.init(text)
  }
}

extension [UInt8]: ValueConvertible {
  public var databaseValue: Value? { .blob(self) }

  @inlinable
  public init?(databaseValue: Value) {
    guard case .blob(let bytes) = databaseValue else { return nil }
    self = bytes
  }
}

extension Optional: ValueConvertible where Wrapped: ValueConvertible {
  /// ``Value/null`` for `nil`.
  public var databaseValue: Value? {
    switch self {
    case nil: .null
    case let wrapped?: wrapped.databaseValue
    }
  }

  @inlinable
  public init?(databaseValue: Value) {
    if case .null = databaseValue {
      self = .none
    } else {
      guard let wrapped = Wrapped(databaseValue: databaseValue) else { return nil }
      self = .some(wrapped)
    }
  }
}
