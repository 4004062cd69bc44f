// refused: cannot be task-isolated at end of function
// The value would share a part with the caller.
import Lanyard

final class Box { var other: Box? }

func caller(_ confined: Confined<Box>) throws {
  let mine = Box()
  try confined.call { $0.other = mine }
  mine.other = nil
}
