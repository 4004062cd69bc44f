import Lanyard

struct Interpreter: ~Copyable {
  init() throws {}
  mutating func evaluate(_ text: String) throws -> Int { 42 }
}
