import Lanyard

let worker = try! Worker("shared")
let numbers = [1, 2]
