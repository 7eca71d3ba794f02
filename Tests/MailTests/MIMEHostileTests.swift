// Messages made to hurt, and real ones damaged at random: bounded time, bounded depth, never a crash, nothing dropped.

import Foundation
import TestSupport
import Testing

@testable import Mail

@Suite("the MIME reader and hostile mail")
struct MIMEHostileTests {
    private static let folders = [
        "mailcore2", "mime4j", "mimekit", "mikel-mail", "cpython-email", "enmime", "flanker",
        "spamscope-mail-parser",
        "nodemailer-mailparser", "php-mime-mail-parser", "zbateson", "rspamd-messages",
        "spamassassin-publiccorpus",
        "sisimai", "php-bounce-handler", "stalwart-mail-parser", "chasquid", "dkimpy",
        "postalsys-mailauth", "kumomta", "parsedmarc", "reply-parsing",
    ]

    @Test(
        "every sample of the corpora parses within a second",
        .enabled(if: InboundCorpora.isPresent, "skipped, no corpora")
    )
    func corpora() throws {
        var count = 0
        for path in Self.folders.flatMap({ InboundCorpora.files($0) }) {
            let raw = try InboundCorpora.bytes(path)
            let elapsed = ThreadTime.of { _ = MIMEReader.read(raw).extractedText }
            #expect(elapsed < .seconds(1), "\(path)")
            count += 1
        }
        #expect(count > 1_500)
    }

    @Test(
        "no sample of the corpora takes 200 MB",
        .enabled(if: InboundCorpora.isPresent, "skipped, no corpora")
    )
    func memory() throws {
        // Other tests run beside this one; what they take counts too, and there is room for it.
        var largest = (path: "", size: 0)
        for path in Self.folders.flatMap({ InboundCorpora.files($0) }) {
            let raw = try InboundCorpora.bytes(path)
            guard raw.count > 1 << 14 else { continue }
            let size = try ProcessMemory.peak { _ = MIMEReader.read(raw).extractedText }
            if size > largest.size { largest = (path, size) }
        }
        #expect(largest.size > 0)
        #expect(largest.size < 200 << 20, "\(largest)")
        print("Most memory for one sample: \(largest.size >> 20) MB, \(largest.path)")
    }

    @Test(
        "damaged real mail never crashes a parser",
        .enabled(if: InboundCorpora.isPresent, "skipped, no corpora"),
        arguments: [UInt64(1), 2, 3]
    )
    func damaged(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let paths = ["mimekit", "stalwart-mail-parser", "sisimai/bsd", "mikel-mail", "parsedmarc"].flatMap {
            InboundCorpora.files($0)
        }
        for _ in 0..<250 {
            var raw = try InboundCorpora.bytes(paths[Int.random(in: 0..<paths.count, using: &generator)])
            raw = Array(raw.prefix(20_000))
            for _ in 0..<5 { Mutation.apply(to: &raw, using: &generator) }
            Self.readEverything(raw)
        }
    }

    @Test("arbitrary syntax never crashes a parser")
    func arbitrary() {
        var generator = SeededGenerator(seed: 99)
        let pieces = [
            "Content-Type: multipart/mixed; boundary=a\r\n", "Content-Type: text/html; charset=x\r\n",
            "--a\r\n", "--a--\r\n",
            "\r\n", "Content-Transfer-Encoding: base64\r\n", "From: a <b@c>, d:e;\r\n", "=?utf-8?q?=ff?=",
            "<p>x</p>", "\0",
            "Content-Type: message/rfc822\r\n", "begin 644 x\r\n", " folded\r\n", "Subject: ",
            "name*0*=utf-8'%41", "(((((",
            "Date: 1 Jan 99 25:61\r\n", "\u{1B}$B", "<div style='display:none'>", "&#x110000;",
            "> quoted\r\n", "On 1 wrote:\r\n",
            "Final-Recipient: rfc822; a@b.c\r\n", "Content-Type: message/delivery-status\r\n",
            "<feedback><record>", "\"",
        ]
        for _ in 0..<3_000 {
            let count = Int.random(in: 1...12, using: &generator)
            let text = (0..<count).map { _ in pieces[Int.random(in: 0..<pieces.count, using: &generator)] }
                .joined()
            Self.readEverything(Array(text.utf8))
        }
    }

    static func readEverything(_ raw: [UInt8]) {
        let message = MIMEReader.read(raw)
        _ = (
            message.subject, message.from, message.to, message.date, message.references, message.extractedText
        )
        _ = (DeliveryReport.read(message), FeedbackReport.read(message), message.isAutomatic)
        _ = try? DMARCReport.read(message)
        _ = try? DMARCReport.read(file: raw)
        for part in message.parts {
            _ = (message.bytes(of: part.index), part.fileName, part.contentID)
            // Every part lies inside the message.
            #expect(part.headerStart <= part.body.upperBound && part.body.upperBound <= message.raw.count)
        }
        #expect(message.parts.count <= 1_000)
    }

    @Test("time grows with size, not faster", arguments: Bomb.all)
    func linear(_ bomb: Bomb) {
        let small = bomb.make(20_000)
        let large = bomb.make(160_000)
        _ = MIMEReader.read(small)
        let base = ThreadTime.of { Self.readEverything(small) }
        let grown = ThreadTime.of { Self.readEverything(large) }
        // Eight times the size; quadratic would be sixty-four. Small times are noise.
        #expect(grown < base * 30 + .milliseconds(500), "\(base) and \(grown)")
    }

    @Test("a hundred levels and no more; the rest stays in one piece")
    func depth() {
        var text = ""
        for level in 0..<300 {
            text += "Content-Type: multipart/mixed; boundary=b\(level)\r\n\r\n--b\(level)\r\n"
        }
        let message = MIMEReader.read(Array((text + "\r\ndeep\r\n").utf8))
        #expect(message.parts.count == 100)
        #expect(message.parts.last?.content == .leaf)
        #expect(String(decoding: message.raw[message.parts[99].body], as: UTF8.self).hasSuffix("deep\r\n"))
        let nested = MIMEReader.read(
            Array(String(repeating: "Content-Type: message/rfc822\r\n\r\n", count: 400).utf8)
        )
        #expect(nested.parts.count <= 100)
    }

    @Test("a thousand parts and no more; the rest stays in the last one")
    func parts() {
        let part = "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n"
        let text =
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + String(repeating: part, count: 1_500)
            + "--b--\r\n"
        let message = MIMEReader.read(Array(text.utf8))
        #expect(message.parts.count == 1_000)
        #expect(message.parts.last?.body.upperBound == message.raw.count)
    }
}

/// A message that grows where careless parsers are quadratic.
struct Bomb: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let make: @Sendable (Int) -> [UInt8]

    private init(_ name: String, _ head: String, _ piece: String, _ tail: String = "") {
        testDescription = name
        make = { size in
            Array((head + String(repeating: piece, count: size / max(1, piece.utf8.count)) + tail).utf8)
        }
    }

    static let all: [Bomb] = [
        Bomb("one long line", "Subject: x\r\n\r\n", "a"),
        Bomb("folds", "Subject: x\r\n", " y\r\n"),
        Bomb("blanks in a parameter", "Content-Type: text/plain; name=a", " "),
        Bomb("open comments in a type", "Content-Type: text/plain", "("),
        Bomb("parameters", "Content-Type: text/plain", "; a=b"),
        Bomb("continuations", "Content-Type: text/plain", "; a*1*=%41"),
        Bomb("open encoded words", "Subject: ", "=?utf-8?q?a "),
        Bomb("encoded words", "Subject: ", "=?utf-8?q?=e4?= "),
        Bomb("question marks", "Subject: ", "=?"),
        Bomb("addresses", "From: ", "a@b,"),
        Bomb("open brackets", "From: ", "<"),
        Bomb("open quotes", "From: ", "\"\\"),
        Bomb("open comments", "From: ", "("),
        Bomb("ids", "References: ", "<a@b> "),
        Bomb("open ids", "References: ", "<a"),
        Bomb(
            "delimiters of nobody",
            "Content-Type: multipart/mixed; boundary=zz\r\n\r\n",
            "--a\r\n",
            "--zz\r\n\r\nx"
        ),
        Bomb("dashes", "Content-Type: multipart/mixed; boundary=zz\r\n\r\n", "-", "\r\n--zz\r\n\r\nx"),
        Bomb("nested multiparts", "", "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"),
        Bomb("quoted-printable blanks", "Content-Transfer-Encoding: quoted-printable\r\n\r\n", "= ", "x"),
        Bomb("base64 padding", "Content-Transfer-Encoding: base64\r\n\r\n", "="),
        Bomb("bad charset bytes", "Content-Type: text/plain; charset=gb2312\r\n\r\n", "\u{FF}\u{80}"),
        Bomb("escapes", "Content-Type: text/plain\r\n\r\n", "\u{1B}("),
        Bomb("tags", "Content-Type: text/html\r\n\r\n", "<div>"),
        Bomb("open tags", "Content-Type: text/html\r\n\r\n", "<a href=\"x"),
        Bomb("open quotes in tags", "Content-Type: text/html\r\n\r\n", "<a b='>"),
        Bomb("open comments in HTML", "Content-Type: text/html\r\n\r\n", "<!--"),
        Bomb("hidden elements", "Content-Type: text/html\r\n\r\n", "<div style='display:none'>"),
        Bomb("quotations", "Content-Type: text/html\r\n\r\n", "<blockquote>x"),
        Bomb("links", "Content-Type: text/html\r\n\r\n", "<a href=http://x>y"),
        Bomb("ampersands", "Content-Type: text/html\r\n\r\n", "&"),
        Bomb("attributions", "Subject: x\r\n\r\n", "On 1\r\n"),
        Bomb("header lines in a text", "Subject: x\r\n\r\n", "From: 1\r\n"),
        Bomb("rules", "Subject: x\r\n\r\n", "____________________\r\n"),
        Bomb(
            "status groups",
            "Content-Type: message/delivery-status\r\n\r\n",
            "Final-Recipient: rfc822; a@b.c\r\nStatus: 5\r\n\r\n"
        ),
        Bomb(
            "addresses in a letter",
            "From: mailer-daemon@x\r\nSubject: failure notice\r\n\r\n",
            "a@b.c 550 5.1.1\r\n"
        ),
        Bomb("XML", "", "<feedback>"),
        Bomb("XML text", "<feedback>", "&amp;"),
    ]
}
