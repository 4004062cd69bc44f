// Which database an address means.

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Where a database is.
enum DatabaseAddress: Hashable, Sendable {
  case memory
  case file(String)

  static let accepted =
    "give :memory:, the path of a file, sqlite:path, or a folder and a name for the database in it"

  /// - Parameter name: The database's name in a folder; empty if the address says everything.
  init(_ address: String, name: String) throws(DatabaseError) {
    func bad(_ problem: String) -> DatabaseError {
      DatabaseError(.cannotOpen, problem, advice: Self.accepted)
    }
    guard !address.isEmpty else { throw bad("the address is empty") }
    guard !address.utf8.contains(0), !name.utf8.contains(0) else {
      throw bad("the address contains a zero byte")
    }
    var path = Substring(address)
    if let scheme = Self.scheme(of: address) {
      guard scheme == "sqlite" || scheme == "file" else {
        // Without the address, which may hold a password.
        throw bad("there is no engine for addresses that begin with \(scheme):")
      }
      path = path.dropFirst(scheme.utf8.count + 1)
      if path.hasPrefix("//") { path = path.dropFirst(2) }
    }
    guard !path.isEmpty else { throw bad("the address names no file") }
    if path == ":memory:" {
      self = .memory
    } else if Self.isFolder(String(path)) {
      guard !name.isEmpty else { throw bad("\"\(path)\" is a folder") }
      guard !name.contains("/"), name != ".", name != ".." else {
        throw bad("\"\(name)\" is no name of a database")
      }
      self = .file("\(path.hasSuffix("/") ? path.dropLast() : path)/\(name).db")
    } else if path.hasSuffix("/") {
      throw bad("there is no folder \"\(path)\"")
    } else {
      self = .file(String(path))
    }
  }

  private static func isFolder(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// What stands before the first colon, if it may be a scheme by RFC 3986 and is more than a letter.
  private static func scheme(of address: String) -> String? {
    guard let colon = address.utf8.firstIndex(of: UInt8(ascii: ":")) else { return nil }
    let scheme = address[..<colon]
    guard scheme.utf8.count > 1, let first = scheme.first, first.isASCII, first.isLetter,
      scheme.utf8.allSatisfy({ byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "-"),
          UInt8(ascii: "."):
          true
        default: false
        }
      })
    else { return nil }
    return scheme.lowercased()
  }

  /// As SQLite wants it.
  var path: String {
    switch self {
    case .memory: ":memory:"
    case .file(let path): path
    }
  }
}
