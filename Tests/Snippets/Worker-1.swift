import Lanyard

struct Record: Sendable {}
struct Connection: Sendable { func insert(_ record: Record) -> Int { 1 } }
let connection = Connection()
let record = Record()
