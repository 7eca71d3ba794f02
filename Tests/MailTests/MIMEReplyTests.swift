// What is left of an answer without what it answers.

import Testing

@testable import Mail

@Suite("extracted replies")
struct MIMEReplyTests {
    @Test(
        "quotations and signatures go, the reply stays",
        arguments: [
            ("Yes.\n\nOn Mon, 1 Jun 2026 at 10:00, A <a@b.c> wrote:\n> Shall we?\n", "Yes."),
            ("Yes.\r\n\r\nOn 1 Jun 2026, A wrote:\r\n\r\nShall we?\r\n", "Yes."),
            ("On 1 Jun 2026, A wrote:\n> One?\n\nYes.\n\n> Two?\n\nNo.", "Yes.\n\n\nNo."),
            ("Gerne!\n\nAm 01.06.2026 um 10:00 schrieb A <a@b.c>:\n> Kommst du?", "Gerne!"),
            ("Oui\n\nLe lun. 1 juin 2026 à 10:00, A <a@b.c> a écrit :\n\n> Viens-tu ?", "Oui"),
            ("はい\n\n2026年6月1日(月) 10:00 A <a@b.c>:\n> 来ますか", "はい"),
            ("Ok\n\n-----Original Message-----\nFrom: A\nSent: Monday\nTo: B\nSubject: x\n\nHi", "Ok"),
            ("Ok\n\nFrom: A <a@b.c>\nSent: Monday\nTo: B\nSubject: x\n\nHi", "Ok"),
            ("Ok\n________________________________\nVon: A\nGesendet: Montag\nAn: B\nBetreff: x\n\nHi", "Ok"),
            ("Done\n\n-- \nA\nPhone 1", "Done"), ("Done\n\nSent from my iPhone", "Done"),
            ("Done\n\nSent from my iPhone\n\nOn 1 Jun 2026, at 10:00, A <a@b.c> wrote:\n\n> x", "Done"),
            (
                "On the surface: nothing.\nOn Monday we wrote:\nno more.",
                "On the surface: nothing.\nOn Monday we wrote:\nno more."
            ),
            ("> only\n> quotation", "> only\n> quotation"), ("", ""), ("plain", "plain"),
            ("It comes From: a file.\nTo: be or not.\nEnd", "It comes From: a file.\nTo: be or not.\nEnd"),
        ]
    )
    func replies(_ text: String, _ reply: String) {
        #expect(ReplyText.extract(from: text) == reply)
    }

    @Test("the quotation of an HTML answer goes too")
    func html() {
        let html = """
            <div>Yes.</div><div class="gmail_quote">On Mon, 1 Jun 2026 at 10:00 A &lt;a@b.c&gt; wrote:<br>
            <blockquote>Shall we?<p>Soon?</blockquote></div>
            """
        #expect(ReplyText.extract(from: HTMLText.text(from: html)) == "Yes.")
    }

    /// Read otherwise, and why.
    static let disagreements: [String: String] = [
        "email_8.txt": "a quoted line was broken by some program, so its rest reads like an answer",
        "email_tricky_12_no_space_after_header.txt": "the sample begins with another text",
    ]

    @Test(
        "Crisp's samples: the first paragraph is the reply, whatever language quotes the rest",
        .enabled(if: InboundCorpora.isPresent, "skipped, no corpora")
    )
    func crisp() throws {
        var differing: Set<String> = []
        var count = 0
        for path in InboundCorpora.files("reply-parsing/crisp-oss", where: { $0.hasSuffix(".txt") }) {
            let text = String(decoding: try InboundCorpora.bytes(path), as: UTF8.self).replacing(
                "\r\n",
                with: "\n"
            )
            guard text.hasPrefix("Fusce bibendum") else { continue }
            count += 1
            let expected = text.split(separator: "\n", omittingEmptySubsequences: false).prefix(5)
                .joined(separator: "\n").trimmedASCII
            if ReplyText.extract(from: text) != expected {
                differing.insert(String(path.split(separator: "/").last ?? ""))
            }
        }
        #expect(count == 21)
        #expect(differing.isSubset(of: Self.disagreements.keys), "\(differing)")
    }

    @Test(
        "Talon's samples: Hello, whoever quotes",
        .enabled(if: InboundCorpora.isPresent, "skipped, no corpora")
    )
    func talon() throws {
        for path in InboundCorpora.files("reply-parsing/mailgun/standard_replies") {
            #expect(MIMEReader.read(try InboundCorpora.bytes(path)).extractedText == "Hello", "\(path)")
        }
        for path in InboundCorpora.files("reply-parsing/mailgun/html_replies") {
            let text = HTMLText.text(from: Charset.guess(try InboundCorpora.bytes(path)))
            let words = ReplyText.extract(from: text).split(whereSeparator: \.isWhitespace).joined(
                separator: " "
            )
            #expect(words == "Hi. I am fine. Thanks, Alex", "\(path)")
        }
    }
}
