// One statement: its text, and the values that are bound to it.
//
// The text is kept in fragments, between which the values stand, so that an engine can put its own
// placeholders there:
//
//   fragments.count == values.count + 1
//
// An interpolated value is therefore never part of the text, whatever it contains.

/// One SQL statement with the values that belong to it.
///
/// Write it as a string. Interpolated values are bound, never spliced into the text:
///
/// ```swift
/// try await database.execute("INSERT INTO person VALUES (\(id), \(name))")
/// ```
///
/// Three interpolations with a label are something else: `\(list: values)` binds several values with commas
/// between them, `\(identifier: name)` puts a quoted name of a table or column into the text, and
/// `\(unsafeRaw: text)` puts text there as it is.
public struct SQL: Sendable, Hashable {
  private var fragments: [String]

  /// The values to bind, in the order of their places.
  public private(set) var values: [Value]

  /// Why it cannot be executed: the first value that no database can hold.
  private(set) var problem: String?

  /// A statement from text that was not written in the source.
  ///
  /// - Parameter text: The statement. It is executed as it is: text that comes from elsewhere must not be
  ///   part of it.
  public init(unsafeRaw text: String) {
    fragments = [text]
    values = []
  }

  /// The statement's text with `?` where its values are bound.
  public var text: String {
    fragments.count == 1 ? fragments[0] : fragments.joined(separator: "?")
  }
}

extension SQL: ExpressibleByStringInterpolation {
  public init(stringLiteral text: String) {
    self.init(unsafeRaw: text)
  }

  public init(stringInterpolation: StringInterpolation) {
    self = stringInterpolation.sql
  }

  /// Builds a statement piece by piece.
  public struct StringInterpolation: StringInterpolationProtocol, Sendable {
    fileprivate var sql = SQL(unsafeRaw: "")

    public init(literalCapacity: Int, interpolationCount: Int) {
      sql.fragments.reserveCapacity(interpolationCount + 1)
      sql.values.reserveCapacity(interpolationCount)
    }

    /// Adds text of the source.
    public mutating func appendLiteral(_ text: String) {
      sql.fragments[sql.fragments.count - 1] += text
    }

    /// Binds a value.
    public mutating func appendInterpolation(_ value: some ValueConvertible) {
      if let value = value.databaseValue {
        sql.values.append(value)
      } else {
        sql.values.append(.null)
        let place = sql.values.count
        sql.problem = sql.problem ?? "value \(place) does not fit into 64 bits; store it as text"
      }
      sql.fragments.append("")
    }

    /// Binds several values, with commas between them.
    public mutating func appendInterpolation(list values: some Sequence<some ValueConvertible>) {
      var isFirst = true
      for value in values {
        if !isFirst { appendLiteral(", ") }
        isFirst = false
        appendInterpolation(value)
      }
    }

    /// Adds the name of a table or a column, in double quotes.
    public mutating func appendInterpolation(identifier name: String) {
      appendLiteral("\"")
      appendLiteral(
        name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\""))
      appendLiteral("\"")
    }

    /// Adds text as it is. Text that comes from elsewhere must not be part of it.
    public mutating func appendInterpolation(unsafeRaw text: String) {
      appendLiteral(text)
    }
  }
}

extension SQL: CustomStringConvertible {
  /// The text, without the values.
  public var description: String { text }
}

extension SQL {
  /// Fails if a value cannot be stored.
  func check() throws(DatabaseError) {
    guard let problem else { return }
    throw DatabaseError(.statement, problem, advice: "correct the values", sql: text)
  }
}
