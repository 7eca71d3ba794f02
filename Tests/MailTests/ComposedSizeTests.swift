// The size that is foretold is the size that is composed, and names suggest types.

import Foundation
import Mail
import Testing

@Suite("The size of a message")
struct ComposedSizeTests {
    private func draft(_ files: [DraftAttachment], html: String?) throws -> Draft {
        Draft(
            from: try Mailbox("Zoë <a@x.test>"),
            to: [try Mailbox("b@y.test")],
            subject: "Ü",
            text: "Text",
            html: html,
            messageID: "<id@x.test>",
            date: Date(timeIntervalSince1970: 0),
            attachments: files,
            boundarySeed: "seed"
        )
    }

    @Test(
        "is foretold to the byte, whatever the files' sizes",
        arguments: [[0], [1], [2], [3], [56], [57], [58], [113], [114, 115], [100_000, 0, 999]]
    )
    func exact(_ sizes: [Int]) throws {
        for html in [nil, "<p>Hi <img src='cid:f0@x'></p>"] {
            let files = sizes.enumerated().map { index, size in
                DraftAttachment(
                    fileName: "file \(index) – ü.pdf",
                    mimeType: "application/pdf",
                    content: [UInt8](repeating: 7, count: size),
                    contentID: index == 0 ? "f0@x" : nil
                )
            }
            let draft = try draft(files, html: html)
            #expect(draft.composedSize(withContents: sizes) == draft.compose().count)
        }
    }
}

@Suite("A media type")
struct MediaTypeTests {
    @Test(
        "is type/subtype of token characters, parameters behind it",
        arguments: [
            "text/plain", "application/vnd.ms-excel", "image/svg+xml", "text/csv; charset=utf-8",
            "application/x-7z-compressed",
        ]
    )
    func valid(_ text: String) { #expect(MediaType.isValid(text)) }

    @Test(
        "nothing else is",
        arguments: [
            "", "pdf", "/", "a/", "/b", "a/b/c", "a b/c", "text/plain\r\nX: y", "text/pl\u{e4}in",
            "text/\0", "a/b\u{7f}", "x/" + String(repeating: "y", count: 128),
        ]
    )
    func invalid(_ text: String) { #expect(!MediaType.isValid(text)) }

    @Test("is suggested by a name's ending, in either case")
    func endings() {
        #expect(MediaType.ofFile(named: "a.PDF") == "application/pdf")
        #expect(MediaType.ofFile(named: "archive.tar.gz") == "application/gzip")
        #expect(MediaType.ofFile(named: ".pdf") == nil)
        #expect(MediaType.ofFile(named: "pdf") == nil)
        #expect(MediaType.ofFile(named: "a.") == nil)
        #expect(MediaType.ofFile(named: "a.unheard-of") == nil)
    }
}
