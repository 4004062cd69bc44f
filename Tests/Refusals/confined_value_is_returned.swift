// refused: risks causing data races
// The value would be used outside of its thread.
import Lanyard

final class Box { var value = 0 }

func caller(_ confined: Confined<Box>) async throws {
  let escaped = try await confined.run { $0 }
  escaped.value += 1
}
