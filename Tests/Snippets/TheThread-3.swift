import Glibc
import Lanyard

let worker = try! Worker("shared")
func spawn(_ path: String, _ attributes: inout posix_spawnattr_t, _ child: inout pid_t) -> Int32 {
  posix_spawn(&child, path, nil, &attributes, [nil], nil)
}
