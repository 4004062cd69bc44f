import LanyardDatabase

let id = 1
let text = "one"
