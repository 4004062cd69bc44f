import LanyardDatabase

let id = 1
let text = "one"
struct Item: Decodable, Sendable {
  let id: Int
  let text: String
}
