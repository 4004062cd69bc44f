// Numbers for people.

/// A number with commas between its thousands.
func grouped(_ number: Int) -> String {
  var text = String(number.magnitude)
  for position in stride(from: text.count - 3, to: 0, by: -3) {
    text.insert(",", at: text.index(text.startIndex, offsetBy: position))
  }
  return number < 0 ? "-" + text : text
}

/// A number with its noun, which gets an s where it is not one.
func counted(_ number: Int, _ noun: String) -> String {
  "\(grouped(number)) \(noun)\(number == 1 ? "" : "s")"
}

/// With two decimals.
func seconds(_ duration: Duration) -> String {
  let hundredths = Int(duration / .milliseconds(10))
  let rest = hundredths % 100
  return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
}

/// So many a second.
func rate(_ count: Int, _ duration: Duration) -> String {
  grouped(Int(Double(count) / max(duration / .seconds(1), 1e-9)))
}
