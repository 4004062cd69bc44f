// accepted: top-level code
// An overload of `close` that blocks would be chosen there, and its `await` refused.
import Lanyard

let worker = try Worker("main")
await worker.close()
await worker.close(.discard)
let loop = try RequestLoop<Int>("main") { batch in while batch.next() != nil {} }
await loop.close()
let confined = try await Confined("main") { 0 }
await confined.close()
