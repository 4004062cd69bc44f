// refused: risks causing data races
// The worker would go on using what its caller got.
import Lanyard

final class Box { var value = 0 }

func caller(_ worker: Worker) async throws {
  let kept = Box()
  let box = try await worker.run { kept }
  try worker.submit { kept.value += 1 }
  box.value += 1
}
