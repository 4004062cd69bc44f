// refused: risks causing data races
// Two threads would write the box.
import Lanyard

final class Box { var value = 0 }

func caller(_ worker: Worker) throws {
  let box = Box()
  try worker.every(.seconds(1), weakly: worker) { _ in box.value += 1 }
  box.value += 1
}
