// Ctrl-C and `kill` as a wish to end, which is granted when what was begun is done. A second one ends at once.

import Dispatch
import Foundation

final class Interruption {
  let flag = StopFlag()
  private let sources: [any DispatchSourceSignal]

  init() {
    let flag = flag
    sources = [SIGINT, SIGTERM].map { number in
      // The source only hears of a signal that does nothing else.
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler {
        flag.set()
        signal(number, SIG_DFL)
      }
      source.resume()
      return source
    }
  }

  /// From now on they do again what they do by default.
  func end() {
    for source in sources { source.cancel() }
    for number in [SIGINT, SIGTERM] { signal(number, SIG_DFL) }
  }
}
