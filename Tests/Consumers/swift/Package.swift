// swift-tools-version: 6.2
import PackageDescription

// A package outside of the tree's own: it sees the public interface and nothing else. The identity of a
// package that is depended on by path is the name of its folder, whatever that is here.
let root = "\(Context.packageDirectory)/../../.."
let folder =
  Context.packageDirectory.split(separator: "/").dropLast(3).last.map(String.init) ?? "lanyard"

let package = Package(
  name: "consumer",
  platforms: [.macOS(.v15)],
  dependencies: [.package(path: root)],
  targets: [
    .executableTarget(
      name: "consumer",
      dependencies: [
        .product(name: "Lanyard", package: folder),
        .product(name: "LanyardDatabase", package: folder),
      ],
      swiftSettings: [.treatAllWarnings(as: .error)]
    )
  ],
  swiftLanguageModes: [.v6]
)
