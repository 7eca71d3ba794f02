// DMARC aggregate reports: given to us, listed, summed up.

import Foundation
import HTTPTypes
import Hummingbird
import Mail
import NIOCore
import Platform
import Store

enum DMARCRoutes {
    /// Of a report as it is sent: packed, it may become `DMARCReport.sizeMax`.
    static let bodyMax = 10 << 20

    private struct View: Encodable, Sendable {
        let id: String
        let domain: String
        let reporterOrg: String
        let reporterEmail: String
        let reportId: String
        let dateRangeBegin: String
        let dateRangeEnd: String
        let policy: DMARCReportEntry.Policy
        let recordCount: Int
        let messageCount: Int
        let source: String
        let createdAt: String

        init(_ entry: DMARCReportEntry) {
            id = entry.id.description
            domain = entry.domain
            reporterOrg = entry.reporter
            reporterEmail = entry.reporterEmail
            reportId = entry.reportID
            dateRangeBegin = entry.begins.iso8601
            dateRangeEnd = entry.ends.iso8601
            policy = entry.policy
            recordCount = entry.recordCount
            messageCount = entry.messageCount
            source = entry.source
            createdAt = entry.createdAt.iso8601
        }
    }

    private struct Upload: Decodable {
        /// Base64 of the file.
        let content: String
    }

    /// Takes a report: the file itself (XML, gzip, ZIP, or a mail with it), or JSON with the file in base64.
    static func add(_ call: Call) async throws -> Answer {
        let report: DMARCReport
        do throws(DMARCReportFault) {
            report = try DMARCReport.read(fileOrMail: try file(call))
        } catch {
            if error == .tooLarge { throw APIError(.contentTooLarge, error.description) }
            throw APIError(.badRequest, error.description)
        }
        let (entry, isNew) = try await call.store.addDMARCReport(report, org: call.caller.org)
        return try Answer(isNew ? .created : .ok, Envelope(data: View(entry)))
    }

    /// Clients call everything JSON, so the first byte decides: no report begins with a brace.
    private static func file(_ call: Call) throws(DMARCReportFault) -> [UInt8] {
        let bytes = Array(call.body.readableBytesView)
        let first = bytes.first { !" \t\r\n".utf8.contains($0) }
        guard first == UInt8(ascii: "{") else { return bytes }
        guard let upload = try? call.decode(Upload.self),
            let file = Data(base64Encoded: upload.content, options: .ignoreUnknownCharacters)
        else { throw .notAReport }
        return Array(file)
    }

    static func list(_ call: Call) async throws -> Answer {
        let list = "dmarc-reports"
        let page = try await call.store.dmarcReports(
            org: call.caller.org,
            domain: try domain(call),
            after: try call.cursor(of: list),
            limit: try call.query("limit", in: 1...100, default: 50)
        )
        return try call.answer(page, of: list, View.init)
    }

    static func summary(_ call: Call) async throws -> Answer {
        let domain = try domain(call)
        let days = try call.query("days", in: 1...365, default: 30)
        let summary = try await call.store.dmarcSummary(org: call.caller.org, domain: domain, days: days)
        return try Answer(.ok, Envelope(data: SummaryView(summary, domain: domain, days: days)))
    }

    /// A name, in the form in which reports have it.
    private static func domain(_ call: Call) throws -> String? {
        guard let text = try call.query(text: "domain") else { return nil }
        guard let name = try? DomainName(text) else { throw call.invalid("domain", "is not a domain name.") }
        return name.ascii
    }
}

private struct SummaryView: Encodable, Sendable {
    struct Source: Encodable, Sendable {
        let ip: String
        let messages: Int
        let passed: Int
        let failed: Int
        let dkim: Int
        let spf: Int

        enum CodingKeys: String, CodingKey {
            case ip, messages, passed, failed
            case dkim = "dkim_aligned"
            case spf = "spf_aligned"
        }
    }

    let summary: DMARCSummary
    let domain: String?
    let days: Int

    init(_ summary: DMARCSummary, domain: String?, days: Int) {
        (self.summary, self.domain, self.days) = (summary, domain, days)
    }

    enum CodingKeys: String, CodingKey {
        case domain, days, reports, reporters, messages, passed, failed, dispositions, sources
        case passRate = "pass_rate"
        case dkim = "dkim_aligned"
        case spf = "spf_aligned"
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(domain, forKey: .domain)
        try container.encode(days, forKey: .days)
        try container.encode(summary.reports, forKey: .reports)
        try container.encode(summary.reporters, forKey: .reporters)
        try container.encode(summary.messages, forKey: .messages)
        try container.encode(summary.passed, forKey: .passed)
        try container.encode(summary.messages - summary.passed, forKey: .failed)
        try container.encode(summary.passRate, forKey: .passRate)
        try container.encode(summary.dkim, forKey: .dkim)
        try container.encode(summary.spf, forKey: .spf)
        try container.encode(
            ["none": summary.none, "quarantine": summary.quarantined, "reject": summary.rejected],
            forKey: .dispositions
        )
        try container.encode(
            summary.sources.map {
                Source(
                    ip: $0.address,
                    messages: $0.messages,
                    passed: $0.passed,
                    failed: $0.messages - $0.passed,
                    dkim: $0.dkim,
                    spf: $0.spf
                )
            },
            forKey: .sources
        )
    }
}
