// swift-tools-version:6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    // Places where a test may kill a program; a release has none (Platform/FailPoint.swift).
    .define("COMMUNE_FAIL_POINTS", .when(configuration: .debug)),
]

// The C libraries, each imported by exactly one module. `pkgConfig` is left out where Debian's file carries
// compiler flags that SwiftPM refuses (hiredis, libunbound); their module maps name the library instead.
let cLibraries: [Target] = [
    .systemLibrary(name: "CPostgres", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
    .systemLibrary(name: "CHiredis", providers: [.apt(["libhiredis-dev"])]),
    .systemLibrary(name: "CUnbound", providers: [.apt(["libunbound-dev"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CPublicSuffix", pkgConfig: "libpsl", providers: [.apt(["libpsl-dev"])]),
    .systemLibrary(name: "CIDN2", pkgConfig: "libidn2", providers: [.apt(["libidn2-dev"])]),
    .systemLibrary(name: "CIconv"),
]

let log: Target.Dependency = .product(name: "Logging", package: "swift-log")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let nio: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioTLS: Target.Dependency = .product(name: "NIOTLS", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let httpTypes: Target.Dependency = .product(name: "HTTPTypes", package: "swift-http-types")
let signals: Target.Dependency = .product(name: "UnixSignals", package: "swift-service-lifecycle")
let hummingbird: Target.Dependency = .product(name: "Hummingbird", package: "hummingbird")
let httpClient: Target.Dependency = .product(name: "AsyncHTTPClient", package: "async-http-client")
let nioHTTP: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")

// Lower modules never import higher ones: the compiler keeps the direction of docs/ARCHITECTURE.md.
func shared(
    _ name: String,
    _ dependencies: [Target.Dependency],
    resources: [Resource] = []
) -> Target {
    .target(
        name: name,
        dependencies: dependencies,
        path: "Sources/Shared/\(name)",
        resources: resources,
        swiftSettings: settings
    )
}

func program(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: name,
        dependencies: dependencies,
        path: "Sources/\(name)",
        swiftSettings: settings
    )
}

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
    .testTarget(
        name: name,
        dependencies: dependencies,
        path: "Tests/\(name)",
        resources: resources,
        swiftSettings: settings
    )
}

let package = Package(
    name: "commune",
    products: [
        .executable(name: "commune-api", targets: ["API"]),
        .executable(name: "commune-inbound", targets: ["Inbound"]),
        .executable(name: "commune-worker", targets: ["Worker"]),
        .executable(name: "commune", targets: ["Commune"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/hummingbird-project/swift-mustache", from: "2.1.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: cLibraries + [
        shared("Platform", [crypto, lifecycle, log, metrics]),
        shared("Database", ["CPostgres", "Platform", lifecycle, log, metrics]),
        shared("Redis", ["CHiredis", "Platform", crypto, lifecycle, nio, nioPosix, nioSSL, log, metrics]),
        shared(
            "Queue",
            ["Database", "Redis", "Platform", lifecycle, log, metrics],
            resources: [.embedInCode("Scripts")]
        ),
        shared("Mail", ["COpenSSL", "CIconv", "CPublicSuffix", "CIDN2", crypto]),
        shared("DNS", ["CUnbound", "Mail", "Platform", log]),
        shared(
            "Blobs",
            ["Database", "Platform", crypto, httpClient, nio, nioHTTP, nioPosix]
        ),
        shared(
            "Validation",
            ["DNS", "Redis", "Mail", "Platform"],
            resources: [.embedInCode("disposable_domains.txt")]
        ),
        shared(
            "Store",
            ["Database", "Queue", "Mail", "Blobs", "Platform", crypto, log],
            resources: [.embedInCode("Migrations")]
        ),
        shared(
            "APIReference",
            [.product(name: "Yams", package: "Yams"), .product(name: "Mustache", package: "swift-mustache")],
            resources: [
                .embedInCode("openapi.yaml"), .embedInCode("page.mustache"), .embedInCode("field.mustache"),
            ]
        ),
        program(
            "API",
            [
                "APIReference", "Store", "Queue", "Database", "Redis", "Mail", "Blobs", "DNS", "Validation",
                "Platform", hummingbird, httpTypes, lifecycle, signals, crypto, nio, log, metrics,
            ]
        ),
        program(
            "Inbound",
            [
                "Store", "Queue", "Database", "Redis", "Mail", "Blobs", "DNS", "Platform", nio, nioPosix,
                nioSSL,
                lifecycle, signals, log, metrics,
            ]
        ),
        program(
            "Worker",
            [
                "Store", "Queue", "Database", "Redis", "Mail", "Blobs", "DNS", "Validation", "Platform",
                crypto,
                nio, nioPosix, nioSSL, nioTLS, lifecycle, signals, arguments, log, metrics,
            ]
        ),
        program(
            "Commune",
            ["Store", "Queue", "Database", "Redis", "Mail", "DNS", "Platform", arguments, log]
        ),
        .target(
            name: "TestSupport",
            dependencies: ["Database", "Platform", log],
            path: "Tests/Support",
            swiftSettings: settings
        ),
        tests("PlatformTests", ["Platform", "TestSupport"]),
        .target(
            name: "FuzzTargets",
            dependencies: ["Mail"],
            path: "Tests/FuzzTargets",
            swiftSettings: settings
        ),
        tests("MailTests", ["Mail", "FuzzTargets", "TestSupport"]),
        tests("DatabaseTests", ["Database", "Platform", "TestSupport", lifecycle, log]),
        tests("RedisTests", ["Redis", "Platform", "TestSupport", lifecycle, log]),
        tests("DNSTests", ["DNS", "Mail", "Platform", "TestSupport", log]),
        tests("ValidationTests", ["Validation", "DNS", "Redis", "Platform", "TestSupport", log]),
        tests("QueueTests", ["Queue", "Store", "Database", "Redis", "Platform", "TestSupport", log]),
        tests("BlobsTests", ["Blobs", "Platform"]),
        tests("StoreTests", ["Store", "Queue", "Database", "Blobs", "Mail", "Platform", "TestSupport", log]),
        tests(
            "APITests",
            [
                "API", "APIReference", "Store", "Queue", "Database", "Redis", "Mail", "Blobs", "Platform",
                "TestSupport",
                hummingbird,
                .product(name: "HummingbirdTesting", package: "hummingbird"), httpTypes, nio, log,
            ]
        ),
        tests("InboundTests", ["Inbound", "DNS", "Platform", "TestSupport", log]),
        tests(
            "WorkerTests",
            [
                "Worker", "Store", "Queue", "Database", "Redis", "Mail", "Blobs", "DNS", "Validation",
                "Platform",
                "TestSupport", nio, nioPosix, nioSSL, nioTLS, log,
            ],
            resources: [.copy("Dialogues")]
        ),
    ],
    swiftLanguageModes: [.v6]
)

// scripts/fuzz: libFuzzer brings the main function, so without it this program cannot be linked.
if Context.environment["COMMUNE_FUZZ"] != nil {
    package.products.append(.executable(name: "commune-fuzz", targets: ["Fuzz"]))
    package.targets.append(
        .executableTarget(
            name: "Fuzz",
            dependencies: ["FuzzTargets"],
            path: "Tests/Fuzz",
            swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])]
        )
    )
}
