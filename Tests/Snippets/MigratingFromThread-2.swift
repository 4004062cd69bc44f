import Lanyard

struct Image: Sendable {}
struct Device: ~Copyable {
  static func open() throws -> Device { Device() }
  mutating func capture() throws -> Image { Image() }
}
