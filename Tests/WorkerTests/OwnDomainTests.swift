// Mail for our own domains: straight to our own inbound server, whatever the DNS says.

import Mail
import Platform
import Synchronization
import Testing

@testable import Worker

@Suite("Mail for our own domains", .timeLimit(.minutes(1)))
struct OwnDomainTests {
    private struct Unavailable: Error {}

    /// A list of domains that counts how often it is read.
    private final class Directory: Sendable {
        private let reads = Mutex(0)
        private let fails: Bool

        init(fails: Bool = false) { self.fails = fails }

        var count: Int { reads.withLock { $0 } }
        var domains: OwnDomains {
            OwnDomains {
                self.reads.withLock { $0 += 1 }
                if self.fails { throw Unavailable() }
                return ["agents.test"]
            }
        }
    }

    private func outcome(
        _ domain: String,
        _ variables: [String: String],
        _ own: OwnDomains?
    ) async throws -> RecipientOutcome? {
        var settings = Settings(variables)
        let delivery = Delivery(Delivery.Configuration(reading: &settings), ownDomains: own)
        #expect(settings.faults.isEmpty)
        let outcome = await delivery.attempt(
            Parcel(
                sender: "",
                recipients: [try EmailAddress("a@\(domain)")],
                domain: domain,
                message: Dialogue.short,
                needsSMTPUTF8: false
            )
        ).first
        await delivery.close()
        return outcome
    }

    @Test("a domain of ours and its bounce host go to our inbound, others by route or DNS")
    func routing() async throws {
        let (inbound, relay) = (
            try await SMTPPeer([[.serve], [.serve]]),
            try await SMTPPeer([[.serve], [.serve]], host: "127.0.0.2")
        )
        let own = Directory()
        let domains = own.domains
        let variables = ["COMMUNE_INBOUND_DELIVERY": "127.0.0.1:\(inbound.port)"]
        let star = variables.merging(["COMMUNE_SMTP_ROUTES": "*=127.0.0.2:\(relay.port)"]) { $1 }
        let named = variables.merging(["COMMUNE_SMTP_ROUTES": "agents.test=127.0.0.2:\(relay.port)"]) { $1 }
        #expect(try await outcome("agents.test", star, domains)?.remoteMX == "127.0.0.1")
        #expect(try await outcome("send.agents.test", variables, domains)?.remoteMX == "127.0.0.1")
        #expect(try await outcome("elsewhere.test", star, domains)?.remoteMX == "127.0.0.2")
        #expect(try await outcome("agents.test", named, domains)?.remoteMX == "127.0.0.2")
        #expect(
            try await outcome("elsewhere.test", variables, domains)?.summary.hasPrefix("deferred 451 4.4.3")
                == true
        )
        #expect(own.count == 1, "the list is kept for a while")
        for peer in [inbound, relay] { await peer.finish() }
        #expect(inbound.messages.count == 2)
        #expect(relay.messages.count == 2)
    }

    @Test("while the list cannot be read mail waits: it must not bounce for our own trouble")
    func unknown() async throws {
        let own = Directory(fails: true)
        let variables = ["COMMUNE_INBOUND_DELIVERY": "127.0.0.1:1"]
        let outcome = try await outcome("agents.test", variables, own.domains)
        #expect(outcome?.summary.hasPrefix("deferred 451 4.4.3 Whether") == true, "\(outcome?.summary ?? "")")
        // Without the setting nobody asks.
        let quiet = Directory(fails: true)
        _ = try await self.outcome("agents.test", [:], quiet.domains)
        #expect(quiet.count == 0)
    }

    @Test(
        "what is no server is a fault of the configuration",
        arguments: ["inbound", "host:0", "http://host:25"]
    )
    func faults(_ text: String) {
        var settings = Settings(["COMMUNE_INBOUND_DELIVERY": text])
        let configuration = Delivery.Configuration(reading: &settings)
        if text == "inbound" {
            #expect(configuration.inbound?.server == HostPort(host: "inbound", port: 25))
        } else {
            #expect(settings.faults.map(\.variable) == ["COMMUNE_INBOUND_DELIVERY"])
        }
    }
}

@Suite("The record of a try")
struct DeliveryRecordTests {
    @Test("a long one keeps its beginning and its end within 8 KiB, a short one everything")
    func bound() {
        var record = DeliveryRecord()
        record.note("first")
        #expect(record.text == "-- first")
        for number in 0..<38 { record.note("\(number) " + String(repeating: "ü", count: 290)) }
        record.note("last")
        let lines = record.text.split(separator: "\n")
        #expect(record.text.utf8.count <= DeliveryRecord.textOctetsMax)
        #expect(record.text.utf8.count > DeliveryRecord.textOctetsMax - 1_500)
        #expect(lines.first == "-- first")
        #expect(lines.contains("-- …"))
        #expect(lines.last == "-- last")
    }

    @Test("at the edge nothing is cut, one octet later the middle goes")
    func edge() {
        var record = DeliveryRecord()
        // 27 lines of 303 octets and their line breaks are 8,208 octets; the last is made to fit.
        for _ in 0..<26 { record.note(String(repeating: "x", count: 300)) }
        var longer = record
        let rest = DeliveryRecord.textOctetsMax - record.text.utf8.count - 1 - 3
        record.note(String(repeating: "y", count: rest))
        longer.note(String(repeating: "y", count: rest + 1))
        #expect(record.text.utf8.count == DeliveryRecord.textOctetsMax)
        #expect(!record.text.contains("…"))
        #expect(longer.text.utf8.count <= DeliveryRecord.textOctetsMax)
        #expect(longer.text.contains("-- …"))
    }

    @Test("a NUL, which PostgreSQL does not keep, is replaced")
    func nul() {
        var record = DeliveryRecord()
        record.note("a\0b")
        #expect(record.text == "-- a\u{fffd}b")
    }
}
