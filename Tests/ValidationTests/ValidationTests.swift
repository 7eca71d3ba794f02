// Verdicts on recipient domains by a real DNS server and a real Redis, and the list of disposable domains.

import DNS
import Foundation
import Logging
import Platform
import Redis
import TestSupport
import Testing
import Validation

private let quiet = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

private func withVerdicts(
    _ records: [String],
    routed: Set<String> = [],
    hosted: @escaping @Sendable (Set<String>) throws -> Set<String> = { _ in [] },
    _ body: (DomainVerdicts, DNSServer) async throws -> Void
) async throws {
    let server = try await DNSServer(records)
    let resolver = try UnboundResolver(
        .init(server: HostPort(host: "127.0.0.1", port: server.port)),
        logger: quiet
    )
    let redis = Redis(try Redis.Configuration(url: try await RedisServer.sharedURL()), logger: quiet)
    let verdicts = DomainVerdicts(
        resolver: resolver,
        redis: redis,
        routed: RoutedDomains(routed),
        hosted: { try hosted($0) }
    )
    try await body(verdicts, server)
    await redis.close()
}

/// A name that no other test's verdict in the shared Redis is about.
private func name() -> String { "d\(UInt64.random(in: 0...UInt64.max)).example" }

@Suite("Verdicts on recipient domains")
struct DomainVerdictTests {
    @Test("follow the MX, the null MX, and without an MX the address")
    func byRecords() async throws {
        let (mx, null, address, text) = (name(), name(), name(), name())
        let records = [
            "\(mx). 300 IN MX 10 mail.\(mx).", "\(null). 300 IN MX 0 .", "\(address). 300 IN A 192.0.2.1",
            "\(text). 300 IN TXT \"no mail here\"",
        ]
        try await withVerdicts(records) { verdicts, _ in
            let missing = name()
            let found = await verdicts.verdicts(on: [mx, null, address, text, missing], within: .seconds(5))
            #expect(
                found == [
                    mx: .takesMail, null: .refusesMail, address: .takesMail, text: .noMailServer,
                    missing: .noMailServer,
                ]
            )
        }
    }

    @Test("are shared: a process that has no DNS answers what another has found")
    func shared() async throws {
        let domain = name()
        try await withVerdicts(["\(domain). 300 IN MX 10 mail.\(domain)."]) { verdicts, _ in
            #expect(await verdicts.verdicts(on: [domain], within: .seconds(5)) == [domain: .takesMail])
        }
        try await withVerdicts([]) { verdicts, server in
            server.kill()
            #expect(await verdicts.verdicts(on: [domain], within: .seconds(5)) == [domain: .takesMail])
        }
    }

    @Test("are unknown within the time limit when the DNS is silent, and that is not remembered")
    func silent() async throws {
        let domain = name()
        try await withVerdicts(["\(domain). 300 IN MX 10 mail.\(domain)."]) { verdicts, server in
            server.kill()
            #expect(await verdicts.verdicts(on: [domain], within: .milliseconds(300)) == [domain: .unknown])
            try await server.start()
            #expect(await verdicts.verdicts(on: [domain], within: .seconds(20)) == [domain: .takesMail])
        }
    }

    @Test("need no DNS where a route is configured")
    func routed() async throws {
        try await withVerdicts([], routed: ["routed.example"]) { verdicts, _ in
            let other = name()
            let found = await verdicts.verdicts(on: ["routed.example", other], within: .seconds(5))
            #expect(found == ["routed.example": .takesMail, other: .noMailServer])
        }
        let settings = Settings(["COMMUNE_SMTP_ROUTES": "Example.COM=127.0.0.1:25, b.test=smtp://u:p@h:25"])
        let domains = RoutedDomains(reading: settings)
        #expect(["example.com", "b.test"].allSatisfy(domains.contains))
        #expect(!domains.contains("c.test"))
        #expect(
            RoutedDomains(reading: Settings(["COMMUNE_SMTP_ROUTES": "*=h:25"])).contains("any.test")
        )
    }
}

extension DomainVerdictTests {
    @Test("of our own domains the DNS does not count; while that cannot be told nobody is rejected")
    func hosted() async throws {
        let (ours, missing) = (name(), name())
        try await withVerdicts([], hosted: { $0.intersection([ours]) }) { verdicts, _ in
            for _ in 0..<2 {
                let found = await verdicts.verdicts(on: [ours, missing], within: .seconds(5))
                #expect(found == [ours: .takesMail, missing: .noMailServer])
            }
        }
        struct Away: Error {}
        // Its verdict is in Redis by now.
        try await withVerdicts([], hosted: { _ in throw Away() }) { verdicts, _ in
            #expect(await verdicts.verdicts(on: [missing], within: .seconds(5)) == [missing: .unknown])
        }
    }

    @Test("cost a known domain no word to Redis or the DNS, and less than a millisecond")
    func cached() async throws {
        let domains = Set((0..<50).map { _ in name() })
        let records = domains.map { "\($0). 300 IN MX 10 mail.\($0)." }
        try await withVerdicts(records) { verdicts, server in
            let first = await verdicts.verdicts(on: domains, within: .seconds(10))
            #expect(first.values.allSatisfy { $0 == .takesMail } && first.count == 50)
            server.kill()
            let clock = ContinuousClock()
            let time = await clock.measure {
                for _ in 0..<100 { _ = await verdicts.verdicts(on: domains, within: .zero) }
            }
            #expect(time < .seconds(1), "100 times 50 domains took \(time)")
        }
    }
}

@Suite("Disposable domains")
struct DisposableDomainTests {
    @Test("the program's own list knows the well-known ones, and those below them")
    func builtIn() {
        var settings = Settings([:])
        let domains = DisposableDomains(reading: &settings)
        #expect(domains.count >= 300)
        #expect(domains.contains("mailinator.com") && domains.contains("sub.mailinator.com"))
        #expect(
            !domains.contains("gmail.com") && !domains.contains("com")
                && !domains.contains("notmailinator.org")
        )
    }

    @Test("the operator's file takes the list's place; one that cannot be read is a fault")
    func operatorsFile() throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try "# mine\nThrowAway.example  # comment\n\nbücher.example\n".write(
            to: file,
            atomically: true,
            encoding: .utf8
        )
        defer { try? FileManager.default.removeItem(at: file) }
        var settings = Settings(["COMMUNE_DISPOSABLE_DOMAINS": file.path])
        let domains = DisposableDomains(reading: &settings)
        #expect(settings.faults.isEmpty && domains.count == 2)
        #expect(domains.contains("throwaway.example") && domains.contains("xn--bcher-kva.example"))
        #expect(!domains.contains("mailinator.com"))
        var missing = Settings(["COMMUNE_DISPOSABLE_DOMAINS": "/nowhere/list"])
        _ = DisposableDomains(reading: &missing)
        #expect(missing.faults.map(\.variable) == ["COMMUNE_DISPOSABLE_DOMAINS"])
    }
}
