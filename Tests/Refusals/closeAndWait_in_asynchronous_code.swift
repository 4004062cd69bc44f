// refused: unavailable from asynchronous contexts
// It would block a thread that all tasks share.
import Lanyard

func caller(_ worker: Worker) async {
  worker.closeAndWait()
}
