import Foundation
import Testing

@testable import Mail

@Suite("Composing")
struct ComposeTests {
    static func draft(_ change: (inout Draft) throws -> Void = { _ in }) throws -> Draft {
        var draft = Draft(
            from: try Mailbox("Ada <ada@example.com>"),
            to: [try Mailbox("bob@example.org")],
            subject: "Hello",
            text: "Hi Bob\n",
            messageID: "<1@example.com>",
            date: Date(timeIntervalSince1970: 1_792_567_680),
            boundarySeed: "seed"
        )
        try change(&draft)
        return draft
    }

    private func text(_ draft: Draft) -> String { String(decoding: draft.compose(), as: UTF8.self) }

    private func header(_ name: String, of draft: Draft) throws -> String {
        let header = try #require(text(draft).components(separatedBy: "\r\n\r\n").first)
        let unfolded = header.replacing("\r\n ", with: " ").replacing("\r\n\t", with: "\t")
        let lines = unfolded.components(separatedBy: "\r\n").filter {
            $0.lowercased().hasPrefix("\(name.lowercased()):")
        }
        #expect(lines.count <= 1)
        return lines.first.map { String($0.dropFirst(name.count + 2)) } ?? ""
    }

    /// Rules that every composed message keeps.
    private func expectWireForm(_ bytes: [UInt8], _ comment: Comment? = nil) {
        #expect(bytes.allSatisfy { $0 < 0x80 && $0 != 0 }, comment)
        let lines = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\r\n")
        #expect(lines.last == "", comment)
        #expect(!lines.contains { $0.utf8.contains { $0 == 0x0D || $0 == 0x0A } }, comment)
        let end = lines.firstIndex(of: "") ?? 0
        #expect(lines[..<end].allSatisfy { $0.utf8.count <= 998 }, comment)
        #expect(lines[end...].allSatisfy { $0.utf8.count <= 78 }, comment)
    }

    @Test("a plain message, octet by octet")
    func plain() throws {
        #expect(
            text(try Self.draft()) == """
                From: Ada <ada@example.com>\r
                To: bob@example.org\r
                Subject: Hello\r
                Date: Wed, 21 Oct 2026 07:28:00 +0000\r
                Message-ID: <1@example.com>\r
                MIME-Version: 1.0\r
                Content-Type: text/plain; charset=utf-8\r
                Content-Transfer-Encoding: quoted-printable\r
                \r
                Hi Bob\r

                """
        )
    }

    @Test(
        "dates are right over the calendar's edges",
        arguments: [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"), (951_782_399, "Mon, 28 Feb 2000 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 +0000"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
            (-5, "Thu, 1 Jan 1970 00:00:00 +0000"),
        ]
    )
    func dates(_ seconds: Int, _ text: String) {
        let bytes = MailDate.bytes(Date(timeIntervalSince1970: TimeInterval(seconds)))
        #expect(String(decoding: bytes, as: UTF8.self) == text)
    }

    @Test(
        "subjects are encoded where they must be",
        arguments: [
            ("Hello  world", "Hello  world"), ("", ""), ("Grüße", "=?UTF-8?Q?Gr=C3=BC=C3=9Fe?="),
            ("日本語", "=?UTF-8?B?5pel5pys6Kqe?="), ("a =?b", "=?UTF-8?Q?a_=3D=3Fb?="),
            ("a\r\nBcc: x@y", "a  Bcc: x@y"), ("tab\there", "tab\there"), ("  blanks  ", "blanks"),
        ]
    )
    func subjects(_ subject: String, _ value: String) throws {
        let draft = try Self.draft { $0.subject = subject }
        #expect(text(draft).contains("\r\nSubject:\(value.isEmpty ? "" : " \(value)")\r\n"))
        expectWireForm(draft.compose())
    }

    @Test(
        "encoded words fold, stay short and never split a character",
        arguments: ["ü", "日", "🦊", "aü b", "👩‍👩‍👧 é"]
    )
    func encodedWords(_ piece: String) throws {
        let subject = String(repeating: piece, count: 100)
        let draft = try Self.draft { $0.subject = subject }
        expectWireForm(draft.compose())
        let value = try header("Subject", of: draft)
        var decoded: [UInt8] = []
        for word in value.split(separator: " ") {
            #expect(word.utf8.count <= 75 && word.hasPrefix("=?UTF-8?") && word.hasSuffix("?="))
            let content = word.dropFirst(10).dropLast(2)
            let octets: [UInt8]
            if word.hasPrefix("=?UTF-8?B?") {
                octets = Array(try #require(Data(base64Encoded: String(content))))
            } else {
                octets = Self.unquoted(String(content.replacing("_", with: " ")))
            }
            #expect(String(validating: octets, as: UTF8.self) != nil)
            decoded += octets
        }
        #expect(String(decoding: decoded, as: UTF8.self) == subject)
        let lines = text(draft).components(separatedBy: "\r\n")
        #expect(lines.prefix { !$0.isEmpty }.allSatisfy { $0.utf8.count <= 76 })
    }

    static func unquoted(_ text: String) -> [UInt8] {
        var output: [UInt8] = []
        let bytes = Array(text.utf8)
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "="), index + 2 < bytes.count {
                if bytes[index + 1] == 0x0D {
                    index += 3
                    continue
                }
                output.append(
                    UInt8(String(decoding: bytes[(index + 1)...(index + 2)], as: UTF8.self), radix: 16) ?? 0
                )
                index += 3
            } else {
                output.append(bytes[index])
                index += 1
            }
        }
        return output
    }

    @Test("names are quoted or encoded as they need it, lists fold, Bcc does not exist")
    func addresses() throws {
        let draft = try Self.draft {
            $0.from = try Mailbox("\"Lovelace, Ada \\\"A\\\"\" <ada@example.com>")
            $0.to = try (0..<40).map { try Mailbox("Person \($0) <person-\($0)@example.org>") }
            $0.cc = [try Mailbox("Jörg Müller <j@example.org>"), try Mailbox("J. R. <jr@example.org>")]
            $0.replyTo = try Mailbox("=?x <r@example.org>")
        }
        #expect(try header("From", of: draft) == "\"Lovelace, Ada \\\"A\\\"\" <ada@example.com>")
        #expect(
            try header("Cc", of: draft)
                == "=?UTF-8?Q?J=C3=B6rg_M=C3=BCller?= <j@example.org>, \"J. R.\" <jr@example.org>"
        )
        #expect(try header("Reply-To", of: draft) == "=?UTF-8?B?PT94?= <r@example.org>")
        #expect(try header("To", of: draft).components(separatedBy: ", ").count == 40)
        #expect(try header("Bcc", of: draft) == "")
        expectWireForm(draft.compose())
        let lines = text(draft).components(separatedBy: "\r\n")
        #expect(lines.allSatisfy { $0.utf8.count <= 78 })
    }

    @Test("a message to blind recipients alone says so")
    func blind() throws {
        #expect(try header("To", of: Self.draft { $0.to = [] }) == "undisclosed-recipients:;")
    }

    @Test(
        "texts survive their encoding",
        arguments: [
            "", "a", "a\n", "a\r\nb\rc\n\n\nd", "trailing blank \nand tab\t\n ", ".\n..\n.x\n",
            "From me\nFrom\n",
            "a=b==\n", String(repeating: "x", count: 3_000), String(repeating: "word ", count: 500),
            "Grüße aus Köln\n", "日本語のテキスト\nもう一行\n", "🦊\u{200D}🦊\n", "\u{0}\u{1}\n",
            String(repeating: "ü", count: 1_000), String(repeating: ". ", count: 200),
            String(repeating: "x", count: 74) + " \n" + String(repeating: "y", count: 75) + " \nFrom x",
        ]
    )
    func texts(_ text: String) throws {
        let draft = try Self.draft { $0.text = text }
        let bytes = draft.compose()
        expectWireForm(bytes)
        let whole = String(decoding: bytes, as: UTF8.self)
        let split = try #require(whole.range(of: "\r\n\r\n"))
        let body = String(whole[split.upperBound...])
        let decoded: [UInt8]
        if try header("Content-Transfer-Encoding", of: draft) == "base64" {
            decoded = Array(try #require(Data(base64Encoded: body, options: .ignoreUnknownCharacters)))
        } else {
            decoded = Self.unquoted(body)
            #expect(
                body.components(separatedBy: "\r\n").allSatisfy {
                    !$0.hasPrefix(".") && !$0.hasPrefix("From ")
                }
            )
            #expect(
                body.components(separatedBy: "\r\n").allSatisfy { !$0.hasSuffix(" ") && !$0.hasSuffix("\t") }
            )
            #expect(body.components(separatedBy: "\r\n").allSatisfy { $0.utf8.count <= 76 })
        }
        let lines = text.replacing("\r\n", with: "\n").replacing("\r", with: "\n")
        let expected = lines.hasSuffix("\n") ? lines : "\(lines)\n"
        let got = String(decoding: decoded, as: UTF8.self).replacing("\r\n", with: "\n")
        #expect((got.hasSuffix("\n") ? got : "\(got)\n") == expected)
    }

    @Test("text, HTML, inline images and files make the tree they should")
    func tree() throws {
        let draft = try Self.draft {
            $0.html = "<p>Hi <img src=\"cid:logo@x\"></p>"
            $0.attachments = [
                DraftAttachment(
                    fileName: "logo.png",
                    mimeType: "image/png",
                    content: [1, 2, 3],
                    contentID: "logo@x"
                ),
                DraftAttachment(
                    fileName: "Übersicht.pdf",
                    mimeType: "application/pdf",
                    content: Array(repeating: 7, count: 200)
                ),
                DraftAttachment(fileName: "", mimeType: "x\r\ny", content: []),
                DraftAttachment(fileName: "a/b\"c.txt", mimeType: "Text/Plain; charset=UTF-8", content: [65]),
                DraftAttachment(fileName: "m.eml", mimeType: "message/rfc822", content: [65]),
            ]
        }
        let whole = text(draft)
        expectWireForm(draft.compose())
        let types = whole.components(separatedBy: "\r\n").filter { $0.hasPrefix("Content-Type:") }
            .map { $0.dropFirst(14).prefix { $0 != ";" } }
        #expect(
            types == [
                "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html",
                "image/png",
                "application/pdf", "application/octet-stream", "text/plain", "application/octet-stream",
            ]
        )
        #expect(whole.contains("Content-ID: <logo@x>\r\n"))
        #expect(whole.contains("Content-Disposition: inline; filename=\"logo.png\"\r\n"))
        #expect(whole.contains("Content-Disposition: attachment; filename*=UTF-8''%C3%9Cbersicht.pdf\r\n"))
        #expect(whole.contains("Content-Disposition: attachment\r\n"))
        #expect(whole.contains("filename=\"b_c.txt\""))
        #expect(
            whole.contains("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n")
        )
        let boundaries = whole.components(separatedBy: "boundary=\"").dropFirst().compactMap {
            $0.split(separator: "\"").first
        }
        #expect(Set(boundaries).count == 3)
        for boundary in boundaries {
            #expect(whole.components(separatedBy: "\r\n--\(boundary)--\r\n").count == 2)
        }
    }

    @Test("long file names are cut into pieces that join to the name")
    func longFileName() throws {
        let name = String(repeating: "Größe 日本 ", count: 12) + ".pdf"
        let pieces = FileName.parameters(name).map { String(decoding: $0, as: UTF8.self) }
        #expect(pieces.count > 2)
        #expect(pieces.allSatisfy { $0.utf8.count <= 70 })
        #expect(pieces.enumerated().allSatisfy { $1.hasPrefix("filename*\($0)*=") })
        let joined = pieces.map { String($0.drop { $0 != "=" }.dropFirst()) }.joined().dropFirst(
            "UTF-8''".count
        )
        let decoded = String(joined).removingPercentEncoding
        #expect(decoded.map(name.hasPrefix) == true)
        #expect(decoded?.utf8.count ?? 0 <= 255)
    }

    @Test("the same draft composes the same bytes")
    func deterministic() throws {
        let draft = try Self.draft { $0.html = "<p>x</p>" }
        #expect(draft.compose() == draft.compose())
        var other = draft
        other.boundarySeed = "another"
        #expect(draft.compose() != other.compose())
    }

    @Test("references are checked, cut and folded")
    func references() throws {
        let many = (0..<60).map { "<\($0)@example.com>" }
        #expect(References.trimmed(many) == ["<0@example.com>"] + many.suffix(20))
        #expect(References.trimmed(Array(many.prefix(21))) == Array(many.prefix(21)))
        #expect(
            References.trimmed(["<a@b>", "<a@b>", "x", "<a b>", "<>", "<a@b\r\n>", "<ü@b>", "<c@d>"]) == [
                "<a@b>", "<c@d>",
            ]
        )
        #expect(
            References.answering(messageID: "<2@x>", references: ["<1@x>", "<2@x>", "<3@x>"]) == [
                "<1@x>", "<3@x>", "<2@x>",
            ]
        )
        let draft = try Self.draft {
            $0.references = many
            $0.inReplyTo = "<59@example.com>\r\nBcc: evil@example.com"
        }
        #expect(try header("References", of: draft).split(separator: " ").count == 21)
        #expect(try header("In-Reply-To", of: draft) == "")
        #expect(!text(draft).contains("evil"))
        expectWireForm(draft.compose())
    }

    @Test(
        "custom headers that are ours, broken or endless are refused",
        arguments: [
            ("From", "x"), ("bcc", "x"), ("DKIM-Signature", "x"), ("Content-Type", "x"),
            ("content-whatever", "x"),
            ("ARC-Seal", "x"), ("Resent-From", "x"), ("Return-Path", "x"), ("Received", "x"),
            ("References", "x"),
            ("", "x"), ("X Y", "x"), ("X:Y", "x"), ("X-Ü", "x"), ("X\r\nBcc", "x"), ("X-A", "a\r\nBcc: b"),
            ("X-A", "a\nb"), ("X-A", "a\u{0}b"), ("X-A", String(repeating: "a ", count: 1_025)),
            ("X-A", String(repeating: "a", count: 901)), (String(repeating: "X", count: 77), "x"),
            ("List-Unsubscribe", "<https://exämple.com>"),
        ]
    )
    func refusedHeaders(_ name: String, _ value: String) throws {
        #expect(HeaderRules.fault(name: name, value: value) != nil)
        // Composing leaves out what should never have come so far.
        let draft = try Self.draft { $0.headers = [DraftHeader(name: name, value: value)] }
        #expect(draft.compose() == (try Self.draft().compose()))
    }

    @Test(
        "custom headers that are allowed arrive",
        arguments: [
            ("X-Ticket", "42"), ("List-Unsubscribe", "<https://example.com/u>, <mailto:u@example.com>"),
            ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"), ("Auto-Submitted", "auto-generated"),
            ("X-Long", Array(repeating: "word", count: 200).joined(separator: " ")), ("X-Empty", ""),
            ("X-Run", String(repeating: "a", count: 499)),
        ]
    )
    func allowedHeaders(_ name: String, _ value: String) throws {
        #expect(HeaderRules.fault(name: name, value: value) == nil)
        let draft = try Self.draft { $0.headers = [DraftHeader(name: name, value: value)] }
        #expect(try header(name, of: draft) == value)
        expectWireForm(draft.compose())
    }

    @Test("a run too long for a line is sent as encoded words")
    func longRun() throws {
        let value = String(repeating: "a", count: 900)
        let draft = try Self.draft {
            $0.headers = [DraftHeader(name: "X-Run", value: value)]
            $0.subject = String(repeating: "s", count: 5_000)
        }
        expectWireForm(draft.compose())
        #expect(text(draft).components(separatedBy: "\r\n").allSatisfy { $0.utf8.count <= 78 })
    }
}
