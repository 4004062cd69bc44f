// refused: unavailable from asynchronous contexts
// It would block a thread that all tasks share.
import Lanyard

func caller() async -> Int {
  Worker.quiesce(within: .seconds(1))
}
