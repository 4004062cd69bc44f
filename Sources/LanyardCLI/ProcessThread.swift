// The threads of this process, as the system lists them.

import Foundation

/// A thread of this process.
struct ProcessThread {
  let id: String
  let name: String

  /// Those that the library named. Where the system has no such list there are none.
  static var ofTheLibrary: [ProcessThread] {
    all.filter { $0.name.hasPrefix("lanyard-") }
  }

  /// How many have that name.
  static func named(_ name: String) -> Int { all.count { $0.name == name } }

  /// Gives the calling thread the name by which the system lists it, where it keeps such a list.
  static func nameCurrent(_ name: String) {
    FileHandle(forWritingAtPath: "/proc/thread-self/comm")?.write(Data(name.utf8))
  }

  private static var all: [ProcessThread] {
    let folder = "/proc/self/task"
    let ids = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return ids.sorted().compactMap { id in
      // A thread may end between the two looks.
      guard let data = FileManager.default.contents(atPath: "\(folder)/\(id)/comm") else {
        return nil
      }
      return ProcessThread(
        id: id, name: String(decoding: data, as: UTF8.self).trimmingCharacters(in: .newlines))
    }
  }
}
