// A first-in first-out queue that an element can leave from any place, by the ticket it got when it joined.
//
// A dictionary from ticket to element, and the two ends of the range of tickets that may be in it:
//
//   every ticket in `elements` is in  head ..< tail
//
// A ticket in that range that is not in `elements` has left; it costs nothing but one step when the head
// passes it, once. An array would make leaving linear, a doubly linked list of nodes would need unowned
// references. Tickets count up and are never given twice. No element is ever left behind, so a million
// waiters that join and leave again leave no memory behind.

package struct TicketQueue<Element> {
  package typealias Ticket = UInt64

  private var elements: [Ticket: Element] = [:]
  private var head: Ticket = 0
  private var tail: Ticket = 0

  package init() {}

  package var isEmpty: Bool { elements.isEmpty }
  package var count: Int { elements.count }

  /// The ticket that the next element will get: every element that is in the queue now has a lower one.
  package var nextTicket: Ticket { tail }

  /// Puts an element at the end.
  package mutating func append(_ element: Element) -> Ticket {
    let ticket = tail
    tail += 1
    elements[ticket] = element
    return ticket
  }

  /// The element that has waited longest, and its ticket.
  package mutating func first() -> (ticket: Ticket, element: Element)? {
    guard !elements.isEmpty else {
      head = tail
      return nil
    }
    while true {
      if let element = elements[head] { return (head, element) }
      head += 1  // ends: `elements` is not empty and has no ticket below the head
    }
  }

  /// Takes out the element that has waited longest.
  package mutating func popFirst() -> Element? {
    guard let (ticket, element) = first() else { return nil }
    elements[ticket] = nil
    return element
  }

  /// Takes out one element; `nil` if it has left before.
  package mutating func remove(_ ticket: Ticket) -> Element? {
    elements.removeValue(forKey: ticket)
  }
}
