// The numbers of mail.md, "Outbound", each on both sides of its edge.

import Foundation
import Mail
import NIOCore
import Platform
import Testing

@testable import Worker

@Suite("Limits of a delivery", .timeLimit(.minutes(2)))
struct DeliveryLimitsTests {
    /// A reply that a server may take its time for.
    struct Wait: Sendable, CustomTestStringConvertible {
        let stage: String
        /// Steps of the session before the wait.
        let place: Int
        /// The first second that is too late.
        let seconds: Int
        var testDescription: String { stage }
    }

    private static func say(_ text: String) -> SMTPPeer.Step { .send(Array("\(text)\r\n".utf8)) }

    private static let session: [SMTPPeer.Step] = [
        say("220 mail.example.test"), .expectLine("EHLO"), say("250 mail.example.test"), .expectLine("MAIL"),
        say("250 2.1.0 Ok"), .expectLine("RCPT"), say("250 2.1.5 Ok"), .expectLine("DATA"), say("354 Go on"),
        .expectMessage, say("250 2.0.0 Queued"), .expectLine("QUIT"), say("221 2.0.0 Bye"), .expectEnd,
    ]

    private static let waits = [
        Wait(stage: "greeting", place: 0, seconds: 300), Wait(stage: "EHLO", place: 2, seconds: 300),
        Wait(stage: "MAIL", place: 4, seconds: 300), Wait(stage: "RCPT", place: 6, seconds: 300),
        Wait(stage: "DATA", place: 8, seconds: 120), Wait(stage: "the final dot", place: 10, seconds: 600),
    ]

    private func delivery(
        to peer: SMTPPeer,
        clock: any DeliveryClock = EventLoopClock(),
        _ change: (inout Delivery.Configuration) -> Void = { _ in }
    ) -> Delivery {
        var settings = Settings(["COMMUNE_SMTP_ROUTES": "*=127.0.0.1:\(peer.port)"])
        var configuration = Delivery.Configuration(reading: &settings)
        change(&configuration)
        return Delivery(configuration, clock: clock)
    }

    private func parcel() throws -> Parcel {
        Parcel(
            sender: "sender@example.org",
            recipients: [try EmailAddress("a@example.test")],
            domain: "example.test",
            message: Dialogue.short,
            needsSMTPUTF8: false
        )
    }

    @Test("a reply one second before its time is over counts", arguments: waits)
    func inTime(_ wait: Wait) async throws {
        let clock = ManualClock()
        var steps = Self.session
        steps.insert(.wait(.seconds(wait.seconds - 1)), at: wait.place)
        let peer = try await SMTPPeer([steps], clock: clock)
        let delivery = delivery(to: peer, clock: clock)
        #expect(await delivery.attempt(try parcel()).first?.summary == "delivered 250 2.0.0 Queued")
        await delivery.close()
        await peer.finish()
        #expect(peer.faults == [])
    }

    @Test("when its time is over it is not waited for any more", arguments: waits)
    func late(_ wait: Wait) async throws {
        let clock = ManualClock()
        let steps = Self.session.prefix(wait.place) + [.wait(.seconds(wait.seconds)), .expectEnd]
        let peer = try await SMTPPeer([Array(steps)], clock: clock)
        let delivery = delivery(to: peer, clock: clock)
        let outcome = await delivery.attempt(try parcel()).first
        await delivery.close()
        await peer.finish()
        #expect(peer.faults == [])
        let expected =
            wait.stage == "the final dot"
            ? "unknown 451 4.4.2 Connection lost" : "deferred 451 4.4.2 Timed out"
        #expect(outcome?.summary.hasPrefix(expected) == true, "\(outcome?.summary ?? "")")
    }

    @Test("a connection is kept for five idle seconds, and ends politely then")
    func idle() async throws {
        let clock = ManualClock()
        let peer = try await SMTPPeer([[.serve], [.serve]], clock: clock)
        let delivery = delivery(to: peer, clock: clock)
        for (wait, connections) in [(4, 1), (4, 1), (5, 2)] {
            if peer.connections == 0 { _ = await delivery.attempt(try parcel()) }
            await clock.advance(by: .seconds(wait))
            #expect(await delivery.attempt(try parcel()).first?.summary == "delivered 250 2.0.0 Queued")
            #expect(peer.connections == connections, "after \(wait) s")
        }
        await delivery.close()
        await peer.finish()
        #expect(peer.lines.filter { $0 == "QUIT" }.count == 2)
    }

    @Test("a hundred messages go over one connection, the next needs another")
    func messages() async throws {
        let peer = try await SMTPPeer([[.serve], [.serve]])
        let delivery = delivery(to: peer) { $0.idle = .seconds(60) }
        for _ in 0..<100 { _ = await delivery.attempt(try parcel()) }
        #expect(peer.messages.count == 100)
        #expect(peer.connections == 1)
        _ = await delivery.attempt(try parcel())
        await delivery.close()
        await peer.finish()
        #expect(peer.messages.count == 101)
        #expect(peer.connections == 2)
        #expect(peer.faults == [])
    }

    @Test("the numbers are those of mail.md")
    func numbers() {
        let configuration = Delivery.Configuration()
        #expect(configuration.connectTimeout == .seconds(10))
        #expect(configuration.connectTimeoutOfSeveral == .seconds(5))
        #expect(configuration.addressesMax == 5)
        #expect(configuration.sessionsMax == 2)
        #expect(configuration.messagesPerConnectionMax == 100)
        #expect(configuration.idle == .seconds(5))
        #expect(configuration.sites.exchangersStart == 5)
        #expect(configuration.timeouts.reply == .seconds(300))
        #expect(configuration.timeouts.data == .seconds(120))
        #expect(configuration.timeouts.endOfData == .seconds(600))
        // A whole try, and the answer to its dot, end before the job's deadline.
        #expect(configuration.beforeDot + configuration.timeouts.endOfData < .seconds(20 * 60))
    }
}
