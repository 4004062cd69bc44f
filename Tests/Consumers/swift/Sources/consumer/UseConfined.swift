// A value that never leaves its thread: neither Sendable nor copyable.

import Lanyard

private struct Device: ~Copyable {
  private var frames = 0
  private let checks: Checks

  init(checks: Checks) { self.checks = checks }

  mutating func capture() -> Int {
    frames += 1
    return frames
  }

  deinit {
    checks.expect(frames == 3, "the device is closed on its thread, after \(frames) frames")
  }
}

func useConfined(_ checks: Checks) async throws {
  let device = try await Confined("device") { Device(checks: checks) }
  for expected in 1...3 {
    let frame = try await device.run { $0.capture() }
    checks.expect(frame == expected, "frame \(frame)")
  }
  checks.expect(try await device.run { _ in device.isCurrent }, "it was the device's thread")
  await device.close()

  struct Absent: Error {}
  do {
    _ = try await Confined<Int>("absent") { throw Absent() }
    checks.expect(false, "a value that cannot be made")
  } catch {
    checks.expect(error is Absent, "a value that cannot be made is an error, and leaves no thread")
  }
}
