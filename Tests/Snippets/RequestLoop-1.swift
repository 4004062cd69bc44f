import Lanyard

struct Line: Sendable { init(_ text: String) {} }
struct File: Sendable {
  func append(_ line: Line) {}
  func flush() {}
}
let file = File()
