import Lanyard

struct Packet: Sendable {}
struct Frame: Sendable {}
let packet = Packet()
func decode(_ packet: Packet) -> Frame { Frame() }
func log(_ frame: Frame) {}
