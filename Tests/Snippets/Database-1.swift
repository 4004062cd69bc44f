import LanyardDatabase

let id = 1
let name = "Ann"
