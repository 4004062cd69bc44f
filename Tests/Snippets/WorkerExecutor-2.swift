import Lanyard

struct Page: Sendable {}
let page = Page()
func render(_ page: Page) async {}

let worker = try! Worker("shared")
