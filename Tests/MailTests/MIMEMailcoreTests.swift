// The part trees and headers of mailcore2's parser tests: 73 messages, most of them jwz's MIME torture collection.

import Foundation
import Testing

@testable import Mail

@Suite("mailcore2's trees", .enabled(if: InboundCorpora.isPresent, "skipped, no corpora"))
struct MIMEMailcoreTests {
    private static let folder = "mailcore2/parser/input"

    /// Where we read a message otherwise, and why.
    static let treeDisagreements: [String: String] = [
        "mbox/jwz/1": "X-BE2 is no type: application/octet-stream, not x-be2/unknown",
        "mbox/jwz/29": "X-BE2 is no type: text/plain for the message itself",
        "mbox/jwz/135": "X-sun-attachment is no type: text/plain for the message itself",
        "mbox/jwz/117": "the part says application/x-pkcs7-mime",
        "mbox/jwz/41": "delimiters that differ from the declared boundary are found",
        "mbox/simple/3": "an empty boundary is no boundary: the message stays in one piece",
    ]

    @Test("trees agree but for the explained ones, and so do the headers")
    func trees() throws {
        var differing: Set<String> = []
        var count = 0
        for path in InboundCorpora.files(Self.folder) {
            let name = String(path.dropFirst(Self.folder.count + 1))
            let output = "mailcore2/parser/output/\(name)"
            guard InboundCorpora.exists(output),
                let expected = try InboundCorpora.json(output) as? [String: Any]
            else {
                continue
            }
            count += 1
            let message = MIMEReader.read(try InboundCorpora.bytes(path))
            if Self.tree(expected["mainPart"]) != Self.tree(message, 0) { differing.insert(name) }
            if let header = expected["header"] as? [String: Any] { Self.compare(header, message, name) }
        }
        #expect(count == 73)
        #expect(differing == Set(Self.treeDisagreements.keys))
    }

    private static func tree(_ part: Any?) -> String {
        guard let part = part as? [String: Any], let kind = part["class"] as? String else { return "" }
        switch kind {
        case "mailcore::Attachment": return (part["mimeType"] as? String ?? "").lowercased()
        case "mailcore::MessagePart": return "<\(tree(part["mainPart"]))>"
        default:
            let parts = (part["parts"] as? [String: Any])?["items"] as? [Any] ?? []
            return "(" + parts.map { tree($0) }.joined(separator: ",") + ")"
        }
    }

    private static func tree(_ message: ParsedMessage, _ index: Int) -> String {
        let part = message.parts[index]
        switch part.content {
        case .multipart(let children):
            return "(" + children.map { tree(message, $0) }.joined(separator: ",") + ")"
        case .message(let root): return "<\(tree(message, root))>"
        case .leaf: return part.contentType.type == "multipart" ? "()" : part.mimeType
        }
    }

    private static func compare(_ header: [String: Any], _ message: ParsedMessage, _ name: String) {
        let comment = Comment(rawValue: name)
        #expect(message.subject == header["subject"] as? String, comment)
        // Names in comments are names to us only; the addresses agree.
        #expect(message.from.first?.address == mailbox(header["from"]), comment)
        #expect(message.to.map(\.address) == mailboxes(header["to"]), comment)
        #expect(message.cc.map(\.address) == mailboxes(header["cc"]), comment)
        #expect(message.references == ids(header["references"]), comment)
        #expect(message.inReplyTo == ids(header["inReplyTo"]), comment)
        // Their tests fill in what is missing.
        if let id = header["messageID"] as? String, id != "MyMessageID123@mail.gmail.com" {
            #expect(message.messageID == "<\(id)>", comment)
        }
        guard let text = header["date"] as? String, let seconds = Double(text), text != "978307200" else {
            return
        }
        // They read a two-digit year of 91 as 2091.
        let century = 100.0 * 365.25 * 86_400
        let difference = abs(seconds - (message.date?.date.timeIntervalSince1970 ?? 0))
        #expect(difference == 0 || abs(difference - century) < 2 * 86_400, comment)
    }

    private static func mailbox(_ value: Any?) -> String? { (value as? [String: Any])?["mailbox"] as? String }

    private static func mailboxes(_ value: Any?) -> [String] {
        ((value as? [String: Any])?["items"] as? [Any] ?? []).compactMap { mailbox($0) }
    }

    private static func ids(_ value: Any?) -> [String] {
        let items = value as? [String] ?? (value as? [String: Any])?["items"] as? [String] ?? []
        return items.map { "<\($0)>" }
    }
}
