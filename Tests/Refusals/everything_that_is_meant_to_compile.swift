// accepted
// The control: what the others are refused for is not how they are compiled.
import Lanyard

final class Box { var value = 0 }

func synchronously(_ worker: Worker, _ confined: Confined<Box>) throws {
  var sum = try worker.call { 5 }
  try confined.call { $0.value += sum }
  sum += 1
  worker.closeAndWait()
  _ = Worker.quiesce(within: .seconds(1))
}

func asynchronously(_ worker: Worker) async throws {
  let box = Box()
  try worker.submit { box.value += 1 }
  let made = try await worker.run { Box() }
  made.value += 1
  let confined = try await Confined { Box() }
  let value = try await confined.run {
    $0 = Box()
    return $0.value
  }
  let loop = try RequestLoop<Int> { batch in
    while let request = batch.next() { print(request + value) }
  }
  try await loop.send(1)
  await loop.close()
  await worker.close()
}
