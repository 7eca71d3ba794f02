// Aggregate reports over HTTP: what is taken, what is refused and why, and what they say together.

import Foundation
import HTTPTypes
import Mail
import Platform
import Testing

@testable import API
@testable import Store

/// A report of two records: five messages that pass by DKIM, and three that fail.
struct DMARCSample: Sendable {
    var domain = "example.com"
    var reporter = "Reporter Inc."
    var id = "r-1"
    var age = 2
    var records: [(ip: String, count: Int, dkim: String, spf: String, disposition: String)] = [
        ("192.0.2.1", 5, "pass", "fail", "none"), ("198.51.100.9", 3, "fail", "fail", "reject"),
    ]

    var xml: String {
        let end = Int(Date().timeIntervalSince1970) - age * 86_400
        let rows = records.map {
            """
            <record><row><source_ip>\($0.ip)</source_ip><count>\($0.count)</count><policy_evaluated>\
            <disposition>\($0.disposition)</disposition><dkim>\($0.dkim)</dkim><spf>\($0.spf)</spf>\
            </policy_evaluated></row><identifiers><header_from>\(domain)</header_from></identifiers></record>
            """
        }
        return """
            <?xml version="1.0"?><feedback><report_metadata><org_name>\(reporter)</org_name>\
            <email>dmarc@reporter.test</email><report_id>\(id)</report_id><date_range><begin>\(end - 86_400)</begin>\
            <end>\(end)</end></date_range></report_metadata><policy_published><domain>\(domain)</domain><p>reject</p>\
            <pct>100</pct></policy_published>\(rows.joined())</feedback>
            """
    }

    var base64: String { Data(xml.utf8).base64EncodedString() }

    func read() throws -> DMARCReport { try DMARCReport.read(file: Array(xml.utf8)) }
}

@Suite("DMARC reports")
struct DMARCTests {
    private func add(_ platform: APIPlatform, _ body: [UInt8]) async throws -> Reply {
        try await platform.call(.post, "/v1/dmarc/reports", key: platform.key, raw: body)
    }

    @Test("a report is kept once, listed, and summed up by domain")
    func life() async throws {
        try await withPlatform { platform in
            _ = try await platform.makeDomain("mail.example.com")
            _ = try await platform.makeDomain("other.test")
            // The policy of a subdomain may be that of the registrable domain.
            let first = try await add(platform, Array(DMARCSample().xml.utf8))
            #expect(first.status == 201, "\(first.text)")
            let data = first.body["data"]
            #expect(data["reporterOrg"] == "Reporter Inc.")
            #expect(data["domain"] == "example.com")
            #expect(data["recordCount"] == 2)
            #expect(data["messageCount"] == 8)
            #expect(data["policy"]["p"] == "reject")
            let again = try await platform.post(
                "/v1/dmarc/reports",
                ["content": .string(DMARCSample().base64)]
            )
            #expect(again.status == 200)
            #expect(again.body["data"]["id"] == data["id"])
            // Another reporter, another id, another domain: three more; the last is too old for the summary.
            for sample in [
                DMARCSample(reporter: "Other"), DMARCSample(id: "r-2", age: 40),
                DMARCSample(domain: "other.test"),
            ] {
                #expect(try await add(platform, Array(sample.xml.utf8)).status == 201)
            }
            let list = try await platform.get("/v1/dmarc/reports?domain=EXAMPLE.com&limit=2")
            #expect(list.body["data"].elements.count == 2)
            #expect(list.body["has_more"] == true)
            let cursor = try #require(list.body["next_cursor"].string)
            let rest = try await platform.get("/v1/dmarc/reports?domain=example.com&limit=2&cursor=\(cursor)")
            #expect(rest.body["data"].elements.map { $0["reportId"] } == ["r-2"])
            let summary = try await platform.get("/v1/dmarc/summary?domain=example.com").body["data"]
            #expect(summary["reports"] == 2)
            #expect(summary["reporters"] == 2)
            #expect(summary["messages"] == 16)
            #expect(summary["passed"] == 10)
            #expect(summary["failed"] == 6)
            #expect(summary["pass_rate"] == .number(62.5))
            #expect(summary["dispositions"]["reject"] == 6)
            #expect(summary["sources"].elements.map { $0["ip"] } == ["192.0.2.1", "198.51.100.9"])
            let all = try await platform.get("/v1/dmarc/summary?days=365").body["data"]
            #expect(all["messages"] == 32)
            #expect(all["domain"] == .null)
            let none = try await platform.get("/v1/dmarc/summary?domain=unknown.test").body["data"]
            #expect(none["messages"] == 0)
        }
    }

    @Test("a mail with a report in it is taken too")
    func mail() async throws {
        try await withPlatform { platform in
            _ = try await platform.makeDomain("example.com")
            let mail = """
                From: dmarc@reporter.test\r\nSubject: Report domain: example.com\r\nMIME-Version: 1.0\r\n\
                Content-Type: application/octet-stream; name=report.xml\r\nContent-Transfer-Encoding: base64\r\n\r\n\
                \(DMARCSample().base64)\r\n
                """
            #expect(try await add(platform, Array(mail.utf8)).status == 201)
        }
    }

    @Test(
        "what is no report, or about somebody else's domain, is refused with the reason",
        arguments: [
            ("", "There is no DMARC aggregate report in it."),
            ("{}", "There is no DMARC aggregate report in it."),
            ("{\"content\": \"%%%\"}", "There is no DMARC aggregate report in it."),
            ("<feedback><report_metadata>", "The XML is malformed at byte 27."),
            (
                "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><feedback>&a;</feedback>",
                "There is no DMARC aggregate report in it."
            ),
            (
                "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"b\">]><feedback>&a;</feedback>",
                "The XML declares a document type or entities."
            ),
            ("<feedback><email>&lol;</email></feedback>", "The XML declares a document type or entities."),
            ("PK\u{3}\u{4}rest", "The archive is broken."),
            (
                DMARCSample(domain: "elsewhere.test").xml,
                "The report is about elsewhere.test, which is no domain of this organization."
            ),
            (
                DMARCSample(domain: "com").xml,
                "The report is about com, which is no domain of this organization."
            ),
        ]
    )
    func refused(_ body: String, _ reason: String) async throws {
        try await withPlatform { platform in
            _ = try await platform.makeDomain("example.com")
            let reply = try await add(platform, Array(body.utf8))
            #expect(reply.status == 400, "\(reply.text)")
            #expect(reply.error == reason)
            #expect(try await platform.get("/v1/dmarc/reports").body["data"].elements.isEmpty)
        }
    }
}
