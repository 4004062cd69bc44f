// swift-tools-version: 6.2
import PackageDescription

// What else starts threads, beside Lanyard. A package of its own, so that nobody who depends on Lanyard has
// to fetch what it is compared with.

let package = Package(
  name: "peers",
  platforms: [.macOS(.v15)],
  products: [
    .executable(name: "leaks", targets: ["leaks"])
  ],
  dependencies: [
    .package(name: "lanyard", path: "../.."),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
  ],
  targets: [
    .executableTarget(
      name: "leaks",
      dependencies: [
        .product(name: "Lanyard", package: "lanyard"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      swiftSettings: [.treatAllWarnings(as: .error)]
    )
  ],
  swiftLanguageModes: [.v6]
)
