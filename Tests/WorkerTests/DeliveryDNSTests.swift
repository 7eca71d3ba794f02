// Where mail goes by the DNS: a real unbound, real peers.

import DNS
import Logging
import Mail
import Platform
import TestSupport
import Testing

@testable import Worker

@Suite("Delivery by MX")
struct DeliveryDNSTests {
    private let records =
        [
            "null.test. 60 IN MX 0 .",
            "textonly.test. 60 IN TXT nothing",
            "noaddress.test. 60 IN MX 10 gone.noaddress.test.",
            "private.test. 60 IN MX 10 mx.private.test.", "mx.private.test. 60 IN A 10.0.0.1",
            "mx.private.test. 60 IN AAAA ::1",
            "good.test. 60 IN MX 10 mx.good.test.", "mx.good.test. 60 IN A 127.0.0.1",
            "same.test. 60 IN MX 20 mx.good.test.",
            "alias.test. 60 IN CNAME good.test.",
            "cnamemx.test. 60 IN MX 10 alias.mx.test.", "alias.mx.test. 60 IN CNAME mx.good.test.",
            "implicit.test. 60 IN A 127.0.0.1",
            "second.test. 60 IN MX 10 mx.dead.test.", "second.test. 60 IN MX 20 mx.good.test.",
            "mx.dead.test. 60 IN A 127.0.0.9",
            "mixed.test. 60 IN MX 10 mx.private.test.", "mixed.test. 60 IN MX 20 mx.good.test.",
            "deadmx.test. 60 IN MX 10 mx.dead.test.", "deadmx.test. 60 IN A 127.0.0.1",
            "two.test. 60 IN MX 10 mx2.test.", "two.test. 60 IN MX 20 mx3.test.",
            "two.test. 60 IN MX 30 mx.good.test.",
            "mx2.test. 60 IN A 127.0.0.2", "mx3.test. 60 IN A 127.0.0.3",
            "many.test. 60 IN MX 10 mx.many.test.",
        ] + (1...8).map { "mx.many.test. 60 IN A 127.0.1.\($0)" }
        // The fifth server of one, and the sixth of the other, is the first that answers.
        + (1...4).flatMap {
            [
                "five.test. 60 IN MX \($0) mx\($0).dead.test.", "six.test. 60 IN MX \($0) mx\($0).dead.test.",
                "mx\($0).dead.test. 60 IN A 127.0.3.\($0)",
            ]
        } + [
            "five.test. 60 IN MX 5 mx.good.test.", "six.test. 60 IN MX 5 mx5.dead.test.",
            "mx5.dead.test. 60 IN A 127.0.3.5", "six.test. 60 IN MX 6 mx.good.test.",
        ]

    /// A delivery that may call loopback addresses on the peer's port.
    private func delivery(_ dns: DNSServer, port: Int) throws -> Delivery {
        var configuration = Delivery.Configuration()
        configuration.exchangerPort = port
        // Other tests keep the event loops busy.
        configuration.connectTimeoutOfSeveral = .seconds(30)
        configuration.hostname = "client.example.org"
        configuration.allowed = AddressFilter(allowing: [Network("127.0.0.0/8")].compactMap { $0 })
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let server = HostPort(host: "127.0.0.1", port: dns.port)
        let resolver = try UnboundResolver(
            UnboundResolver.Configuration(server: server, timeout: .seconds(1)),
            logger: logger
        )
        return Delivery(configuration, resolver: resolver)
    }

    private func parcel(_ domain: String) throws -> Parcel {
        Parcel(
            sender: "sender@example.org",
            recipients: [try EmailAddress("a@\(domain)")],
            domain: domain,
            message: Dialogue.short,
            needsSMTPUTF8: false
        )
    }

    @Test(
        "a domain that takes no mail, or of which nothing is known, ends as it must without a connection",
        .timeLimit(.minutes(1)),
        arguments: [
            ("null.test", "bounced 556 5.1.10"),
            ("unknown.test", "bounced 550 5.1.2 The domain does not exist"),
            ("textonly.test", "bounced 550 5.1.2 The domain exists"),
            ("noaddress.test", "bounced 550 5.4.4 None of the domain's mail servers"),
            ("private.test", "bounced 550 5.4.4 All mail servers"),
            ("servfail.test", "deferred 451 4.4.3"),
            ("[127.0.0.1]", "bounced 550 5.1.2 Mail to address literals"),
        ]
    )
    func settled(_ domain: String, _ expected: String) async throws {
        let closed = try ServerProcess.freePort()
        let dns = try await DNSServer(records, forwarding: ["servfail.test": "127.0.0.1@\(closed)"])
        let peer = try await SMTPPeer([])
        let delivery = try delivery(dns, port: peer.port)
        let recipient = try EmailAddress("a@example.test")
        let outcomes = await delivery.attempt(
            Parcel(
                sender: "",
                recipients: [recipient, recipient],
                domain: domain,
                message: Dialogue.short,
                needsSMTPUTF8: false
            )
        )
        #expect(outcomes.count == 2)
        for outcome in outcomes { #expect(outcome.summary.hasPrefix(expected), "\(outcome.summary)") }
        await peer.finish()
        #expect(peer.connections == 0)
    }

    @Test("a DNS that does not answer defers", .timeLimit(.minutes(1)))
    func timeout() async throws {
        let dns = try await DNSServer(records)
        let delivery = try delivery(dns, port: 1)
        dns.kill()
        let outcome = await delivery.attempt(try parcel("good.test")).first
        #expect(outcome?.summary.hasPrefix("deferred 451 4.4.3") == true, "\(outcome?.summary ?? "")")
    }

    @Test(
        "a message finds its way",
        .timeLimit(.minutes(1)),
        arguments: [
            ("good.test", "mx.good.test"), ("alias.test", "mx.good.test"), ("cnamemx.test", "alias.mx.test"),
            ("implicit.test", "implicit.test"), ("second.test", "mx.good.test"),
            ("mixed.test", "mx.good.test"),
        ]
    )
    func delivered(_ domain: String, _ host: String) async throws {
        let dns = try await DNSServer(records)
        let peer = try await SMTPPeer([[.serve]])
        let delivery = try delivery(dns, port: peer.port)
        let outcome = await delivery.attempt(try parcel(domain)).first
        await delivery.close()
        await peer.finish()
        #expect(outcome?.summary == "delivered 250 2.0.0 Queued", "\(outcome?.transcript ?? "")")
        #expect(outcome?.remoteMX == host)
        #expect(peer.faults == [])
    }

    @Test(
        "with an MX the domain's own address is never used, and a site out of reach rests",
        .timeLimit(.minutes(1))
    )
    func neverTheAddress() async throws {
        let dns = try await DNSServer(records)
        let peer = try await SMTPPeer([])
        let delivery = try delivery(dns, port: peer.port)
        let outcome = await delivery.attempt(try parcel("deadmx.test")).first
        let expected =
            "deferred 451 4.4.1 Connecting to mx.dead.test [127.0.0.9]:\(peer.port) failed: Connection refused"
        #expect(outcome?.summary == expected)
        #expect(outcome?.isPaced == false)
        let again = await delivery.attempt(try parcel("deadmx.test")).first
        #expect(again?.isPaced == true)
        #expect(again?.retryAfter.map { $0 <= .seconds(6) } == true)
        await peer.finish()
        #expect(peer.connections == 0)
    }

    @Test("domains of one MX set share a connection", .timeLimit(.minutes(1)))
    func sharedSite() async throws {
        let dns = try await DNSServer(records)
        let peer = try await SMTPPeer([[.serve]])
        let delivery = try delivery(dns, port: peer.port)
        for domain in ["good.test", "same.test", "alias.test"] {
            let outcome = await delivery.attempt(try parcel(domain)).first
            #expect(outcome?.summary == "delivered 250 2.0.0 Queued")
        }
        await delivery.close()
        await peer.finish()
        #expect(peer.connections == 1)
    }

    @Test(
        "a host that refuses the session is followed by the next, at most one more",
        .timeLimit(.minutes(1))
    )
    func sessions() async throws {
        let refusal = SMTPPeer.Step.send(Array("554 5.7.1 No service\r\n".utf8))
        let dns = try await DNSServer(records)
        let second = try await SMTPPeer(
            [[refusal, .expectEnd], [refusal, .expectEnd]],
            host: "127.0.0.2",
            port: try ServerProcess.freePort()
        )
        // One peer for both, for a port that was let go may still be held by a child of another test.
        let busy = SMTPPeer.Step.send(Array("421 4.3.2 Too busy\r\n".utf8))
        let third = try await SMTPPeer([[.serve], [busy, .close]], host: "127.0.0.3", port: second.port)
        let delivery = try delivery(dns, port: second.port)
        let delivered = await delivery.attempt(try parcel("two.test")).first
        #expect(delivered?.summary == "delivered 250 2.0.0 Queued")
        #expect(delivered?.transcript.contains("554 5.7.1 No service") == true)
        await delivery.close()
        let first = try await SMTPPeer([], host: "127.0.0.1", port: second.port)
        let fresh = try self.delivery(dns, port: second.port)
        let outcome = await fresh.attempt(try parcel("two.test")).first
        // What may pass weighs more than what is final, and the third host is left in peace.
        #expect(outcome?.summary == "deferred 421 4.3.2 Too busy")
        for peer in [first, second, third] {
            await peer.finish()
            #expect(peer.faults == [])
        }
        #expect(first.connections == 0)
    }

    @Test("at most five addresses are called", .timeLimit(.minutes(1)))
    func addresses() async throws {
        let dns = try await DNSServer(records)
        let delivery = try delivery(dns, port: try ServerProcess.freePort())
        let outcome = await delivery.attempt(try parcel("many.test")).first
        let calls = outcome?.transcript.split(separator: "\n").filter {
            $0.contains("failed: Connection refused")
        }
        #expect(calls?.count == 5, "\(outcome?.transcript ?? "")")
    }

    @Test("the fifth address may take the message, the sixth is never called", .timeLimit(.minutes(1)))
    func fifthAddress() async throws {
        let dns = try await DNSServer(records)
        let peer = try await SMTPPeer([[.serve]])
        let five = try delivery(dns, port: peer.port)
        #expect(await five.attempt(try parcel("five.test")).first?.remoteMX == "mx.good.test")
        await five.close()
        let six = try delivery(dns, port: peer.port)
        let outcome = await six.attempt(try parcel("six.test")).first
        await six.close()
        await peer.finish()
        #expect(outcome?.summary.hasPrefix("deferred 451 4.4.1 Connecting to mx5.dead.test") == true)
        #expect(peer.connections == 1)
    }

    @Test("public addresses that are our own are passed over, unless the operator allows them")
    func ourOwn() throws {
        let own = try #require(IPAddress("93.184.216.34"))
        let mapped = try #require(IPAddress("::ffff:93.184.216.34"))
        let guarded = AddressGuard(AddressFilter(), own: [own])
        #expect(guarded.verdict(on: own) == .ourOwn)
        #expect(guarded.verdict(on: mapped) == .ourOwn)
        #expect(guarded.verdict(on: try #require(IPAddress("127.0.0.1"))) == .notPublic)
        #expect(guarded.verdict(on: try #require(IPAddress("8.8.8.8"))) == .allowed)
        let allowing = AddressFilter(allowing: [try #require(Network("93.184.216.34"))])
        #expect(AddressGuard(allowing, own: [own]).verdict(on: own) == .allowed)
        #expect(AddressGuard.interfaceAddresses().contains(try #require(IPAddress("127.0.0.1"))))
    }
}
