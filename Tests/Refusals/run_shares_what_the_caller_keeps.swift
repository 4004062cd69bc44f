// refused: risks causing data races
// Two threads would write the box.
import Lanyard

final class Box { var value = 0 }

func caller(_ worker: Worker) async throws {
  let box = Box()
  try worker.submit { box.value += 1 }
  box.value += 1
}
