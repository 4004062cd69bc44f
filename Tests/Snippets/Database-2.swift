import LanyardDatabase

var database: Database { fatalError("it is compiled, not run") }
