import Lanyard

final class Cache: Sendable { func dropExpired() {} }
let cache = Cache()

let worker = try! Worker("shared")
