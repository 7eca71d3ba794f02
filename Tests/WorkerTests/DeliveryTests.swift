// What a delivery does beyond one dialogue: cancellation, many at once, limits of connections.

import Logging
import Mail
import NIOPosix
import Platform
import Synchronization
import Testing

@testable import Worker

@Suite("Delivery")
struct DeliveryTests {
    private func delivery(
        to peer: SMTPPeer,
        _ change: (inout Delivery.Configuration) -> Void = { _ in }
    ) -> Delivery {
        var settings = Settings(["COMMUNE_SMTP_ROUTES": "*=127.0.0.1:\(peer.port)"])
        var configuration = Delivery.Configuration(reading: &settings)
        change(&configuration)
        return Delivery(configuration)
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

    private let opening: [SMTPPeer.Step] = [
        .send(Array("220 mail.example.test\r\n".utf8)), .expectLine("EHLO"),
        .send(Array("250 mail.example.test\r\n".utf8)), .expectLine("MAIL"),
    ]

    @Test("cancelled before the final dot, it closes at once and costs no attempt", .timeLimit(.minutes(1)))
    func cancelledBefore() async throws {
        let reached = AsyncStream<Void>.makeStream()
        let peer = try await SMTPPeer([opening + [.signal(reached.continuation), .expectEnd]])
        let delivery = delivery(to: peer)
        let parcel = try parcel()
        let task = Task { await delivery.attempt(parcel) { Issue.record("the dot was not reached") } }
        for await _ in reached.stream { break }
        task.cancel()
        let outcome = await task.value.first
        #expect(outcome?.summary.hasPrefix("paced 451 4.4.2 Given up") == true, "\(outcome?.summary ?? "")")
        await peer.finish()
        #expect(peer.faults == [])
    }

    @Test("cancelled past the final dot, it waits for the answer", .timeLimit(.minutes(1)))
    func cancelledAfter() async throws {
        let ok = SMTPPeer.Step.send(Array("250 2.0.0 Ok\r\n".utf8))
        let goOn = SMTPPeer.Step.send(Array("354 Go on\r\n".utf8))
        let rest: [SMTPPeer.Step] = [
            ok, .expectLine("RCPT"), ok, .expectLine("DATA"), goOn, .expectMessage, .gate, ok,
        ]
        let peer = try await SMTPPeer([opening + rest])
        let delivery = delivery(to: peer)
        let parcel = try parcel()
        let dot = AsyncStream<Void>.makeStream()
        let task = Task { await delivery.attempt(parcel) { dot.continuation.yield() } }
        for await _ in dot.stream { break }
        task.cancel()
        peer.openGate()
        #expect(await task.value.first?.summary == "delivered 250 2.0.0 Ok")
        await peer.finish()
        #expect(peer.faults == [])
    }

    @Test("cancelled before it began, it asks nobody for anything", .timeLimit(.minutes(1)))
    func cancelledAtOnce() async throws {
        let peer = try await SMTPPeer([])
        let delivery = delivery(to: peer)
        let parcel = try parcel()
        let outcome = await Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return await delivery.attempt(parcel)
        }.value.first
        #expect(outcome?.summary == "paced 451 4.4.5 The worker is stopping")
        await peer.finish()
        #expect(peer.connections == 0)
    }

    @Test("many at once share a few connections, never more than the site's limit", .timeLimit(.minutes(1)))
    func many() async throws {
        let peer = try await SMTPPeer(Array(repeating: [.serve], count: 200))
        let delivery = delivery(to: peer) {
            $0.sites.configuredStart = 2
            $0.sites.configuredMax = 4
        }
        let parcel = try parcel()
        let delivered = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<300 {
                group.addTask {
                    await delivery.attempt(parcel).first?.summary == "delivered 250 2.0.0 Queued"
                }
            }
            return await group.reduce(0) { $1 ? $0 + 1 : $0 }
        }
        await delivery.close()
        await peer.finish()
        #expect(delivered == 300)
        #expect(peer.openMax <= 4 + 1, "a connection that says QUIT makes room for the next")
        #expect(peer.connections <= 8)
        #expect(peer.faults == [])
    }

    @Test("a connection is closed after its most messages", .timeLimit(.minutes(1)))
    func messagesMax() async throws {
        let peer = try await SMTPPeer(Array(repeating: [.serve], count: 3))
        let delivery = delivery(to: peer) { $0.messagesPerConnectionMax = 2 }
        for _ in 0..<5 { #expect(await delivery.attempt(try parcel()).first?.remoteMX == "127.0.0.1") }
        await delivery.close()
        await peer.finish()
        #expect(peer.connections == 3)
        #expect(peer.faults == [])
    }

    @Test("closed, it takes no more work", .timeLimit(.minutes(1)))
    func closed() async throws {
        let peer = try await SMTPPeer([])
        let delivery = delivery(to: peer)
        await delivery.close()
        #expect(await delivery.attempt(try parcel()).first?.isPaced == true)
        await peer.finish()
        #expect(peer.connections == 0)
    }

    @Test("a configured name is read as the machine reads it", .timeLimit(.minutes(1)))
    func names() async throws {
        let peer = try await SMTPPeer([[.serve]])
        var settings = Settings(["COMMUNE_SMTP_ROUTES": "*=localhost:\(peer.port)"])
        let delivery = Delivery(Delivery.Configuration(reading: &settings))
        #expect(await delivery.attempt(try parcel()).first?.remoteMX == "localhost")
        await delivery.close()
        await peer.finish()
    }

    @Test("a name that nobody knows defers: a mistake of ours is no fault of the recipients'")
    func unknownName() async throws {
        var settings = Settings(["COMMUNE_SMTP_ROUTES": "*=no-such-host.invalid:25"])
        let delivery = Delivery(Delivery.Configuration(reading: &settings))
        let outcome = await delivery.attempt(try parcel()).first
        #expect(outcome?.summary.hasPrefix("deferred 451 4.4.3") == true, "\(outcome?.summary ?? "")")
    }

    @Test("a return path that is no address is refused by us")
    func badSender() async throws {
        let delivery = Delivery(Delivery.Configuration())
        let parcel = Parcel(
            sender: "not an address",
            recipients: [try EmailAddress("a@example.test")],
            domain: "example.test",
            message: [],
            needsSMTPUTF8: false
        )
        #expect(await delivery.attempt(parcel).first?.summary.hasPrefix("bounced 501 5.1.7") == true)
    }
}
