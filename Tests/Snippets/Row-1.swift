import LanyardDatabase

var row: Row { fatalError("it is compiled, not run") }
