import Lanyard

let numbers = [1, 2]
func add(_ numbers: [Int]) -> Int { numbers.reduce(0, +) }
