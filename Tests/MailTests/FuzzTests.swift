// A short run of what scripts/fuzz does for hours: the same targets, mutations of small inputs, the same every time.
// Inputs that libFuzzer found lie in Fixtures/fuzz/<target> and are tried first.

import Foundation
import FuzzTargets
import TestSupport
import Testing

@Suite("Fuzz targets")
struct FuzzTests {
    private static let rounds = 1_500

    @Test("no mutation of an input crashes a reader or breaks its promise", arguments: FuzzTarget.allCases)
    func mutations(_ target: FuzzTarget) throws {
        let seeds = try target.seeds
        for seed in seeds {
            #expect(target.fault(in: seed) == nil, "\(String(decoding: seed, as: UTF8.self))")
        }
        let minutes = ProcessInfo.processInfo.environment["COMMUNE_FUZZ_MINUTES"].flatMap(Int.init) ?? 0
        let end = ContinuousClock.now + .seconds(60 * minutes)
        var generator = SeededGenerator(seed: minutes == 0 ? 20 : UInt64.random(in: 1...1_000_000))
        var round = 0
        while round < Self.rounds || ContinuousClock.now < end {
            round += 1
            var input = seeds[Int.random(in: 0..<seeds.count, using: &generator)]
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                Mutation.apply(to: &input, using: &generator)
            }
            if let fault = target.fault(in: input) {
                Issue.record("\(fault) \(Data(input).base64EncodedString())")
                return
            }
        }
    }
}

extension FuzzTarget {
    /// Fixtures, and inputs that reach most of the reader.
    fileprivate var seeds: [[UInt8]] {
        get throws {
            let folder = URL(filePath: #filePath).deletingLastPathComponent()
                .appending(path: "Fixtures/fuzz/\(rawValue)")
            let files =
                (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil))
                ?? []
            return try files.sorted { $0.path() < $1.path() }.map { Array(try Data(contentsOf: $0)) }
                + examples.map { Array($0.utf8) }
        }
    }

    private var examples: [String] {
        switch self {
        case .smtp:
            [
                "EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\n..y\r\n.\r\nQUIT\r\n",
                "HELO a\r\nSTARTTLS\r\nEHLO a\r\nMAIL FROM:<> SIZE=10 BODY=8BITMIME\r\nRSET\r\nNOOP\r\nVRFY x\r\nGET / HTTP/1.1\r\n",
                "EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<ab@d.example>\r\nRCPT TO:<abcd@d.example>\r\nDATA\r\na\n.\r\n\0.\r\n\r.\r\n.\n\r\n.\r\n",
                "a\n.\n\r\n.\r\r\n.\r\n", "..\r\n.\r\n.\r\n",
            ]
        case .mime:
            [
                "From: A <a@b.example>\r\nSubject: =?utf-8?B?w6Q=?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
                    + "Content-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>=E4</p>\r\n"
                    + "--b\r\nContent-Disposition: attachment; filename*0*=utf-8''..%2F; filename*1=x.pdf\r\n"
                    + "Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nz\r\n--b--\r\n",
                "To: group: a@b, \"c\" <d@e>;, (x) f@g\nDate: Tue, 1 Jul 2003 10:52:37 +0200\nReferences: <a@b> <c@d>\n\n> quoted\n-- \nme\n",
                "Content-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: x-uuencode\n\nbegin 644 x\n#86)C\n`\nend\n",
            ]
        case .address:
            [
                "a.b+c@example.com", "\"a b\"@example.com", "a@[IPv6:2001:db8::1]", "ä@bücher.example",
                "Name <a@b.example>", "\"\\\"\"@[192.0.2.1]", "a@xn--bcher-kva.example",
            ]
        case .dsn:
            [
                "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nSorry.\r\n--b\r\n"
                    + "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; m.example\r\n\r\nFinal-Recipient: rfc822; a@b.example\r\n"
                    + "Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
                    + "Return-Path: <bounce+x@send.c.example>\r\nList-Unsubscribe: <https://x/?token=abc>\r\nMessage-ID: <i@d.example>\r\n\r\nhi\r\n--b--\r\n",
                "From: MAILER-DAEMON@x.example\nSubject: failure notice\n\nI'm afraid I wasn't able to deliver your message.\n\n"
                    + "<a@b.example>:\nRemote host said: 552 5.2.2 mailbox full\n\n--- Below this line is a copy of the message.\n\n"
                    + "Return-Path: <x@y.example>\nMessage-ID: <m@n.example>\n",
                "Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\nContent-Type: message/feedback-report\n\n"
                    + "Feedback-Type: abuse\nOriginal-Mail-From: <a@b.example>\n--b\nContent-Type: message/rfc822\n\nMessage-ID: <a@b>\n\nx\n--b--\n",
            ]
        case .dmarc:
            [
                "<?xml version=\"1.0\"?><feedback><report_metadata><org_name>o&amp;p</org_name><report_id>r</report_id><date_range>"
                    + "<begin>1</begin><end>2</end></date_range></report_metadata><policy_published><domain>e.org</domain></policy_published>"
                    + "<record><row><source_ip>192.0.2.1</source_ip><count>7</count></row><auth_results><dkim><domain>e.org</domain>"
                    + "</dkim></auth_results></record><!-- c --><![CDATA[x]]></feedback>",
                "Content-Transfer-Encoding: base64\nContent-Type: application/gzip\n\nH4sIAAAAAAACAwMAAAAAAAAAAAA=\n",
            ]
        }
    }
}
