// What a send says of its recipients: by a real DNS, a real Redis, and either of them away.

import Database
import Foundation
import HTTPTypes
import Platform
import Store
import TestSupport
import Testing

@testable import API

@Suite("The validation of a send")
struct RecipientValidationTests {
    /// A name of which no other test's verdict in the shared Redis is.
    private static func name() -> String { "d\(UInt64.random(in: 0...UInt64.max)).example" }

    private func body(_ inbox: Inbox, to: [String], cc: [String] = []) -> JSON {
        let body: JSON = ["subject": "Hello", "text": "t", "inboxId": .string(inbox.id.description)]
        let filled = body.with("to", .array(to.map { .string($0) }))
        return cc.isEmpty ? filled : filled.with("cc", .array(cc.map { .string($0) }))
    }

    private func jobs(_ platform: APIPlatform) async throws -> [String] {
        try await platform.database.query(
            .worker,
            "SELECT queue || ' ' || (payload ->> 'domain') AS line FROM jobs ORDER BY 1"
        ).map { try $0("line") }
    }

    private func recipients(_ platform: APIPlatform) async throws -> [String] {
        try await platform.database.query(
            .worker,
            "SELECT role || ' ' || address || ' ' || state AS line FROM recipients ORDER BY message_id, ordinal"
        ).map { try $0("line") }
    }

    private func finding(_ email: String, _ reason: String) -> JSON {
        ["email": .string(email), "reason": .string(reason)]
    }

    /// The API with a DNS of these records.
    private func withDNS(
        _ records: [String],
        settings: [String: String] = [:],
        _ body: @Sendable @escaping (APIPlatform, DNSServer) async throws -> Void
    ) async throws {
        let dns = try await DNSServer(records)
        let asking = ["COMMUNE_SMTP_ROUTES": "", "COMMUNE_DNS_SERVER": "127.0.0.1:\(dns.port)"]
        try await withPlatform(settings: asking.merging(settings) { $1 }) { try await body($0, dns) }
    }

    @Test("tells good from bad, leaves the bad out of message and jobs, and is not there when all are good")
    func mixed() async throws {
        let (good, null, missing, text) = (Self.name(), Self.name(), Self.name(), Self.name())
        let records = [
            "\(good). 60 IN MX 10 mx.\(good).", "\(null). 60 IN MX 0 .", "\(text). 60 IN TXT none",
            "mailinator.com. 60 IN MX 10 mx.mailinator.com.",
        ]
        try await withDNS(records) { platform, _ in
            let inbox = try await platform.makeInbox("sender")
            let fine = try await platform.send(body(inbox, to: ["a@\(good)"]))
            #expect(fine.status == 200 && fine.body["validation"] == .null, "\(fine.text)")
            try await platform.database.query(.worker, "DELETE FROM jobs")
            try await platform.database.query(.worker, "DELETE FROM recipients")

            let reply = try await platform.send(
                body(
                    inbox,
                    to: ["One <one@\(good)>", "gone@\(missing)", "nonsense", "NULL@\(null)"],
                    cc: ["x@mailinator.com", "text@\(text)", "gone@\(missing)"]
                )
            )
            #expect(reply.status == 200, "\(reply.text)")
            let validation = reply.body["validation"]
            #expect(
                validation["rejected"] == [
                    finding("nonsense", "Invalid email address"),
                    finding("gone@\(missing)", "No MX records found"),
                    finding("NULL@\(null)", "No MX records found"),
                    finding("text@\(text)", "No MX records found"),
                ]
            )
            #expect(validation["warnings"] == [finding("x@mailinator.com", "Disposable email domain")])
            #expect(validation["suppressed"] == [])
            guard case .number(let milliseconds) = validation["duration_ms"] else {
                Issue.record("\(validation)")
                return
            }
            #expect(milliseconds >= 0 && milliseconds < 60_000)
            #expect(try await jobs(platform) == ["send \(good)", "send mailinator.com"])
            #expect(
                try await recipients(platform) == ["to one@\(good) queued", "cc x@mailinator.com queued"]
            )
            let composed = try await platform.database.query(
                .worker,
                "SELECT composition::text AS text FROM message_bodies ORDER BY message_id DESC LIMIT 1"
            )
            let header: String = try only(composed)("text")
            #expect(header.contains(good) && !header.contains(missing) && !header.contains(null))
        }
    }

    @Test("when all recipients are bad it is 400 with every reason, and nothing is stored")
    func allBad() async throws {
        let (missing, null) = (Self.name(), Self.name())
        try await withDNS(["\(null). 60 IN MX 0 ."]) { platform, _ in
            let inbox = try await platform.makeInbox("sender")
            let before = try await platform.stored()
            let reply = try await platform.send(body(inbox, to: ["a@\(missing)", "b@\(null)", "@@"]))
            #expect(reply.status == 400)
            #expect(reply.error == "None of the recipients can be written to; nothing was sent.")
            #expect(
                reply.body["validation"]["rejected"] == [
                    finding("@@", "Invalid email address"), finding("a@\(missing)", "No MX records found"),
                    finding("b@\(null)", "No MX records found"),
                ]
            )
            let syntax = try await platform.send(body(inbox, to: ["plain", "a b@c.test"]))
            #expect(syntax.status == 400 && syntax.paths == ["to[0]", "to[1]"])
            #expect(
                syntax.body["validation"]["rejected"] == [
                    finding("plain", "Invalid email address"), finding("a b@c.test", "Invalid email address"),
                ]
            )
            #expect(try await platform.stored() == before)
        }
    }

    @Test("rejected and suppressed recipients together are everybody: 400 names both")
    func rejectedAndSuppressed() async throws {
        let (good, missing) = (Self.name(), Self.name())
        try await withDNS(["\(good). 60 IN MX 10 mx.\(good)."]) { platform, _ in
            let inbox = try await platform.makeInbox("sender")
            try await platform.database.query(
                .worker,
                """
                INSERT INTO suppressions (org_id, address_key, reason)
                VALUES (\(platform.org), \("off@\(good)"), 'manual')
                """
            )
            let reply = try await platform.send(body(inbox, to: ["Off@\(good)", "a@\(missing)"]))
            #expect(reply.status == 400)
            #expect(reply.body["validation"]["suppressed"] == [.string("Off@\(good)")])
            #expect(
                reply.body["validation"]["rejected"] == [finding("a@\(missing)", "No MX records found")]
            )
            let some = try await platform.send(
                body(inbox, to: ["off@\(good)", "on@\(good)", "a@\(missing)"])
            )
            #expect(some.status == 200)
            #expect(some.body["validation"]["suppressed"] == [.string("off@\(good)")])
            #expect(some.body["validation"]["rejected"].elements.count == 1)
        }
    }

    @Test("a line break in an address is an attempt on the header: 400, whoever else is fine")
    func lineBreaks() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("sender")
            let before = try await platform.stored()
            for text in ["x@y.test\r\nBcc: a@b.test", "A\n <x@y.test>", "x\0@y.test"] {
                let reply = try await platform.send(body(inbox, to: ["good@x.test", text]))
                #expect(reply.status == 400 && reply.paths == ["to[1]"], "\(reply.text)")
            }
            #expect(try await platform.stored() == before)
        }
    }

    @Test("a domain of which nothing is known in time is accepted, and judged by a job of its own")
    func unknown() async throws {
        let (good, silent) = (Self.name(), Self.name())
        try await withDNS(["\(good). 60 IN MX 10 mx.\(good)."]) { platform, dns in
            let inbox = try await platform.makeInbox("sender")
            #expect(try await platform.send(body(inbox, to: ["a@\(good)"])).status == 200)
            dns.kill()
            let clock = ContinuousClock()
            let begun = clock.now
            let reply = try await platform.send(body(inbox, to: ["a@\(good)", "b@\(silent)", "c@\(silent)"]))
            // 0.3 s for the DNS; the rest is what a busy machine may take.
            #expect(clock.now - begun < .seconds(5))
            #expect(reply.status == 200 && reply.body["validation"] == .null, "\(reply.text)")
            #expect(
                try await jobs(platform) == [
                    "send \(good)", "send \(good)", "validate-recipients \(silent)",
                ]
            )
            #expect(
                try await recipients(platform).suffix(2) == [
                    "to b@\(silent) queued", "to c@\(silent) queued",
                ]
            )
        }
    }

    @Test("our own domains need no DNS: the platform's, and verified ones of any organization; nor do routes")
    func ours() async throws {
        let (own, claimed, routed) = (Self.name(), Self.name(), Self.name())
        try await withDNS([], settings: ["COMMUNE_SMTP_ROUTES": "\(routed)=127.0.0.1:9"]) { platform, _ in
            let inbox = try await platform.makeInbox("sender")
            let stranger = try await platform.stranger()
            _ = try await platform.makeDomain(own, org: stranger.org)
            _ = try await platform.makeDomain(claimed, verified: false)
            let to = ["a@\(platformDomain)", "a@\(own)", "a@\(routed)", "a@\(claimed)"]
            for _ in 0..<2 {
                let reply = try await platform.send(body(inbox, to: to))
                #expect(reply.status == 200)
                #expect(
                    reply.body["validation"]["rejected"] == [finding("a@\(claimed)", "No MX records found")]
                )
            }
        }
    }

    @Test("without Redis and without a DNS a send is accepted all the same")
    func allAway() async throws {
        let nobody = try ServerProcess.freePort()
        let settings = [
            "COMMUNE_SMTP_ROUTES": "", "COMMUNE_DNS_SERVER": "127.0.0.1:\(nobody)",
            "REDIS_URL": "redis://127.0.0.1:\(nobody)/0",
        ]
        try await withPlatform(settings: settings) { platform in
            let inbox = try await platform.makeInbox("sender")
            let domain = Self.name()
            let reply = try await platform.send(body(inbox, to: ["a@\(domain)"]))
            #expect(reply.status == 200, "\(reply.text)")
            #expect(try await jobs(platform) == ["validate-recipients \(domain)"])
        }
    }

    @Test("fifty recipients whose domains are known cost a send no time")
    func cached() async throws {
        let domains = (0..<50).map { _ in Self.name() }
        try await withDNS(domains.map { "\($0). 60 IN MX 10 mx.\($0)." }) { platform, dns in
            let inbox = try await platform.makeInbox("sender")
            let all = body(inbox, to: domains.map { "a@\($0)" })
            #expect(try await platform.send(all).status == 200)
            dns.kill()
            // With one more that is disposable and known, the answer tells how long it took.
            let reply = try await platform.send(
                body(inbox, to: domains.dropLast().map { "a@\($0)" } + ["no"])
            )
            #expect(reply.status == 200)
            guard case .number(let milliseconds) = reply.body["validation"]["duration_ms"] else {
                Issue.record("\(reply.text)")
                return
            }
            #expect(milliseconds < 100)
            let judged = try await jobs(platform).filter { $0.hasPrefix("validate") }
            #expect(judged.isEmpty)
        }
    }

    @Test(
        "with an Idempotency-Key no transaction waits for the DNS, and the answer is kept with its validation"
    )
    func idempotent() async throws {
        let (good, missing) = (Self.name(), Self.name())
        try await withDNS(["\(good). 60 IN MX 10 mx.\(good)."]) { platform, _ in
            let inbox = try await platform.makeInbox("sender")
            let raw = try body(inbox, to: ["a@\(good)", "a@\(missing)"]).bytes
            var texts: Set<String> = []
            var headers = HTTPFields()
            headers[.idempotencyKey] = "once"
            for _ in 0..<2 {
                let reply = try await platform.call(
                    .post,
                    "/v1/messages/send",
                    key: platform.key,
                    raw: raw,
                    headers: headers
                )
                #expect(reply.status == 200)
                texts.insert(reply.text)
            }
            #expect(texts.count == 1 && texts.first?.contains("No MX records found") == true)
            #expect(try await platform.stored()["messages"] == 1)
        }
    }
}
