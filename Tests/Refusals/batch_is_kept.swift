// refused: missing reinitialization of inout parameter
// A batch is the loop's, for the time of one call.
import Lanyard

func caller() throws {
  _ = try RequestLoop<Int> { batch in
    let kept = batch
    _ = kept.count
  }
}
