// swift-tools-version: 6.2
import PackageDescription

/// The documentation's compiler is a plugin that nobody but `make docs` needs, and that is not put into the
/// graphs of those who depend on the package.
let docsPlugin: [Package.Dependency] =
  Context.environment["LANYARD_DOCS"] == nil
  ? [] : [.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.4.0")]

/// Warnings are errors here. SwiftPM drops this for those who depend on the package by version, so a
/// newer compiler's new warning does not break them.
let cSettings: [CSetting] = [
  .enableWarning("all"),
  .enableWarning("extra"),
  .enableWarning("shadow"),
  .treatAllWarnings(as: .error),
]

let swiftSettings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

let librarySettings = swiftSettings + [.strictMemorySafety()]

let package = Package(
  name: "lanyard",
  platforms: [.macOS(.v15)],
  products: [
    .library(name: "Lanyard", targets: ["Lanyard"]),
    .library(name: "LanyardDatabase", targets: ["LanyardDatabase"]),
    .executable(name: "lanyard", targets: ["LanyardCLI"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ] + docsPlugin,
  targets: [
    .target(
      name: "CLanyard",
      path: "CSupport",
      exclude: ["lanyard.map", "lanyard.pc.in", "man"],
      sources: ["src"],
      publicHeadersPath: "include",
      cSettings: cSettings
    ),
    .systemLibrary(
      name: "CSQLite",
      pkgConfig: "sqlite3",
      providers: [.apt(["libsqlite3-dev"])]
    ),
    .target(
      name: "Lanyard",
      dependencies: ["CLanyard"],
      swiftSettings: librarySettings
    ),
    .target(
      name: "LanyardDatabase",
      dependencies: ["Lanyard", "CSQLite"],
      swiftSettings: librarySettings
    ),
    .executableTarget(
      name: "LanyardCLI",
      dependencies: [
        "Lanyard",
        "LanyardDatabase",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: swiftSettings
    ),
    .target(
      name: "LanyardTestSupport",
      dependencies: ["Lanyard"],
      path: "Tests/Support",
      swiftSettings: swiftSettings
    ),
    .target(
      name: "CFaults",
      dependencies: ["CSQLite"],
      path: "Tests/Faults",
      publicHeadersPath: "include",
      cSettings: cSettings + [.define("_GNU_SOURCE")]
    ),
    .executableTarget(
      name: "lanyard-crash",
      dependencies: ["Lanyard", "LanyardDatabase"],
      path: "Tests/Crash",
      swiftSettings: swiftSettings
    ),
    .testTarget(
      name: "LanyardTests",
      dependencies: ["Lanyard", "LanyardTestSupport"],
      swiftSettings: swiftSettings
    ),
    .testTarget(
      name: "LanyardDatabaseTests",
      dependencies: [
        "Lanyard", "LanyardDatabase", "CSQLite", "CFaults", "LanyardTestSupport", "lanyard-crash",
      ],
      swiftSettings: swiftSettings
    ),
    .testTarget(
      name: "LanyardCLITests",
      dependencies: ["Lanyard", "LanyardDatabase", "LanyardCLI", "LanyardTestSupport"],
      swiftSettings: swiftSettings
    ),
  ],
  swiftLanguageModes: [.v6]
)
