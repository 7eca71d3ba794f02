// The part trees of stalwart's mail-parser: whole JSON trees of 54 messages, and header cases.

import Foundation
import Testing

@testable import Mail

@Suite("stalwart's trees", .enabled(if: InboundCorpora.isPresent, "skipped, no corpora"))
struct MIMEStalwartTests {
    private static let folder = "stalwart-mail-parser/eml"

    /// Where we read a message otherwise, and why.
    static let disagreements: [String: String] = [
        "legacy/026": "x-uuencode is decoded",
        "legacy/048": "x-uuencode is decoded",
        "legacy/052": "an unknown charset that is no UTF-8 is read as Windows-1252, not replaced by U+FFFD",
        "thirdparty/005": "a delimiter stands at the beginning of a line (RFC 2046 §5.1.1)",
        "thirdparty/015":
            "an outer delimiter inside a header ends the inner message: three attached messages, not one",
        "malformed/000": "parts that end inside their header are parts",
        "malformed/002": "a multipart without delimiter is shown as text, not hidden as an attachment",
        "malformed/004": "a text part that is not closed is still the text",
        "malformed/006": "a text part that is not closed is still the text",
        "malformed/008": "an outer delimiter ends the inner parts (RFC 2046 §5.1.2)",
        "malformed/012": "an outer delimiter ends the inner parts (RFC 2046 §5.1.2)",
        "malformed/016": "an outer delimiter ends the inner parts (RFC 2046 §5.1.2)",
        "malformed/020": "the first part without delimiter is found by the second Content-Type",
    ]

    @Test("trees and body lists agree but for the explained ones", arguments: ["eml", "crlf"])
    func trees(_ variant: String) throws {
        var differing: Set<String> = []
        var count = 0
        for path in InboundCorpora.files(Self.folder, where: { $0.hasSuffix(".eml") }) {
            let stem = String(path.dropLast(4))
            var raw = try InboundCorpora.bytes(path)
            if variant == "crlf" { raw = Self.withCRLF(raw) }
            let tree = variant == "crlf" ? "\(stem).crlf.json" : "\(stem).json"
            guard let expected = try InboundCorpora.json(tree) as? [String: Any] else { continue }
            count += 1
            let message = MIMEReader.read(raw)
            let isSame =
                Tree.expected(expected) == Tree.ours(message, 0)
                && Tree.lists(expected) == Tree.lists(message)
            if !isSame { differing.insert(String(stem.dropFirst(Self.folder.count + 1))) }
        }
        #expect(count == 54)
        #expect(differing == Set(Self.disagreements.keys))
    }

    private static func withCRLF(_ bytes: [UInt8]) -> [UInt8] {
        var output: [UInt8] = []
        for (index, byte) in bytes.enumerated() {
            if byte == 0x0A, index == 0 || bytes[index - 1] != 0x0D { output.append(0x0D) }
            output.append(byte)
        }
        return output
    }

    @Test("header fields of the trees agree")
    func headers() throws {
        for path in InboundCorpora.files(Self.folder, where: { $0.hasSuffix(".eml") }) {
            let stem = String(path.dropLast(4))
            guard let tree = try InboundCorpora.json("\(stem).json") as? [String: Any],
                let root = (tree["parts"] as? [[String: Any]])?.first,
                let headers = root["headers"] as? [[String: Any]]
            else { continue }
            let message = MIMEReader.read(try InboundCorpora.bytes(path))
            for header in headers {
                guard let name = header["name"] as? String, let value = header["value"] as? [String: Any]
                else { continue }
                let comment = Comment(rawValue: "\(stem) \(name)")
                // Raw 8-bit bytes are replaced there; we read them as Windows-1252.
                guard !"\(value)".contains("\u{FFFD}") else { continue }
                switch name {
                case "subject": #expect(message.subject == value["Text"] as? String, comment)
                case "from": #expect(Tree.addresses(message.from) == Tree.addresses(value), comment)
                case "to": #expect(Tree.addresses(message.to) == Tree.addresses(value), comment)
                case "message_id":
                    #expect(message.messageID == (value["Text"] as? String).map { "<\($0)>" }, comment)
                case "date": #expect(message.date.map(Tree.date) == Tree.date(value["DateTime"]), comment)
                default: break
                }
            }
        }
    }

    /// Cases read otherwise on purpose.
    static let headerDisagreements: [String: String] = [
        "John Doe <jdoe@machine(comment).  example>": "blanks are no part of an address",
        "application/x-stuff": "the language of RFC 2231 is dropped",
        "image/jpeg;\n   name=\"=?iso-8859-1": "blanks between encoded words are dropped (RFC 2047 §6.2)",
        "inva/lid; name=\"   ": "a name of blanks is empty",
        " 4 8 15 16 23 42": "a lone number is no zone",
        "Tue, 1 Jul 2003 ((invalid)": "what stands before an open comment still counts",
        "<1234   @   local(blah)": "blanks are no part of a message id",
        "   m ": "a word without @ is no message id",
        "Some text =?utf-8?Q??=here": "an empty encoded word is nothing",
        "[SUSPECTED SPAM]=?utf-8?B?": "no blank is added",
    ]

    @Test(
        "header cases agree but for the explained ones",
        arguments: [
            "address", "content_type", "date", "id", "unstructured",
        ]
    )
    func headerCases(_ kind: String) throws {
        guard
            let cases = try InboundCorpora.json("stalwart-mail-parser/headers/\(kind).json")
                as? [[String: Any]]
        else {
            Issue.record("no cases")
            return
        }
        for sample in cases {
            guard let text = sample["header"] as? String else { continue }
            let value = MIMEReader.read(Array("X:\(text)\n\nbody".utf8)).header.first?.value ?? []
            let expected = Tree.headerCase(kind, sample["expected"])
            let isSame = Tree.headerCase(kind, value) == expected
            let isExplained = Self.headerDisagreements.keys.contains { text.hasPrefix($0) }
            #expect(isSame != isExplained, "\(text): \(Tree.headerCase(kind, value)) and \(expected)")
        }
        #expect(!cases.isEmpty)
    }
}

/// Both sides in one form, so that they compare as text.
private enum Tree {
    static func expected(_ message: [String: Any]) -> String { expected(message, 0) }

    private static func expected(_ message: [String: Any], _ index: Int) -> String {
        guard let parts = message["parts"] as? [[String: Any]], parts.indices.contains(index),
            let body = parts[index]["body"] as? [String: Any]
        else { return "?" }
        if let children = body["Multipart"] as? [Int] {
            return "(" + children.map { expected(message, $0) }.joined(separator: ",") + ")"
        }
        if let inner = body["Message"] as? [String: Any] { return "<" + expected(inner, 0) + ">" }
        if let text = body["Text"] as? String ?? body["Html"] as? String { return leaf(Array(text.utf8)) }
        if let bytes = body["Binary"] as? [Int] ?? body["InlineBinary"] as? [Int] {
            return leaf(bytes.map { UInt8(truncatingIfNeeded: $0) })
        }
        return "?"
    }

    static func ours(_ message: ParsedMessage, _ index: Int) -> String {
        let part = message.parts[index]
        switch part.content {
        case .multipart(let children):
            return "(" + children.map { ours(message, $0) }.joined(separator: ",") + ")"
        case .message(let root): return "<" + ours(message, root) + ">"
        case .leaf: return leaf(part.isText ? Array(message.text(of: index).utf8) : message.bytes(of: index))
        }
    }

    /// Text has LF with us.
    private static func leaf(_ bytes: [UInt8]) -> String {
        let isText = String(validating: bytes, as: UTF8.self) != nil
        let plain =
            isText ? Array(String(decoding: bytes, as: UTF8.self).replacing("\r\n", with: "\n").utf8) : bytes
        return "\(plain.count):\(Data(plain).base64EncodedString())"
    }

    static func lists(_ message: [String: Any]) -> String {
        ["text_body", "html_body", "attachments"].map { "\(message[$0] as? [Int] ?? [])" }.joined()
    }

    /// Stalwart counts the parts of an attached message by themselves.
    static func lists(_ message: ParsedMessage) -> String {
        var own: [Int: Int] = [:]
        var isInner: Set<Int> = []
        for part in message.parts {
            if let parent = part.parent {
                if isInner.contains(parent) || message.parts[parent].content == .message(part.index) {
                    isInner.insert(part.index)
                    continue
                }
            }
            own[part.index] = own.count
        }
        let bodies = message.bodies
        return [bodies.text, bodies.html, bodies.attachments].map { "\($0.map { own[$0] ?? -1 })" }.joined()
    }

    static func addresses(_ list: [ReceivedAddress]) -> [String] {
        list.map { "\($0.name ?? "-")|\($0.address)" }
    }

    static func addresses(_ value: [String: Any]) -> [String] {
        guard let address = value["Address"] as? [String: Any] else { return ["?"] }
        let groups = (address["Group"] as? [[String: Any]])?.flatMap {
            $0["addresses"] as? [[String: Any]] ?? []
        }
        let list = address["List"] as? [[String: Any]] ?? groups ?? []
        // A single word is an address to us, a name to them.
        return list.map { entry in
            guard let address = entry["address"] as? String else {
                return "-|\(entry["name"] as? String ?? "-")"
            }
            return "\(entry["name"] as? String ?? "-")|\(address)"
        }
    }

    static func date(_ date: HeaderDate) -> [Int] {
        [date.year, date.month, date.day, date.hour, date.minute, date.second, date.offset]
    }

    static func date(_ value: Any?) -> [Int] {
        guard let date = value as? [String: Any] else { return [] }
        let fields = ["year", "month", "day", "hour", "minute", "second"].map { date[$0] as? Int ?? -1 }
        let offset = (date["tz_hour"] as? Int ?? 0) * 60 + (date["tz_minute"] as? Int ?? 0)
        return fields + [date["tz_before_gmt"] as? Bool == true ? -offset : offset]
    }

    static func headerCase(_ kind: String, _ value: [UInt8]) -> String {
        switch kind {
        case "address":
            AddressList.parse(value).entries.map { entry in
                switch entry {
                case .address(let address): addresses([address]).joined()
                case .group(let name, let members): "\(name):\(addresses(members))"
                }
            }.joined(separator: ",")
        case "content_type": contentType(ParameterizedValue(value))
        case "date": "\(HeaderDate(value).map(date) ?? [])"
        case "id": MessageIDList.ids(in: value).joined(separator: ",")
        default: EncodedText.decode(value)
        }
    }

    private static func contentType(_ value: ParameterizedValue) -> String {
        guard !value.type.isEmpty else { return "none" }
        return "\(value.type)/\(value.subtype)" + value.parameters.map { ";\($0.name)=\($0.value)" }.joined()
    }

    static func headerCase(_ kind: String, _ expected: Any?) -> String {
        switch kind {
        case "address": return addressCase(expected as? [String: Any] ?? [:])
        case "content_type":
            guard let value = expected as? [String: Any], let type = value["c_type"] as? String else {
                return "none"
            }
            let parameters = (value["attributes"] as? [[String]] ?? []).map {
                ";\($0[0].lowercased())=\($0[1])"
            }
            return "\(type.lowercased())/\((value["c_subtype"] as? String ?? "").lowercased())"
                + parameters.joined()
        case "date": return "\(date(expected))"
        case "id": return (expected as? [String] ?? []).map { "<\($0)>" }.joined(separator: ",")
        default: return expected as? String ?? ""
        }
    }

    private static func addressCase(_ expected: [String: Any]) -> String {
        func list(_ entries: Any?) -> [String] {
            (entries as? [[String: Any]] ?? []).map {
                "\($0["name"] as? String ?? "-")|\($0["address"] as? String ?? "")"
            }
        }
        if let plain = expected["List"] { return list(plain).joined(separator: ",") }
        let groups = expected["Group"] as? [[String: Any]] ?? []
        return groups.flatMap { group -> [String] in
            guard let name = group["name"] as? String else { return list(group["addresses"]) }
            return ["\(name):\(list(group["addresses"]))"]
        }.joined(separator: ",")
    }
}
