// What an import has to remember, so that it can be continued after whatever ended it.
//
// Each row's number is the number of the line where its record begins. So the table itself tells which
// records it has, at no cost, and whatever was acknowledged before a crash is not imported again. One row of
// `lanyard_import` says of which file the table is being made; it goes when the import is complete.
//
// VACUUM may number the rows anew. It shows in the schema's version, which is why that is kept too.

import Foundation
import LanyardDatabase

struct ImportLedger {
  private let database: Database
  private let table: String

  init(_ database: Database, table: String) {
    self.database = database
    self.table = table
  }

  /// Creates the table, together with the note of what it is made from.
  func begin(_ shape: TableShape, from file: FileFingerprint, replacing: Bool) async throws {
    let table = table
    let text = String(decoding: try JSONEncoder().encode(shape), as: UTF8.self)
    let columns = shape.columns.reduce(into: "") { columns, column in
      let name = SQL("\(identifier: column.name)").text
      columns +=
        (columns.isEmpty ? "" : ", ") + name
        + (column.type == .any ? "" : " \(column.type.rawValue)")
    }
    try await database.write { connection in
      if replacing { try connection.execute("DROP TABLE IF EXISTS \(identifier: table)") }
      let existing = try connection.query(
        "SELECT type FROM sqlite_schema WHERE name = \(table) COLLATE NOCASE AND type IN ('table', 'view')"
      )
      guard existing.isEmpty else {
        throw ImportError(
          "there is a table \"\(table)\" already: give another --table, --replace to drop it first, or "
            + "--resume to go on with an import that was interrupted")
      }
      try connection.execute("CREATE TABLE \(identifier: table) (\(unsafeRaw: columns))")
      try connection.execute(
        """
        CREATE TABLE IF NOT EXISTS lanyard_import (table_name TEXT PRIMARY KEY, path TEXT, size INTEGER,
          fingerprint TEXT, shape TEXT, schema INTEGER)
        """)
      let schema = try connection.query("PRAGMA schema_version", as: Int.self)[0]
      try connection.execute(
        """
        INSERT OR REPLACE INTO lanyard_import
        VALUES (\(table), \(file.path), \(file.size), \(file.hash), \(text), \(schema))
        """)
    }
  }

  /// What an interrupted import has done.
  struct Interrupted {
    let shape: TableShape
    /// The lines of the records that are there.
    let lines: IndexSet
  }

  /// Finds the interrupted import of a file.
  func resume(from file: FileFingerprint) async throws -> Interrupted {
    let hasNotes = try await !database.query(
      "SELECT 1 FROM sqlite_schema WHERE name = 'lanyard_import'"
    ).isEmpty
    let notes =
      hasNotes
      ? try await database.query(
        "SELECT path, size, fingerprint, shape, schema FROM lanyard_import WHERE table_name = \(table)",
        as: (String, Int, String, String, Int).self) : []
    guard let (path, size, hash, shape, schema) = notes.first else {
      throw ImportError(
        "no import into \"\(table)\" was interrupted: leave --resume out to begin one")
    }
    guard size == file.size, hash == file.hash else {
      throw ImportError(
        "\(file.path) is not the file whose import was interrupted (\(path)), or was changed: begin again "
          + "with --replace")
    }
    guard try await database.query("PRAGMA schema_version", as: Int.self) == [schema] else {
      throw ImportError(
        "the database's schema was changed or it was vacuumed since the import was interrupted, so its rows "
          + "may have other numbers: begin again with --replace")
    }
    let known = try JSONDecoder().decode(TableShape.self, from: Data(shape.utf8))
    var lines = IndexSet()
    for try await line in database.rows(
      "SELECT \(unsafeRaw: try rowIdentifier(of: known)) FROM \(identifier: table)", as: Int.self)
    {
      lines.insert(line)
    }
    return Interrupted(shape: known, lines: lines)
  }

  /// Forgets the import: it is complete.
  func end() async throws {
    let table = table
    try await database.write { connection in
      try connection.execute("DELETE FROM lanyard_import WHERE table_name = \(table)")
      if try connection.query("SELECT 1 FROM lanyard_import LIMIT 1").isEmpty {
        try connection.execute("DROP TABLE lanyard_import")
      }
    }
  }

  func rowIdentifier(of shape: TableShape) throws -> String {
    guard let name = shape.rowIdentifier else {
      throw ImportError("the file has columns rowid, oid and _rowid_: rename one of them")
    }
    return name
  }
}

/// A file's size and a hash of its beginning and its end.
struct FileFingerprint {
  private static let length = 1 << 16

  let path: String
  let size: Int
  let hash: String

  init(_ path: String) throws {
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw ImportError("cannot read \(path): check that it exists and may be read")
    }
    do {
      let size = try file.seekToEnd()
      try file.seek(toOffset: 0)
      var bytes = try file.read(upToCount: Self.length) ?? Data()
      try file.seek(toOffset: size > UInt64(Self.length) ? size - UInt64(Self.length) : 0)
      bytes += try file.read(upToCount: Self.length) ?? Data()
      // FNV-1a: whether it is the same file, not whether somebody forged it.
      let hash = bytes.reduce(0xcbf2_9ce4_8422_2325 as UInt64) {
        ($0 ^ UInt64($1)) &* 0x100_0000_01b3
      }
      self.path = URL(fileURLWithPath: path).standardizedFileURL.path
      self.size = Int(size)
      self.hash = String(hash, radix: 16)
    } catch {
      throw ImportError("cannot read \(path): \(error.localizedDescription)")
    }
  }
}
