// refused: does not conform to the 'Sendable' protocol
// A request goes to another thread.
import Lanyard

final class Box { var value = 0 }

func caller() throws {
  _ = try RequestLoop<Box> { batch in while batch.next() != nil {} }
}
