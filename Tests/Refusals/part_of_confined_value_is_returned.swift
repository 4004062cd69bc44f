// refused: risks causing data races
// A part of the value would be used outside of its thread.
import Lanyard

final class Box { var value = 0 }
struct Boxes { var first = Box() }

func caller(_ confined: Confined<Boxes>) async throws {
  let escaped = try await confined.run { $0.first }
  escaped.value += 1
}
