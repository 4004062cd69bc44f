// The queue that can be left from any place, against an array that does the same slowly.

import Lanyard
import LanyardTestSupport
import Testing

@Suite(.timeLimit(.native(minutes: 1)))
struct TicketQueueTests {
  @Test func `elements leave in the order in which they came`() {
    var queue = TicketQueue<Int>()
    for number in 0..<5 { _ = queue.append(number) }
    #expect((0..<5).map { _ in queue.popFirst() } == [0, 1, 2, 3, 4])
    #expect(queue.popFirst() == nil)
    #expect(queue.isEmpty)
  }

  @Test func `an element leaves once`() {
    var queue = TicketQueue<String>()
    let ticket = queue.append("a")
    #expect(queue.remove(ticket) == "a")
    #expect(queue.remove(ticket) == nil)
    #expect(queue.first() == nil)
  }

  @Test func `every element that is in the queue has a lower ticket than the next one`() {
    var queue = TicketQueue<Int>()
    for number in 0..<3 { #expect(queue.append(number) < queue.nextTicket) }
  }

  @Test(arguments: 0..<20 as Range<UInt64>)
  func `it does what an array does`(seed: UInt64) {
    var random = SplitMix(seed: seed)
    var queue = TicketQueue<Int>()
    var model: [(ticket: UInt64, element: Int)] = []
    for number in 0..<scaled(2000) {
      switch Int.random(in: 0..<4, using: &random) {
      case 0, 1:
        model.append((queue.append(number), number))
      case 2:
        #expect(queue.popFirst() == (model.isEmpty ? nil : model.removeFirst().element))
      default:
        guard let index = model.indices.randomElement(using: &random) else { continue }
        #expect(queue.remove(model[index].ticket) == model.remove(at: index).element)
      }
      #expect(queue.count == model.count)
      #expect(queue.first()?.ticket == model.first?.ticket)
    }
  }
}
