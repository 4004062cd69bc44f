// leaks - who leaves objects and threads behind when it is let go of.
//
// A hundred of each subject are made, used for one request each, and let go of. Every figure is counted.
// swift-nio asks for a shutdown of what it lends threads to, and says so: this is what forgetting it costs.
//
// The program fails if Lanyard leaves anything behind; and if the naive class seems to leave nothing, for
// then it cannot see a leak.

import Foundation

let count = 100
let patience = Duration.seconds(10)  // Dispatch's idle threads end after five

/// The child: counts one subject and writes down what it found.
func takeCensus(of name: String) throws {
  guard let subject = Subjects.all.first(where: { $0.name == name }) else {
    fatalError("there is no subject called \(name)")
  }
  let census = try Census.take(of: count, within: patience, subject.make)
  FileHandle.standardOutput.write(try JSONEncoder().encode(census))
  _exit(0)  // what was left behind still runs: nothing is taken down around it
}

func printRow(_ cells: String...) {
  let widths = [50, 16, 10, 15, 0]
  let row = zip(cells, widths).map { cell, width in
    cell + String(repeating: " ", count: max(0, width - cell.count))
  }
  let line = row.joined()
  print(line.prefix(through: line.lastIndex { $0 != " " } ?? line.startIndex))
}

/// The parent: prints the table. Returns what each subject left behind, if it got that far.
func printTable() throws -> [String: Census] {
  var counted: [String: Census] = [:]
  let children = try Subjects.all.map { ($0.name, try ChildProcess.start(["census", $0.name])) }
  printRow("\(count) of each, let go of", "deinitialised", "threads", "threads left", "their names")
  for (name, child) in children {
    switch try child.ending() {
    case .ended(let words):
      printRow(name, words)
    case .counted(let census):
      counted[name] = census
      let names = census.namesLeft.prefix(1) + (census.namesLeft.count > 1 ? ["..."] : [])
      printRow(
        name, "\(census.deinitialised)", "\(census.threads)", "\(census.threadsLeft)",
        names.joined(separator: ", "))
    }
  }
  return counted
}

if CommandLine.arguments.count == 3, CommandLine.arguments[1] == "census" {
  try takeCensus(of: CommandLine.arguments[2])
}
let counted = try printTable()
guard let naive = counted[Subjects.naive.name], naive.deinitialised == 0,
  naive.threadsLeft == count
else {
  print("FAILED: the naive class leaks everything, and that was not seen")
  exit(1)
}
guard let lanyard = counted[Subjects.lanyard.name], lanyard.leavesNothing, lanyard.threads == count
else {
  print("FAILED: Lanyard left something behind")
  exit(1)
}
