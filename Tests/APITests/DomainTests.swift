// Domains by HTTP: made with their records, listed with their inboxes, verified, and used.

import Database
import Foundation
import HTTPTypes
import Mail
import Platform
import Testing

@testable import Store

@Suite("Domains")
struct DomainTests {
    private let hosts = [
        "COMMUNE_MAIL_HOST": "mx.platform.test", "COMMUNE_BOUNCE_HOST": "bounce.platform.test",
        "COMMUNE_MAIL_HOST_EU_WEST_1": "mx.eu.platform.test", "COMMUNE_SPF_INCLUDE_EU_WEST_1": "spf.eu.test",
    ]

    @Test("a domain is made with its records, under either name of the field")
    func create() async throws {
        try await withPlatform(settings: hosts) { platform in
            let reply = try await platform.post("/v1/domains", ["name": "Mail.Bücher.example."])
            #expect(reply.status == 201, "\(reply.text)")
            let domain = reply.body["data"]
            #expect(domain["name"] == "mail.xn--bcher-kva.example")
            #expect(domain["displayName"] == "Mail.Bücher.example.")
            #expect(domain["status"] == "not_started")
            #expect(domain["region"] == "us-east-1")
            #expect(domain["inboxes"] == [])
            let records = domain["records"].elements
            #expect(
                records.map { $0["record"] } == ["DKIM", "DKIM", "SPF", "SPF", "Receiving", "DMARC"]
            )
            #expect(
                records.map { $0["name"] } == [
                    "commune._domainkey.mail", "commune-ed._domainkey.mail", "send.mail", "send.mail", "mail",
                    "_dmarc.mail",
                ]
            )
            #expect(records.allSatisfy { $0["status"] == "pending" && $0["ttl"] == "Auto" })
            #expect(records.allSatisfy { $0["expected"] == $0["value"] && $0["found"] == .null })
            #expect(records[0]["fqdn"] == "commune._domainkey.mail.xn--bcher-kva.example")
            #expect(records[0]["value"].string?.hasPrefix("v=DKIM1; k=rsa; p=") == true)
            #expect(records[2]["value"] == "bounce.platform.test")
            #expect(records[2]["priority"] == 10)
            #expect(records[3]["value"] == "v=spf1 include:agents.test ~all")
            #expect(records[4]["value"] == "mx.platform.test")
            let id = try #require(domain["id"].string)
            #expect(try await platform.get("/v1/domains/\(id)").body["data"] == domain)
            #expect(try await platform.get("/v1/domains/\(id)/records").body["data"] == domain["records"])
            #expect(try await platform.get("/v1/domains").body["data"] == [domain])

            let other = try await platform.post("/v1/domains", ["domain": "a.org", "region": "eu-west-1"])
            #expect(other.status == 201, "\(other.text)")
            let regional = other.body["data"]["records"].elements
            #expect(other.body["data"]["region"] == "eu-west-1")
            #expect(regional[4]["name"] == "@")
            #expect(regional[4]["value"] == "mx.eu.platform.test")
            #expect(regional[2]["value"] == "bounce.platform.test")
            #expect(regional[3]["value"] == "v=spf1 include:spf.eu.test ~all")
        }
    }

    @Test("what is no domain of one's own is refused by the field's name, and nothing is stored")
    func refused() async throws {
        try await withPlatform { platform in
            let before = try await platform.stored()
            let names: [JSON] = [
                "", ".", "com", "co.uk", "localhost", "github.io", "192.0.2.1", "[192.0.2.1]", "::1",
                "0x7f.1", "a b.com", "a..com", "-a.com", "a_b.com", "a@b.com", "https://a.com", "a.com/x",
                "a\0.com", "xn--.com", .string(String(repeating: "a", count: 64) + ".com"),
                .string(String(repeating: "abcdefg.", count: 29) + "com"), 5, [], [:],
            ]
            for name in names {
                let reply = try await platform.post("/v1/domains", ["name": name])
                #expect(reply.status == 400, "\(name): \(reply.text)")
                #expect(reply.paths == ["name"], "\(name): \(reply.text)")
            }
            let ip = try await platform.post("/v1/domains", ["name": "192.0.2.1"])
            #expect(ip.error.contains("IP address"))
            let suffix = try await platform.post("/v1/domains", ["name": "co.uk"])
            #expect(suffix.error.contains("public suffix"))
            for region: JSON in ["", "mars", 5] {
                let reply = try await platform.post("/v1/domains", ["name": "a.com", "region": region])
                #expect(reply.status == 400 && reply.paths == ["region"], "\(region): \(reply.text)")
            }
            #expect(try await platform.post("/v1/domains", [:]).paths == ["name"])
            #expect(try await platform.stored() == before)
        }
    }

    @Test("a name that one has, or that somebody has verified, is 409; one merely added elsewhere is not")
    func taken() async throws {
        try await withPlatform { platform in
            let stranger = try await platform.stranger()
            #expect(try await platform.post("/v1/domains", ["name": "mine.com"]).status == 201)
            #expect(try await platform.post("/v1/domains", ["name": "MINE.com"]).status == 409)
            let claimed = try await platform.post("/v1/domains", ["name": "mine.com"], key: stranger.key)
            #expect(claimed.status == 201)
            _ = try await platform.makeDomain("theirs.com", org: stranger.org)
            let late = try await platform.post("/v1/domains", ["name": "theirs.com"])
            #expect(late.status == 409)
            #expect(late.error.contains("verified"))
            #expect(try await platform.post("/v1/domains", ["name": .string(platformDomain)]).status == 409)
        }
    }

    @Test("verify answers with what the job found while it waited, and says what is missing")
    func verify() async throws {
        try await withPlatform { platform in
            let domain = try await platform.makeDomain("example.com", verified: false)
            let path = "/v1/domains/\(domain.id)"
            func verify(but others: [DomainRecord.Kind: RecordAnswer]) async throws -> JSON {
                async let answer = platform.call(.post, "\(path)/verify", key: platform.key, raw: nil)
                // The worker, as soon as the job is there.
                while try await platform.database.query(
                    .worker,
                    "DELETE FROM jobs WHERE queue = 'verify-domain' RETURNING id"
                ).isEmpty {
                    try await Task.sleep(for: .milliseconds(5))
                }
                try await platform.look(at: domain.id, but: others)
                let reply = try await answer
                #expect(reply.status == 200, "\(reply.text)")
                return reply.body["data"]
            }
            let half = try await verify(but: [
                .dkimRSA: .texts(["v=DKIM1; p=other"]), .returnPathMX: .noAnswer("DNS failure: SERVFAIL"),
                .receiving: .noSuchName,
            ])
            #expect(half["status"] == "pending")
            #expect(half["id"] == .string(domain.id.description))
            let records = half["records"].elements
            #expect(records[0]["status"] == "pending")
            #expect(records[0]["found"] == "v=DKIM1; p=other")
            #expect(records[0]["detail"].string?.contains("another one") == true)
            #expect(records[2]["found"] == "no answer: DNS failure: SERVFAIL")
            #expect(records[4]["found"].string?.hasPrefix("no record") == true)
            #expect(records[3]["status"] == "verified")
            let whole = try await verify(but: [:])
            #expect(whole["status"] == "verified")
            #expect(whole["records"].elements.allSatisfy { $0["status"] == "verified" })
            #expect(whole["verifiedAt"].string != nil)
        }
    }

    @Test("verify answers after three seconds when no worker takes the job")
    func verifyAlone() async throws {
        try await withPlatform { platform in
            let domain = try await platform.makeDomain("example.com", verified: false)
            let clock = ContinuousClock()
            let start = clock.now
            let reply = try await platform.post("/v1/domains/\(domain.id)/verify", [:])
            let spent = clock.now - start
            #expect(reply.status == 200)
            #expect(reply.body["data"]["status"] == "pending")
            #expect(spent >= .seconds(3) && spent < .seconds(8))
            #expect(try await platform.stored()["jobs"] == 1)
            // Another organization's, the platform's, and none.
            let stranger = try await platform.stranger()
            let theirs = try await platform.makeDomain("theirs.com", org: stranger.org)
            let shared = try await platform.store.platformDomain(named: platformDomain)
            for id in [theirs.id, shared.id, DomainID()] {
                #expect(try await platform.post("/v1/domains/\(id)/verify", [:]).status == 404)
            }
        }
    }

    @Test("domains are paged, each with its first inboxes and no secret of theirs")
    func list() async throws {
        try await withPlatform { platform in
            for number in 0..<5 {
                let domain = try await platform.makeDomain("d\(number).com", verified: number == 0)
                for name in ["one", "two"] {
                    _ = try await platform.makeInbox(
                        name,
                        on: domain,
                        webhook: WebhookChange(endpoint: "https://example.com/hook")
                    )
                }
            }
            let rows = try await platform.walk("/v1/domains", limit: 2)
            #expect(rows.map { $0["name"].string } == (0..<5).map { "d\($0).com" })
            for (number, row) in rows.enumerated() {
                #expect(row["inboxes"].elements.map { $0["localPart"] } == ["one", "two"])
                #expect(row["inboxes"][0].names == ["id", "localPart", "address"])
                #expect(row["inboxes"][0]["address"] == .string("one@d\(number).com"))
                #expect(row["records"].elements.count == 6)
            }
            #expect(try await !platform.get("/v1/domains").text.contains("whsec_"))
            for query in ["limit=0", "limit=101", "limit=x", "cursor=x"] {
                #expect(try await platform.get("/v1/domains?\(query)").status == 400, "\(query)")
            }
        }
    }

    @Test("the platform's domain can be asked for by the id that inboxes name, and is in no list")
    func shared() async throws {
        try await withPlatform { platform in
            let inbox = try await platform.makeInbox("mine")
            let stranger = try await platform.stranger()
            _ = try await platform.makeInbox("theirs", org: stranger.org)
            let reply = try await platform.get("/v1/domains/\(inbox.domain)")
            #expect(reply.status == 200)
            #expect(reply.body["data"]["status"] == "verified")
            #expect(reply.body["data"]["inboxes"].elements.map { $0["localPart"] } == ["mine"])
            #expect(try await platform.get("/v1/domains").body["data"] == [])
            let inboxes = try await platform.get("/v1/domains/\(inbox.domain)/inboxes")
            #expect(inboxes.body["data"].elements.map { $0["localPart"] } == ["mine"])
        }
    }

    @Test("nothing is sent from a domain before it is verified, by its inbox or its address")
    func unverified() async throws {
        try await withPlatform { platform in
            let domain = try await platform.makeDomain("example.com", verified: false)
            let made = try await platform.post("/v1/domains/\(domain.id)/inboxes", ["local_part": "support"])
            #expect(made.status == 201, "\(made.text)")
            let before = try await platform.stored()
            let senders: [(String, JSON)] = [
                ("inboxId", made.body["data"]["id"]), ("from", "support@example.com"),
                ("from", "Help <support@EXAMPLE.com>"),
            ]
            let body: JSON = ["to": "a@b.test", "subject": "s", "text": "t"]
            for (field, value) in senders {
                let reply = try await platform.send(body.with(field, value))
                #expect(reply.status == 400, "\(value): \(reply.text)")
                #expect(reply.error == "Domain not verified")
            }
            #expect(try await platform.stored() == before)
            _ = try await platform.store.requestVerification(of: domain.id, org: platform.org, hosts: [:])
            try await platform.look(at: domain.id)
            for (field, value) in senders {
                #expect(try await platform.send(body.with(field, value)).status == 200, "\(value)")
            }
        }
    }
}
