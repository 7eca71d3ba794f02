// Peers that say anything in any order: whatever they do, each recipient gets one fate, and nothing hangs.

import Logging
import Mail
import NIOPosix
import Platform
import TestSupport
import Testing

@testable import Worker

@Suite("Hostile SMTP peers")
struct DeliveryHostilityTests {

    private static let fragments = [
        "220 mail.example.test ESMTP\r\n", "250 Ok\r\n", "250-mail\r\n250-PIPELINING\r\n250 STARTTLS\r\n",
        "250-mail\r\n250 SIZE 5\r\n", "250 2.1.5 Ok\r\n250 2.1.5 Ok\r\n", "354 Go on\r\n",
        "354 Go on\r\n250 Ok\r\n",
        "450 4.2.0 Later\r\n", "550 5.1.1 No\r\n", "421 4.3.2 Bye\r\n", "503 5.5.1 What\r\n", "334 \r\n",
        "235 Ok\r\n",
        "250", "-", " ", "\r", "\n", "\r\n", "\u{0}", "99999999", "250-\r\n550 \r\n", "é\r\n",
        "\u{16}\u{3}\u{1}",
        String(repeating: "250-x\r\n", count: 40), String(repeating: "y", count: 3000),
    ]

    private static func part(_ generator: inout SeededGenerator) -> [SMTPPeer.Step] {
        // Most begin well, so that the later states are reached too.
        var steps: [SMTPPeer.Step] = []
        for opening in [fragments[0], fragments[2], fragments[1]].prefix(
            Int.random(in: 0...3, using: &generator)
        ) {
            steps += [.send(Array(opening.utf8)), .expectBytes]
        }
        for _ in 0..<Int.random(in: 0...10, using: &generator) {
            let fragment = fragments.randomElement(using: &generator) ?? ""
            steps.append(.send(Array(fragment.utf8)))
            if Bool.random(using: &generator) { steps.append(.expectBytes) }
        }
        return steps + [Bool.random(using: &generator) ? .close : .reset]
    }

    @Test("whatever a peer says, each recipient gets one fate", .timeLimit(.minutes(2)), arguments: 1...8)
    func anything(_ seed: UInt64) async throws {
        var generator = SeededGenerator(seed: seed)
        for round in 0..<25 {
            let peer = try await SMTPPeer([Self.part(&generator), Self.part(&generator)])
            var settings = Settings(["COMMUNE_SMTP_ROUTES": "*=127.0.0.1:\(peer.port)"])
            var configuration = Delivery.Configuration(reading: &settings)
            // A peer that waits for bytes while we wait for its reply would wait for minutes.
            configuration.timeouts.reply = .milliseconds(300)
            configuration.timeouts.data = .milliseconds(300)
            configuration.timeouts.endOfData = .milliseconds(300)
            configuration.timeouts.tlsHandshake = .milliseconds(300)
            let delivery = Delivery(configuration)
            let recipients = try ["a@example.test", "b@example.test"].map { try EmailAddress($0) }
            let outcomes = await delivery.attempt(
                Parcel(
                    sender: "",
                    recipients: recipients,
                    domain: "example.test",
                    message: Dialogue.short,
                    needsSMTPUTF8: false
                )
            )
            await delivery.close()
            await peer.finish()
            #expect(outcomes.count == 2, "seed \(seed), round \(round)")
            for outcome in outcomes {
                #expect(!outcome.isPaced, "seed \(seed), round \(round): \(outcome.transcript)")
                #expect(outcome.transcript.utf8.count < 200_000)
                #expect(!outcome.detail.utf8.contains(0))
            }
        }
    }
}
