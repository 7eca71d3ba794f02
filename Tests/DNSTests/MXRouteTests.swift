// Where a domain's mail goes (RFC 5321 §5.1, RFC 7505), over a real server.

import DNS
import TestSupport
import Testing

@Suite("MX route", .timeLimit(.minutes(1)))
struct MXRouteTests {
    @Test("each kind of domain has its answer")
    func kinds() async throws {
        let dead = try ServerProcess.freePort()
        try await withResolver(
            [
                "two.test. 60 IN MX 20 b.test.", "two.test. 60 IN MX 10 A.test.",
                "none.test. 60 IN A 192.0.2.1", "null.test. 60 IN MX 0 .",
                "mixed.test. 60 IN MX 0 .", "mixed.test. 60 IN MX 5 real.test.",
                "alias.test. 60 IN CNAME two.test.", "dangling.test. 60 IN CNAME gone.test.",
            ],
            forwarding: ["dead.test": "127.0.0.1@\(dead)"]
        ) { resolver, _ in
            let two = [Exchanger(host: "a.test", preference: 10), Exchanger(host: "b.test", preference: 20)]
            #expect(await resolver.exchangers(of: "two.test") == .hosts(two, secure: false))
            #expect(await resolver.exchangers(of: "alias.test") == .hosts(two, secure: false))
            #expect(await resolver.exchangers(of: "None.Test") == .implicit("none.test"))
            #expect(await resolver.exchangers(of: "null.test") == .nullMX)
            let mixed = [Exchanger(host: "real.test", preference: 5)]
            #expect(await resolver.exchangers(of: "mixed.test") == .hosts(mixed, secure: false))
            #expect(await resolver.exchangers(of: "gone.test") == .noSuchDomain)
            #expect(await resolver.exchangers(of: "dangling.test") == .noSuchDomain)
            #expect(await resolver.exchangers(of: "not a domain") == .noSuchDomain)
            guard case .temporary = await resolver.exchangers(of: "x.dead.test") else {
                Issue.record("a dead server is a temporary matter")
                return
            }
        }
    }

    @Test("equal preferences are shuffled, by the generator that is given, and never cross")
    func shuffled() async throws {
        let records = (0..<8).map { "many.test. 60 IN MX \($0 < 4 ? 10 : 20) h\($0).test." }
        try await withResolver(records) { resolver, _ in
            var orders: Set<[String]> = []
            for seed in 0..<50 {
                var generator = SeededGenerator(seed: UInt64(seed))
                let answer = await resolver.exchangers(of: "many.test", using: &generator)
                guard case .hosts(let hosts, _) = answer else {
                    Issue.record("\(answer)")
                    return
                }
                #expect(hosts.map(\.preference) == [10, 10, 10, 10, 20, 20, 20, 20])
                #expect(Set(hosts.prefix(4).map(\.host)) == ["h0.test", "h1.test", "h2.test", "h3.test"])
                orders.insert(hosts.map(\.host))
            }
            #expect(orders.count > 10)
        }
    }
}
