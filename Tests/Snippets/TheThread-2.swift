import Lanyard

struct Record: Sendable {}
let record = Record()
func read(_ record: Record) async -> Int { 1 }
let worker = try! Worker("shared")
