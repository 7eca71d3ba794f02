// What an SMTP server answers (RFC 5321 §4.2): read by our client, written by our server.

/// A complete reply, of one line or several.
package struct Reply: Sendable, Hashable, Codable, CustomStringConvertible {
    /// 200 to 599.
    package let code: Int
    /// RFC 3463; nil where the server gave none, and for greetings and EHLO.
    package let status: EnhancedStatus?
    /// The text of each line without code and status; at least one.
    package let lines: [String]

    package init(_ code: Int, _ status: EnhancedStatus? = nil, _ lines: String...) {
        self.init(code: code, status: status, lines: lines)
    }

    package init(code: Int, status: EnhancedStatus?, lines: [String]) {
        self.code = code
        self.status = status
        self.lines = lines.isEmpty ? [""] : lines
    }

    /// The lines as one.
    package var text: String { lines.joined(separator: " ") }

    /// 2xx: done.
    package var isPositive: Bool { code / 100 == 2 }
    /// 3xx: go on.
    package var isIntermediate: Bool { code / 100 == 3 }
    /// 4xx, whatever the status says.
    package var isTransient: Bool { code / 100 == 4 }
    /// 5xx, whatever the status says.
    package var isPermanent: Bool { code / 100 == 5 }

    /// `550 5.1.1 User unknown`, on one line.
    package var description: String {
        let status = status.map { " \($0)" } ?? ""
        return text.isEmpty ? "\(code)\(status)" : "\(code)\(status) \(text)"
    }

    /// The reply on the wire, the status on each line (RFC 2034 §4), CRLF behind each.
    package var bytes: [UInt8] {
        var output: [UInt8] = []
        let code = Array(String(code).utf8)
        let status = status.map { Array("\($0) ".utf8) } ?? []
        for (index, line) in lines.enumerated() {
            output += code
            output.append(index + 1 < lines.count ? UInt8(ascii: "-") : UInt8(ascii: " "))
            output += status
            // A line break inside a text would begin a reply of its own.
            output += line.utf8.map { $0 == 0x0D || $0 == 0x0A || $0 == 0 ? UInt8(ascii: " ") : $0 }
            output += [0x0D, 0x0A]
        }
        return output
    }
}
