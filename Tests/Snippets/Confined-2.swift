import Lanyard

struct InterruptHandle: Sendable { func interrupt() {} }
struct Engine {
  let interruptHandle = InterruptHandle()
  init() throws {}
}
