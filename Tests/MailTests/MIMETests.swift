// What the MIME reader makes of single things.

import Foundation
import FoundationEssentials
import Testing

@testable import Mail

@Suite("the MIME reader")
struct MIMETests {
    private func read(_ text: String) -> ParsedMessage { MIMEReader.read(Array(text.utf8)) }

    @Test("text and HTML of an alternative, with a file and a picture")
    func whole() throws {
        let message = read(
            """
            From: =?utf-8?q?J=C3=B6rg?= <joerg@example.org>
            To: a@example.com, Team: b@example.com, "C, D" <c@example.com>;
            Subject: =?iso-8859-1?q?Gr=FC=DFe?=
            Date: Mon, 1 Jun 2026 10:00:00 +0200
            Message-ID: <1@example.org>
            In-Reply-To: <0@example.org>
            References: <a@x> <0@example.org>
            MIME-Version: 1.0
            Content-Type: multipart/mixed; boundary=m

            --m
            Content-Type: multipart/alternative; boundary=a

            --a
            Content-Type: text/plain; charset=utf-8

            Hallo
            --a
            Content-Type: multipart/related; boundary=r

            --r
            Content-Type: text/html

            <p>Hallo <img src="cid:p1">
            --r
            Content-Type: image/png; name="../../p.png"
            Content-ID: <p1>
            Content-Transfer-Encoding: base64

            AAEC
            --r--
            --a--
            --m
            Content-Type: application/pdf
            Content-Disposition: attachment; filename*=utf-8''%E2%82%AC.pdf

            PDF
            --m--
            """
        )
        #expect(message.subject == "Grüße")
        #expect(message.from.map(\.name) == ["Jörg"])
        #expect(message.to.map(\.address) == ["a@example.com", "b@example.com", "c@example.com"])
        #expect(message.text == "Hallo")
        #expect(message.html == "<p>Hallo <img src=\"cid:p1\">")
        #expect(message.messageID == "<1@example.org>")
        #expect(message.references == ["<a@x>", "<0@example.org>"])
        #expect(message.inReplyTo == ["<0@example.org>"])
        #expect(message.date?.date.timeIntervalSince1970 == 1_780_300_800)
        #expect(message.attachments.map(\.fileName) == ["p.png", "€.pdf"])
        #expect(message.attachments.map(\.isInline) == [true, false])
        #expect(message.attachments.map(\.contentID) == ["p1", nil])
        let picture = try #require(message.attachments.first)
        #expect(message.bytes(of: picture.part) == [0, 1, 2])
    }

    @Test(
        "what is no mail is still a text",
        arguments: [
            "", "just words", "\n\n\n", "Content-Type: multipart/mixed; boundary=x\n\nno delimiter", "\0\0\0",
            ": \n:\n\nx",
            "Content-Type: multipart/alternative\n\nno boundary", "Content-Type: ;;;\n\nx",
            "Content-Type: text/html",
        ]
    )
    func never(_ text: String) {
        let message = read(text)
        let body = text.contains("\n\n") ? text.split(separator: "\n\n").last.map(String.init) ?? "" : text
        if !text.hasPrefix("Content-Type: text/html"), body.contains(where: \.isLetter) {
            #expect(message.text?.contains(body.filter { $0 != "\0" }) == true)
        }
    }

    @Test("a delimiter that differs from the declared boundary is found")
    func wrongBoundary() {
        let message = read(
            "Content-Type: multipart/mixed; boundary=x\n\n--y\nContent-Type: text/plain\n\none\n--y--\n"
        )
        #expect(message.text == "one")
        #expect(message.parts.count == 2)
    }

    @Test("empty lines and an mbox line before the header")
    func leading() {
        #expect(read("\n\nSubject: a\n\nb").subject == "a")
        #expect(read("From x@y Mon Jan\nSubject: a\n\nb").subject == "a")
        #expect(read("\u{FEFF}Subject: a\n\nb").subject == "a")
    }

    @Test("a header without an empty line behind it")
    func missingEmptyLine() {
        let message = read("Subject: a\nTo: b@example.com\nHello there\nNote: this is text\n")
        #expect(message.text == "Hello there\nNote: this is text\n")
        #expect(
            read("Subject: a\nnoise without colon\nFrom: b@example.com\n\nx").from.map(\.address) == [
                "b@example.com"
            ]
        )
    }

    @Test("charsets", arguments: Sample.charsets)
    func charsets(_ sample: Sample) {
        let head = Array("Content-Type: text/plain; charset=\(sample.label)\r\n\r\n".utf8)
        #expect(MIMEReader.read(head + sample.bytes).text == sample.text)
    }

    @Test(
        "a charset that nobody knows, or none at all",
        arguments: [
            ([0xC3, 0xA4], "ä"), ([0xE4], "ä"), ([0x80], "€"), ([0x41], "A"),
        ] as [([UInt8], String)]
    )
    func unknownCharset(_ bytes: [UInt8], _ text: String) {
        for label in [
            "; charset=martian", "; charset=\"\"", "; charset=us-ascii", "", "; charset=utf-8//TRANSLIT",
        ] {
            #expect(MIMEReader.read(Array("Content-Type: text/plain\(label)\n\n".utf8) + bytes).text == text)
        }
    }

    @Test("a label that the bytes contradict")
    func wrongLabel() {
        for label in ["iso-8859-1", "windows-1251", "koi8-r"] {
            let head = Array("Content-Type: text/plain; charset=\(label)\n\n".utf8)
            #expect(MIMEReader.read(head + Array("Привет, мир".utf8)).text == "Привет, мир")
        }
    }

    @Test("no text holds a NUL, and lines end with LF")
    func normalized() {
        let message = read("Subject: a\0b\r\n\r\none\r\ntwo\0\rthree")
        #expect(message.text == "one\ntwo\nthree")
        #expect(message.subject == "ab")
    }

    @Test(
        "quoted-printable",
        arguments: [
            ("a=20b", "a b"), ("a=\r\nb", "ab"), ("a= \t\r\nb", "ab"), ("a \t\r\nb", "a\r\nb"),
            ("a=ZZ", "a=ZZ"), ("a=", "a"),
            ("=3d=3D", "=="), ("a=4", "a=4"), ("a\nb", "a\nb"), ("a  \nb  ", "a\nb  "),
        ]
    )
    func quotedPrintable(_ encoded: String, _ decoded: String) {
        #expect(
            String(decoding: TransferDecoding.quotedPrintable(Array(encoded.utf8)[...]), as: UTF8.self)
                == decoded
        )
    }

    @Test(
        "base64",
        arguments: [
            ("aGVsbG8=", "hello"), ("aGVs\r\nbG8", "hello"), ("aGVsbG8=aGVsbG8=", "hellohello"),
            ("!a!G!V!s!", "hel"),
            ("", ""), ("a", ""), ("====", ""), ("aGVsbG8=\r\n-- \r\n", "hello"),
        ]
    )
    func base64(_ encoded: String, _ decoded: String) {
        #expect(String(decoding: TransferDecoding.base64(Array(encoded.utf8)), as: UTF8.self) == decoded)
    }

    @Test("uuencode")
    func uuencode() {
        let message = read("Content-Transfer-Encoding: x-uuencode\n\nbegin 644 a.txt\n%:&5L;&\\\n`\nend\n")
        #expect(message.text == "hello")
    }

    @Test(
        "encoded words",
        arguments: [
            ("=?utf-8?B?w6TD?= =?utf-8?B?tsO8?=", "äöü"), ("a =?utf-8?q?=C3=A4?= b", "a ä b"),
            ("=?x?y?z?=", "=?x?y?z?="),
            ("=?utf-8*de?q?=C3=A4?=", "ä"), ("=?utf-8?q?a?=\t=?utf-8?q?b?=", "ab"),
            ("=?gb2312?B?0MK85A==?=", "新间"),
            ("=?utf-8?q?unclosed", "=?utf-8?q?unclosed"), ("plain", "plain"), ("=?utf-8?q?a_b?=c", "a bc"),
        ]
    )
    func encodedWords(_ encoded: String, _ decoded: String) {
        #expect(EncodedText.decode(Array(encoded.utf8)) == decoded)
    }

    @Test(
        "HTML as text",
        arguments: [
            ("<p>One</p><p>Two &amp; three</p>", "One\n\nTwo & three"), ("a<br>b<br><br>c", "a\nb\n\nc"),
            ("<style>x</style><script>y</script><title>t</title>z", "z"),
            ("<ul><li>a<li>b</ul>c", "- a\n- b\nc"),
            ("<ol><li>a</li><li>b</li></ol>", "1. a\n2. b"),
            ("<blockquote>q<br>r</blockquote>s", "> q\n> r\ns"),
            ("<pre>a  b\nc</pre>", "a  b\nc"), ("a <b>bold</b>  word", "a bold word"),
            ("x&nbsp;&nbsp;y", "x y"),
            ("<a href=\"https://e.org/x?a=1&amp;b=2\">Go</a>", "Go <https://e.org/x?a=1&b=2>"),
            ("<a href=\"https://e.org\">https://e.org</a>", "https://e.org"), ("1 < 2 & 3", "1 < 2 & 3"),
            ("<div style=\"display: none\">secret <div>x</div></div>shown", "shown"),
            ("<!-- no -->yes", "yes"),
            ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
            ("&#8364;&#x20AC;&#128;&euro;", "€€€€"),
            ("<img alt=\"Logo\" src=x>", "Logo"), ("<p", "<p"), ("", ""),
        ]
    )
    func html(_ html: String, _ text: String) {
        let expected = text == "<p" ? "" : text
        #expect(HTMLText.text(from: html) == expected)
    }

    @Test("a message of HTML alone has a text too")
    func htmlOnly() {
        let message = read("Content-Type: text/html; charset=utf-8\n\n<p>Hi <b>you</b></p>")
        #expect(message.text == "Hi you")
        #expect(message.html == "<p>Hi <b>you</b></p>")
    }
}

struct Sample: Sendable, CustomTestStringConvertible {
    let label: String
    let bytes: [UInt8]
    let text: String
    var testDescription: String { label }

    static let charsets: [Sample] = [
        Sample(label: "utf-8", bytes: [0xC3, 0xA4], text: "ä"),
        Sample(label: "ISO-8859-1", bytes: [0xE4], text: "ä"),
        Sample(label: "iso_8859-2", bytes: [0xB1], text: "ą"),
        Sample(label: "ISO88592", bytes: [0xB1], text: "ą"),
        Sample(label: "koi8-r", bytes: [0xC1], text: "а"),
        Sample(label: "windows-1251", bytes: [0xE0], text: "а"),
        Sample(label: "gb2312", bytes: [0xD6, 0xD0], text: "中"),
        Sample(label: "big5", bytes: [0xA4, 0xA4], text: "中"),
        Sample(label: "shift_jis", bytes: [0x82, 0xA0], text: "あ"),
        Sample(label: "euc-jp", bytes: [0xA4, 0xA2], text: "あ"),
        Sample(label: "iso-2022-jp", bytes: [0x1B, 0x24, 0x42, 0x24, 0x22, 0x1B, 0x28, 0x42], text: "あ"),
        Sample(label: "ks_c_5601-1987", bytes: [0xB0, 0xA1], text: "가"),
        Sample(label: "utf-7", bytes: Array("+AOQ-".utf8), text: "ä"),
        Sample(label: "utf-16le", bytes: [0xE4, 0x00], text: "ä"),
        Sample(label: "x-mac-roman", bytes: [0x8A], text: "ä"),
        Sample(label: "tis-620", bytes: [0xA1], text: "ก"),
        Sample(label: "gb2312", bytes: [0xD6, 0xFF, 0x41], text: "\u{FFFD}\u{FFFD}A"),
    ]
}
