import LanyardDatabase

let id = 1
let name = "Ann"
var database: Database { fatalError("it is compiled, not run") }
