// swift-tools-version: 6.2
import PackageDescription

// The database beside others. A package of its own, so that nobody who depends on Lanyard has to fetch what it
// is compared with. Every peer is linked to the system's SQLite, as Lanyard is.

let package = Package(
  name: "bench-database",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "lanyard", path: "../../.."),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.0.0"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
  ],
  targets: [
    .target(
      name: "CPeers",
      cSettings: [.enableWarning("all"), .enableWarning("extra"), .treatAllWarnings(as: .error)],
      linkerSettings: [.linkedLibrary("sqlite3")]
    ),
    .executableTarget(
      name: "bench-database",
      dependencies: [
        "CPeers",
        .product(name: "LanyardDatabase", package: "lanyard"),
        .product(name: "GRDB", package: "GRDB.swift"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: [.treatAllWarnings(as: .error)]
    ),
  ],
  swiftLanguageModes: [.v6]
)
