// Bounces, complaints and DMARC reports, real and broken.

import Foundation
import Testing

@testable import Mail

@Suite("reports")
struct ReportsTests {
    private func read(_ text: String) -> ParsedMessage { MIMEReader.read(Array(text.utf8)) }

    @Test("a delivery status notification of the RFC")
    func standard() throws {
        let message = read(
            """
            From: Mail Delivery System <MAILER-DAEMON@mx.example.com>
            To: bounce+abc@send.example.org
            Subject: Undelivered Mail Returned to Sender
            Content-Type: multipart/report; report-type=delivery-status; boundary=b

            --b

            Sorry.
            --b
            Content-Type: message/delivery-status

            Reporting-MTA: dns; mx.example.com
            Original-Envelope-Id: env1

            Final-Recipient: rfc822; nobody@example.com
            Action: failed
            Status: 5.1.1
            Remote-MTA: dns; mail.example.com
            Diagnostic-Code: smtp; 550 5.1.1 <nobody@example.com>:
             User unknown

            Final-Recipient: rfc822; slow@example.com
            Action: delayed
            Status: 4.4.1
            --b
            Content-Type: text/rfc822-headers

            Message-ID: <m1@example.org>
            To: nobody@example.com
            --b--
            """
        )
        let report = try #require(DeliveryReport.read(message))
        #expect(report.isStandard)
        #expect(report.originalMessageID == "<m1@example.org>")
        #expect(report.envelopeID == "env1")
        #expect(report.reportingMTA == "mx.example.com")
        #expect(report.recipients.map(\.address) == ["nobody@example.com", "slow@example.com"])
        #expect(report.recipients.map(\.action) == [.failed, .delayed])
        let first = try #require(report.recipients.first)
        #expect(first.status == EnhancedStatus(5, 1, 1))
        #expect(first.code == 550)
        #expect(first.remoteMTA == "mail.example.com")
        #expect(first.diagnostic == "550 5.1.1 <nobody@example.com>: User unknown")
        #expect(first.bounce?.consequence == .suppressNow)
        #expect(report.recipients.last?.bounce?.isPermanent == false)
    }

    @Test("a letter of qmail's")
    func letter() throws {
        let message = read(
            """
            Return-Path: <>
            From: MAILER-DAEMON@mx.example.com
            To: bounce+abc@send.example.org
            Subject: failure notice

            Hi. This is the qmail-send program at mx.example.com.
            I'm afraid I wasn't able to deliver your message to the following addresses.

            <nobody@example.com>:
            192.0.2.1 does not like recipient.
            Remote host said: 550 5.1.1 no such user

            <full@example.net>:
            Remote host said: 552 5.2.2 mailbox full

            --- Below this line is a copy of the message.

            Return-Path: <bounce+abc@send.example.org>
            Message-ID: <m2@example.org>
            To: nobody@example.com
            """
        )
        let report = try #require(DeliveryReport.read(message))
        #expect(!report.isStandard)
        #expect(report.originalMessageID == "<m2@example.org>")
        #expect(report.recipients.map(\.address) == ["nobody@example.com", "full@example.net"])
        #expect(report.recipients.map { $0.bounce?.reason } == [.userUnknown, .mailboxFull])
    }

    @Test(
        "ordinary mail is no report",
        arguments: [
            "From: a@example.com\nTo: b@example.org\nSubject: lunch\n\nMy mail to x@example.net could not be delivered, odd.",
            "From: a@example.com\nSubject: Re: hello\nAuto-Submitted: auto-replied\nIn-Reply-To: <a@b>\n\nI am away.",
            "Subject: x\n\n", "",
        ]
    )
    func ordinary(_ text: String) {
        #expect(DeliveryReport.read(read(text)) == nil)
        #expect(FeedbackReport.read(read(text)) == nil)
        #expect(throws: DMARCReportFault.notAReport) { try DMARCReport.read(read(text)) }
    }

    @Test("a complaint")
    func complaint() throws {
        let message = read(
            """
            Content-Type: multipart/report; report-type=feedback-report; boundary=b

            --b

            This is a complaint.
            --b
            Content-Type: message/feedback-report

            Feedback-Type: Abuse
            User-Agent: SomeGenerator/1.0
            Version: 1
            Original-Mail-From: <bounce+abc@send.example.org>
            Original-Rcpt-To: <user@example.com>
            Source-IP: 192.0.2.1
            --b
            Content-Type: message/rfc822

            Message-ID: <m3@example.org>
            Subject: offer

            buy
            --b--
            """
        )
        let report = try #require(FeedbackReport.read(message))
        #expect(report.feedbackType == "abuse")
        #expect(report.isComplaint)
        #expect(report.sender == "bounce+abc@send.example.org")
        #expect(report.recipients == ["user@example.com"])
        #expect(report.originalMessageID == "<m3@example.org>")
        #expect(DeliveryReport.read(message) == nil)
    }

    @Test("DMARC reports that are refused, each with its reason", arguments: RefusedReport.all)
    func refused(_ sample: RefusedReport) {
        #expect(throws: sample.fault) { try DMARCReport.read(file: sample.file) }
    }

    @Test("gzip and ZIP unpack to the XML they hold", arguments: [PackedReport.gzip, PackedReport.zip])
    func packed(_ base64: String) throws {
        let file = Array(try #require(Data(base64Encoded: base64, options: .ignoreUnknownCharacters)))
        let report = try DMARCReport.read(file: file)
        #expect(report.reportID == "r1")
        #expect(report.records.map(\.count) == [7])
        // Every damaged byte is a refusal or the same report, never a crash.
        for position in file.indices {
            var damaged = file
            damaged[position] ^= 0x55
            if let other = try? DMARCReport.read(file: damaged) { #expect(other == report) }
            _ = try? DMARCReport.read(file: Array(file.prefix(position)))
        }
    }

    @Test("a bomb of zeros is refused before it fills the memory")
    func bomb() throws {
        // A fixed-Huffman block of one literal and very many copies of it.
        var writer = BitWriter()
        writer.bits(1, 1)
        writer.bits(1, 2)
        writer.code(0x30, 8)
        for _ in 0..<200_000 {
            writer.code(0b1100_0101, 8)
            writer.code(0, 5)
        }
        #expect(throws: InflateFault.tooLarge) { try Inflate.inflate(writer.bytes, sizeMax: 1 << 30) }
    }
}

/// The corpora's bounces and reports.
@Suite("report corpora", .enabled(if: InboundCorpora.isPresent, "skipped, no corpora"))
struct ReportsCorporaTests {
    /// Of Sisimai's samples, those whose verdict differs, and why.
    static let disagreements: [String: String] = [
        "lhost-amazonses-01": "the status of the reply is 5.1.0, unknown address",
        "lhost-amazonses-10": "a notification of Amazon's own service, in JSON",
        "lhost-amazonses-12": "a notification of Amazon's own service, in JSON",
        "lhost-exim-51": "a sender's host that does not exist reads like a recipient's",
        "lhost-ezweb-02": "the letter says user unknown, at RCPT",
        "lhost-opensmtpd-12": "a delay is not permanent yet",
        "lhost-postfix-05": "a 450 is not permanent",
        "rfc3464-01": "one recipient is named, not two",
        "rfc3464-42": "the letter says that the account does not exist",
        "rhost-cox-01": "one recipient is named, not two",
        "rhost-messagelabs-03": "\"Rejected\" says nothing about the address",
        "lhost-yahoo-05": "5.2.1 is a disabled mailbox; it suppresses the address as well",
        "rfc3464-35": "\"not a registered gateway user\"",
    ]

    @Test("recipients and verdicts of Sisimai's samples agree for at least 95 in 100")
    func sisimai() throws {
        var total = 0
        var agreeing = 0
        var agreeingToTheLetter = 0
        var differing: Set<String> = []
        for path in InboundCorpora.files("sisimai/bsd", where: { $0.hasSuffix(".expected.json") }) {
            let stem = String(path.dropLast(".expected.json".count))
            guard let expected = try InboundCorpora.json(path) as? [[String: Any]] else { continue }
            let verdicts = Self.verdicts(MIMEReader.read(try InboundCorpora.bytes("\(stem).eml")), expected)
            total += expected.count
            let same = zip(expected, verdicts).count { Self.agrees($0, $1) }
            agreeing += same
            agreeingToTheLetter += zip(expected, verdicts).count {
                $0["hardbounce"] as? Bool == $1.isHard
            }
            if same < expected.count { differing.insert(String(stem.dropFirst("sisimai/bsd/".count))) }
        }
        #expect(total == 309)
        print(
            """
            Sisimai: \(agreeing) of \(total) recipients agree, \(agreeingToTheLetter) without "filtered" that says unknown
            """
        )
        for stem in differing.sorted() { print("  \(stem): \(Self.disagreements[stem] ?? "not explained")") }
        #expect(Double(agreeing) / Double(total) >= 0.95, "\(agreeing) of \(total)")
        #expect(
            differing.isSubset(of: Self.disagreements.keys),
            "\(differing.subtracting(Self.disagreements.keys))"
        )
    }

    private struct Verdict {
        let isHard: Bool
        let saysUnknown: Bool
    }

    private static func verdicts(_ message: ParsedMessage, _ expected: [[String: Any]]) -> [Verdict] {
        let soft = expected.map { _ in Verdict(isHard: false, saysUnknown: false) }
        switch expected.first?["reason"] as? String {
        case "feedback": return FeedbackReport.read(message) == nil ? [] : soft
        case "vacation": return DeliveryReport.read(message) == nil ? soft : []
        default:
            return (DeliveryReport.read(message)?.recipients ?? []).map { recipient in
                let bounce = recipient.bounce
                let isGone = bounce?.reason == .userUnknown || bounce?.reason == .hostUnknown
                return Verdict(
                    isHard: isGone && bounce?.isPermanent == true,
                    saysUnknown: bounce?.reason == .userUnknown
                )
            }
        }
    }

    /// Sisimai files "user unknown" of some hosts under "filtered", by the host alone; the words decide for us.
    private static func agrees(_ expected: [String: Any], _ verdict: Verdict) -> Bool {
        if expected["reason"] as? String == "filtered", verdict.saysUnknown { return true }
        return expected["hardbounce"] as? Bool == verdict.isHard
    }

    @Test(
        "bounces and complaints of the other collections are recognised",
        arguments: [
            "php-bounce-handler", "kumomta/rfc3464", "kumomta/rfc5965", "stalwart-mail-auth/arf",
        ]
    )
    func others(_ folder: String) throws {
        for path in InboundCorpora.files(folder, where: { $0.hasSuffix(".eml") || $0.hasSuffix(".txt") }) {
            guard !path.contains("LICENCE"), !path.hasSuffix("unsubscribe.txt") else { continue }
            let message = MIMEReader.read(try InboundCorpora.bytes(path))
            let isReport = DeliveryReport.read(message) != nil || FeedbackReport.read(message) != nil
            #expect(isReport, "\(path)")
        }
    }

    @Test("DMARC reports that are valid are read, the others refused with a reason")
    func dmarc() throws {
        let folders = [
            "parsedmarc/aggregate", "parsedmarc/extract_report", "opendmarc", "mox/dmarc-reports",
            "stalwart-mail-auth/dmarc-feedback",
        ]
        var count = 0
        for path in folders.flatMap({ InboundCorpora.files($0) }) where Self.isReport(path) {
            let file = try InboundCorpora.bytes(path)
            let isMail = path.hasSuffix(".eml")
            do {
                let report =
                    isMail ? try DMARCReport.read(MIMEReader.read(file)) : try DMARCReport.read(file: file)
                #expect(!report.records.isEmpty, "\(path)")
                #expect(!path.hasSuffix("invalid_xml.xml"))
                count += 1
            } catch {
                #expect(path.hasSuffix("invalid_xml.xml"), "\(path): \(error)")
            }
        }
        #expect(count == 21)
        #expect(throws: DMARCReportFault.notAReport) {
            try DMARCReport.read(file: try InboundCorpora.bytes("parsedmarc/empty.xml"))
        }
    }

    private static func isReport(_ path: String) -> Bool {
        [".xml", ".eml", ".zip", ".gz"].contains { path.hasSuffix($0) }
    }

    @Test("the inputs of extract_report unpack to the same report")
    func sameReport() throws {
        let plain = try DMARCReport.read(
            file: try InboundCorpora.bytes("parsedmarc/extract_report/nice-input.xml")
        )
        let zipped = try DMARCReport.read(
            file: try InboundCorpora.bytes("parsedmarc/extract_report/nice-input.xml.zip")
        )
        #expect(plain == zipped)
        #expect(plain.messageCount == 3_047)
    }
}

struct RefusedReport: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let file: [UInt8]
    let fault: DMARCReportFault

    private init(_ name: String, _ text: String, _ fault: DMARCReportFault) {
        testDescription = name
        file = Array(text.utf8)
        self.fault = fault
    }

    private static let head = "<report_metadata><report_id>r</report_id>"
    private static let range = "<date_range><begin>1</begin><end>2</end></date_range>"
    private static let policy = "<policy_published><domain>e.org</domain></policy_published>"

    static let all: [RefusedReport] = [
        RefusedReport("nothing", "", .notAReport),
        RefusedReport("another document", "<a><b/></a>", .notAReport),
        RefusedReport(
            "a document type",
            "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><feedback>&a;</feedback>",
            .forbiddenMarkup
        ),
        RefusedReport("an entity", "<feedback><email>&lol;</email></feedback>", .forbiddenMarkup),
        RefusedReport("wrong nesting", "<feedback><a></b></feedback>", .malformed(offset: 13)),
        RefusedReport("an end that is missing", "<feedback><a>", .malformed(offset: 13)),
        RefusedReport("no id", "<feedback>\(policy)</feedback>", .missing("report_metadata/report_id")),
        RefusedReport(
            "no domain",
            "<feedback>\(head)\(range)</report_metadata></feedback>",
            .missing("policy_published/domain")
        ),
        RefusedReport(
            "no range",
            "<feedback>\(head)</report_metadata>\(policy)</feedback>",
            .missing("report_metadata/date_range")
        ),
        RefusedReport(
            "a range that ends before it begins",
            "<feedback>\(head)<date_range><begin>3</begin><end>2</end></date_range></report_metadata>\(policy)</feedback>",
            .invalid("report_metadata/date_range")
        ),
        RefusedReport(
            "a count that is none",
            "<feedback>\(head)\(range)</report_metadata>\(policy)<record><row><source_ip>1.2.3.4</source_ip>"
                + "<count>many</count></row></record></feedback>",
            .invalid("record/row/count")
        ),
        RefusedReport("too deep", String(repeating: "<feedback>", count: 60), .tooLarge),
        RefusedReport("a broken archive", "PK\u{3}\u{4}rest", .brokenArchive),
    ]
}

/// RFC 1951 §3.1.1: bits of numbers from the lowest, of codes from the highest.
private struct BitWriter {
    var bytes: [UInt8] = []
    private var used = 8

    private mutating func bit(_ value: UInt8) {
        if used == 8 {
            bytes.append(0)
            used = 0
        }
        bytes[bytes.count - 1] |= value << UInt8(used)
        used += 1
    }

    mutating func bits(_ value: Int, _ count: Int) {
        for index in 0..<count { bit(UInt8(value >> index & 1)) }
    }
    mutating func code(_ value: Int, _ count: Int) {
        for index in (0..<count).reversed() { bit(UInt8(value >> index & 1)) }
    }
}

/// One small report, packed by Python's gzip and zipfile.
enum PackedReport {
    static let gzip = """
        H4sIAAAAAAACA2VQWw7CQAi8ivEAi+2PMUE8yma7xbqxXTa09XF7aRofiV8MMDNMwNNj6Dc31jFJPm4rt9ueCM/MbR \
        PilVC5iE5+4Cm0YQqEop3PYWAShA9+01JLWiF8OzQRew25M1LDXcpk+xUg55ZqhKUg/BLh72qRPsWnL3PTp/HCi7EM \
        wUzYWQhTrx0WypIZoZjJv0Y5ii5V7oSjzBrZp0LVoXY7VztL9h1ilDlPtEdYgYVaVPD2gM+PXpyX5fxDAQAA
        """

    static let zip = """
        UEsDBBQAAAAIAAAAIVCcl+X8tAAAAEMBAAAFAAAAYS54bWxlUFsOwkAIvIrxAIvtjzFBPMpmu8W6sV02tPVxe2kaH4 \
        lfDDAzTMDTY+g3N9YxST5uK7fbngjPzG0T4pVQuYhOfuAptGEKhKKdz2FgEoQPftNSS1ohfDs0EXsNuTNSw13KZPsV \
        IOeWaoSlIPwS4e9qkT7Fpy9z06fxwouxDMFM2FkIU68dFsqSGaGYyb9GOYouVe6Eo8wa2adC1aF2O1c7S/YdYpQ5T7 \
        RHWIGFWlTw9oDPj15QSwECFAMUAAAACAAAACFQnJfl/LQAAABDAQAABQAAAAAAAAAAAAAAgAEAAAAAYS54bWxQSwUG \
        AAAAAAEAAQAzAAAA1wAAAAAA
        """
}
