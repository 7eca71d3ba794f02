// The newest word of a domain: its own nameservers before a resolver that knows an older one.

import DNS
import Mail
import Platform
import TestSupport
import Testing

@Suite("Fresh look-ups of a domain", .timeLimit(.minutes(1)))
struct FreshResolverTests {
    /// A resolver that asks `stale` for everything but what its own nameservers at `port` say.
    private func resolver(
        _ stale: DNSServer,
        nameserverPort port: Int,
        allowing network: String? = "127.0.0.0/8"
    ) throws -> UnboundResolver {
        var configuration = UnboundResolver.Configuration(
            server: HostPort(host: "127.0.0.1", port: stale.port),
            timeout: .seconds(2)
        )
        configuration.nameservers = .init(
            port: port,
            allowed: AddressFilter(allowing: [network.flatMap { Network($0) }].compactMap { $0 })
        )
        return try UnboundResolver(configuration, logger: quiet)
    }

    private let stale = [
        "example.test. 300 IN NS ns1.hoster.test.", "ns1.hoster.test. 300 IN A 127.0.0.1",
        "send.example.test. 300 IN TXT \"old\"", "new.example.test. 300 IN TXT \"old\"",
        "else.test. 300 IN TXT \"elsewhere\"",
    ]

    @Test("the domain's own nameservers are asked, also for a subdomain, and others for what leads away")
    func own() async throws {
        let old = try await DNSServer(stale)
        let nameserver = try await DNSServer([
            "send.example.test. 300 IN TXT \"new\"", "away.example.test. 300 IN CNAME else.test.",
            "send.example.test. 300 IN MX 10 b.platform.test.",
        ])
        let resolver = try resolver(old, nameserverPort: nameserver.port)
        #expect(try await resolver.lookup("send.example.test", .txt).texts == ["old"])
        for domain in ["example.test", "send.example.test"] {
            let fresh = try await resolver.fresh(for: domain)
            #expect(try await fresh.lookup("send.example.test", .txt).texts == ["new"])
            #expect(try await fresh.lookup("send.example.test", .mx).records.count == 1)
            await #expect(throws: DNSFault.noSuchName) { try await fresh.lookup("new.example.test", .txt) }
            #expect(try await fresh.lookup("away.example.test", .txt).texts == ["elsewhere"])
        }
    }

    @Test("nameservers that do not answer are passed by")
    func dead() async throws {
        let old = try await DNSServer(stale)
        let resolver = try resolver(old, nameserverPort: try ServerProcess.freePort())
        let fresh = try await resolver.fresh(for: "example.test")
        let clock = ContinuousClock()
        #expect(try await fresh.lookup("send.example.test", .txt).texts == ["old"])
        let start = clock.now
        #expect(try await fresh.lookup("new.example.test", .txt).texts == ["old"])
        let second = clock.now - start
        #expect(second < .seconds(1), "They were waited for a second time.")
    }

    @Test("nameservers at private addresses are not asked")
    func guarded() async throws {
        let old = try await DNSServer(stale)
        let nameserver = try await DNSServer(["send.example.test. 300 IN TXT \"new\""])
        let resolver = try resolver(old, nameserverPort: nameserver.port, allowing: nil)
        let fresh = try await resolver.fresh(for: "example.test")
        #expect(try await fresh.lookup("send.example.test", .txt).texts == ["old"])
    }

    @Test("more than may be under way wait for a place, and leave theirs to the next")
    func places() async throws {
        let old = try await DNSServer(stale)
        let resolver = try resolver(old, nameserverPort: try ServerProcess.freePort(), allowing: nil)
        var held: [FreshResolver] = []
        for _ in 0..<UnboundResolver.freshMax { held.append(try await resolver.fresh(for: "example.test")) }
        await #expect(throws: DNSFault.timedOut) { try await resolver.fresh(for: "example.test") }
        held.removeAll()
        for _ in 0..<2 * UnboundResolver.freshMax { _ = try await resolver.fresh(for: "example.test") }
    }

    @Test("each record's answer is what the DNS says, also when it is half there, fails, or is nonsense")
    func answers() async throws {
        let closed = try ServerProcess.freePort()
        let server = try await DNSServer(
            [
                "commune._domainkey.half.test. 60 IN TXT \"v=DKIM1; p=\" \"abc\"",
                "commune._domainkey.half.test. 60 IN TXT \"second\"",
                "send.half.test. 60 IN MX 20 other.test.", "half.test. 60 IN TXT \"nothing\"",
            ],
            forwarding: ["dead.test": "127.0.0.1@\(closed)"]
        )
        let configuration = UnboundResolver.Configuration(
            server: HostPort(host: "127.0.0.1", port: server.port),
            timeout: .seconds(2)
        )
        let resolver = try UnboundResolver(configuration, logger: quiet)
        func answers(_ name: String) async throws -> [RecordAnswer] {
            let records = DomainRecord.expected(
                for: try DomainName(name),
                rsa: ("commune", "p=a"),
                ed25519: ("commune-ed", "p=b"),
                receivingHost: "mx.test",
                bounceHost: "b.test",
                spfInclude: "s.test"
            )
            return try await resolver.fresh(for: name).answers(to: records)
        }
        let half = try await answers("half.test")
        guard case .texts(let keys) = half[0] else {
            Issue.record("\(half[0])")
            return
        }
        #expect(Set(keys) == ["v=DKIM1; p=abc", "second"])
        #expect(half[1] == .noSuchName)
        #expect(half[2] == .exchangers([.init(preference: 20, host: "other.test")]))
        #expect(half[3] == .texts([]))
        #expect(half[4] == .exchangers([]))
        for answer in try await answers("dead.test") {
            #expect(answer == .noAnswer("DNS failure: SERVFAIL"))
        }
    }
}
