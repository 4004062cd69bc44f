import Lanyard

let worker = try! Worker("shared")
func interruptEngine() {}
func readRows() throws -> [Int] { [] }
