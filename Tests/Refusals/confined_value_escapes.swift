// refused: cannot be task-isolated at end of function
// The value would be used outside of its thread.
import Lanyard

final class Box { var value = 0 }

func caller(_ confined: Confined<Box>) throws {
  var escaped: Box?
  try confined.call { escaped = $0 }
  escaped?.value += 1
}
