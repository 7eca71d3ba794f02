// Every dialogue is played by a live peer against the whole delivery.

import DNS
import Logging
import Mail
import NIOPosix
import Platform
import Testing

@testable import Worker

@Suite("Dialogues with SMTP peers")
struct DeliveryDialogueTests {
    @Test("there are dialogues")
    func dialoguesExist() { #expect(Dialogue.all.count >= 40) }

    @Test(
        "a dialogue ends for each recipient as its file says",
        .timeLimit(.minutes(1)),
        arguments: Dialogue.all
    )
    func playing(_ dialogue: Dialogue) async throws {
        let clock = ManualClock()
        let peer = try await SMTPPeer(dialogue.parts, clock: clock, message: dialogue.message)
        var settings = Settings([
            "COMMUNE_SMTP_ROUTES": "*="
                + dialogue.route.replacing("HOST", with: "127.0.0.1:PORT").replacing(
                    "PORT",
                    with: "\(peer.port)"
                )
        ])
        var configuration = Delivery.Configuration(reading: &settings)
        #expect(settings.faults.isEmpty)
        configuration.hostname = "client.example.org"
        if dialogue.trusts { configuration.certificatesFile = try await TestCertificates.shared.file }
        let delivery = Delivery(configuration, clock: clock)
        let parcel = Parcel(
            sender: dialogue.from,
            recipients: try dialogue.to.map { try EmailAddress($0) },
            domain: "example.test",
            message: dialogue.message,
            needsSMTPUTF8: dialogue.needsUTF8
        )
        var outcomes: [RecipientOutcome] = []
        for _ in 0..<dialogue.tries { outcomes += await delivery.attempt(parcel) }
        await delivery.close()
        await peer.finish()

        #expect(peer.faults == [])
        #expect(peer.connections == dialogue.parts.count)
        let transcript = outcomes.map(\.transcript).joined(separator: "\n")
        try #require(outcomes.count == dialogue.expected.count, "\(outcomes.map(\.attempt))")
        for (outcome, expected) in zip(outcomes, dialogue.expected) {
            #expect(outcome.summary.hasPrefix(expected), "\(outcome.summary)\n\(transcript)")
        }
        #expect(outcomes.last?.tls == dialogue.tls, "\(transcript)")
        for secret in dialogue.forbidden { #expect(!transcript.contains(secret)) }
    }
}

extension RecipientOutcome {
    /// `delivered 250 2.0.0 Queued`, as the files write it.
    var summary: String {
        let fate =
            switch attempt {
            case .delivered: "delivered"
            case .deferred: isPaced ? "paced" : isOutcomeUnknown ? "unknown" : "deferred"
            case .bounced: "bounced"
            }
        return "\(fate) \(detail)"
    }
}

/// A resolver for deliveries that have no reason to ask.
struct NoDNS: DNS.Resolver {
    func lookup(
        _ name: String,
        _ type: RecordType,
        options: LookupOptions
    ) async throws(DNSFault) -> DNSAnswer {
        throw .serverFailure("this test has no DNS")
    }
}

extension Delivery {
    /// One with what tests have in common.
    init(
        _ configuration: Configuration,
        resolver: any DNS.Resolver = NoDNS(),
        ownDomains: OwnDomains? = nil,
        clock: any DeliveryClock = EventLoopClock()
    ) {
        self.init(
            configuration,
            resolver: resolver,
            ownDomains: ownDomains,
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            clock: clock
        )
    }
}
