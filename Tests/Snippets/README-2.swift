import Lanyard

struct Interpreter: ~Copyable {
  init() throws {}
  mutating func evaluate(_ text: String) throws -> Int { 42 }
}

struct Line: Sendable { init(_ text: String) {} }
struct File: Sendable {
  func append(_ line: Line) {}
  func flush() {}
}
let file = File()

struct Page: Sendable {}
let page = Page()
func render(_ page: Page) async {}

final class Cache: Sendable { func dropExpired() {} }
let cache = Cache()

let worker = try! Worker("shared")
