// Subjects, ids and snippets.

import TestSupport
import Testing

@testable import Mail

@Suite("threading")
struct ThreadingTests {
    @Test(
        "base subjects (RFC 5256 §2.1)",
        arguments: [
            ("hello", "hello", false), ("Re: hello", "hello", true), ("RE:hello", "hello", true),
            ("re[2]: hello", "hello", true), ("Fwd: Re: hello", "hello", true),
            ("hello (fwd)", "hello", true),
            ("[list] hello", "hello", false), ("[list] Re: [list] hello", "hello", true),
            ("Re: [list] hello (fwd) (fwd)", "hello", true),
            ("[fwd: hello]", "hello", true), ("[Fwd: Re: hello]", "hello", true),
            ("Re: [fwd: [a] Re: hello]", "hello", true),
            ("[only]", "[only]", false), ("Re: [only]", "[only]", true), ("", "", false), ("Re:", "", true),
            ("   a \t b  ", "a b", false),
            ("Reply: hello", "Reply: hello", false), ("Rex: hello", "Rex: hello", false),
            ("AW: WG: Hallo", "Hallo", true),
            ("回复: 你好", "你好", true), ("SV: Hej", "Hej", true), ("Re : hello", "hello", true),
            ("re [x]: hello", "hello", true),
        ]
    )
    func base(_ subject: String, _ base: String, _ isReply: Bool) {
        let found = Subject.base(subject)
        #expect(found.base == base)
        #expect(found.isReply == isReply)
    }

    @Test("arbitrary subjects end")
    func arbitrarySubjects() {
        var generator = SeededGenerator(seed: 5)
        let pieces = [
            "Re:", "Fwd:", "[a]", "[fwd:", "]", "(fwd)", " ", "x", "[", "：", "[[", "re[1]:", "(", ":",
        ]
        for _ in 0..<5_000 {
            let count = Int.random(in: 0...30, using: &generator)
            let subject = (0..<count).map { _ in pieces[Int.random(in: 0..<pieces.count, using: &generator)] }
                .joined()
            let base = Subject.base(subject).base
            #expect(base.count <= subject.count)
            #expect(Subject.base(base).base == base)
        }
        _ = Subject.base(String(repeating: "Re: [x] ", count: 100_000))
    }

    @Test(
        "an answer's subject begins with exactly one Re:",
        arguments: [
            ("Hello", "Re: Hello"), ("Re: Hello", "Re: Hello"), ("RE:Re: re :Hello", "Re: Hello"),
            ("Aw: SV: Re[3]: Re(2): Re²: Hello", "Re: Hello"), ("回复：Hello", "Re: Hello"),
            ("Fwd: Hello", "Re: Fwd: Hello"), ("Re: Fwd: Re: Hello", "Re: Fwd: Re: Hello"),
            ("[list] Re: Hello", "Re: [list] Re: Hello"), ("Rent: paid", "Re: Rent: paid"), ("", "Re:"),
            (" Re: ", "Re:"), ("Re", "Re: Re"),
        ]
    )
    func answering(_ subject: String, _ expected: String) {
        #expect(Subject.answering(subject) == expected)
        #expect(Subject.answering(expected) == expected)
        #expect(Subject.base(expected).isReply)
        _ = Subject.answering(String(repeating: "Re: ", count: 10_000))
    }

    @Test(
        "message ids",
        arguments: [
            ("<a@b>", ["<a@b>"]), ("<a@b> <c@d>", ["<a@b>", "<c@d>"]), ("<a@b><c@d>", ["<a@b>", "<c@d>"]),
            ("a@b", ["<a@b>"]), ("Your message of Monday <a@b>", ["<a@b>"]), ("< a @ b >", ["<a@b>"]),
            ("<<a@b>>", ["<a@b>"]),
            ("<>", []), ("", []), ("<unclosed", []), ("word", []),
        ]
    )
    func ids(_ text: String, _ ids: [String]) {
        #expect(MessageIDList.ids(in: Array(text.utf8)) == ids)
    }

    @Test("of too many ids the newest count")
    func manyIDs() {
        let text = (0..<1_000).map { "<\($0)@x>" }.joined(separator: " ")
        let ids = MessageIDList.ids(in: Array(text.utf8))
        #expect(ids.count == 200)
        #expect(ids.last == "<999@x>")
    }

    @Test(
        "snippets",
        arguments: [
            ("", ""), ("  a \n\n b\t c ", "a b c"), ("a\u{200B}\u{AD}b", "ab"), ("\u{FEFF}\u{0}x", "x"),
        ]
    )
    func snippets(_ text: String, _ snippet: String) {
        #expect(Snippet.of(text) == snippet)
    }

    @Test("a snippet is cut at a word, and never longer than 200 characters")
    func longSnippets() {
        let words = String(repeating: "word ", count: 100)
        #expect(Snippet.of(words).count <= 200)
        #expect(Snippet.of(words).hasSuffix("word…"))
        #expect(Snippet.of(String(repeating: "x", count: 10_000)).count == 200)
        #expect(Snippet.of(String(repeating: "👨‍👩‍👧‍👦", count: 500)).count <= 200)
    }
}
