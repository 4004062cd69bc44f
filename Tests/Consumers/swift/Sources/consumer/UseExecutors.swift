// An actor and tasks that live on a worker's thread.

import Lanyard

private actor Turtle {
  private let executor: WorkerExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
  private var steps = 0

  init(on worker: Worker) { executor = worker.executor }

  func walk() -> Int {
    steps += 1
    return steps
  }
  func isOn(_ worker: Worker) -> Bool { worker.isCurrent }
}

func useExecutors(_ checks: Checks) async throws {
  let worker = try Worker("turtle")
  let turtle = Turtle(on: worker)
  for _ in 1..<1000 { _ = await turtle.walk() }
  checks.expect(await turtle.walk() == 1000, "an actor on a worker")
  checks.expect(await turtle.isOn(worker), "it was the worker's thread")

  let sum = await withTaskGroup(of: Int.self) { group in
    for number in 1...100 {
      group.addTask(executorPreference: worker.taskExecutor) { worker.isCurrent ? number : 0 }
    }
    return await group.reduce(0, +)
  }
  checks.expect(sum == 5050, "a hundred tasks on a worker")

  await worker.close()
  checks.expect(await turtle.walk() == 1001, "its actors outlive the worker's requests")
}
