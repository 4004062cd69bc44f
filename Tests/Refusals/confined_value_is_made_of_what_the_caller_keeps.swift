// refused: risks causing data races
// The value would share a part with the caller.
import Lanyard

final class Box { var value = 0 }

func caller() async throws {
  let box = Box()
  let confined = try await Confined { box }
  box.value += 1
  await confined.close()
}
