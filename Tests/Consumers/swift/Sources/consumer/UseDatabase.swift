// Rows from many tasks.

import Lanyard
import LanyardDatabase

func useDatabase(_ checks: Checks) async throws {
  let database = try await Database.open(":memory:")
  try await database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
  try await withThrowingTaskGroup(of: Void.self) { group in
    for writer in 0..<8 {
      group.addTask {
        for row in 0..<125 {
          let id = writer * 125 + row
          try await database.execute("INSERT INTO item VALUES (\(id), \("item \(id)"))")
        }
      }
    }
    try await group.waitForAll()
  }
  let rows = try await database.query("SELECT text FROM item WHERE id = \(777)")
  checks.expect(rows.count == 1, "one row")
  checks.expect(try rows[0].value("text", as: String.self) == "item 777", "and the right one")
  checks.expect(try await database.query("SELECT id FROM item").count == 1000, "a thousand rows")
  try await database.close()
}
