// What a report returns of the message it is about. A report proves nothing by itself; what it returns may: only who has
// had the message knows the tokens in it, and nobody else can make its signature.

/// The message that a report is about, as far as it came back with it.
package struct ReturnedCopy: Sendable {
    package let header: [HeaderField]
    /// The whole message; nil where only its header came back.
    package let message: [UInt8]?

    /// Finds the copy in a report; empty where nothing came back.
    package init(in report: ParsedMessage) {
        for part in report.parts.dropFirst() {
            switch part.mimeType {
            case "message/rfc822", "message/global":
                let bytes = report.bytes(of: part.index)
                if case .message(let root) = part.content {
                    header = report.parts[root].header
                } else {
                    header = MIMEReader.read(bytes).header
                }
                message = bytes
                return
            case "text/rfc822-headers", "message/global-headers", "text/rfc822-header":
                header = MIMEReader.read(report.bytes(of: part.index)).header
                message = nil
                return
            default: continue
            }
        }
        header = BounceLetter(report).copyHeader
        message = nil
    }

    /// With angle brackets.
    package var messageID: String? {
        header.first(named: "Message-ID").flatMap { MessageIDList.ids(in: $0.value).first }
    }

    /// Where its bounces were to go.
    package var returnPath: EmailAddress? {
        header.first(named: "Return-Path").flatMap { AddressList.parse($0.value).flattened.first }
            .flatMap { try? EmailAddress($0.address) }
    }

    /// The `token=` of its List-Unsubscribe link.
    package var unsubscribeToken: String? {
        guard let field = header.first(named: "List-Unsubscribe") else { return nil }
        let text = String(decoding: field.value.prefix(2_000), as: UTF8.self)
        guard let start = text.firstRange(of: "token=")?.upperBound else { return nil }
        return String(text[start...].prefix { $0.isLetter || $0.isNumber })
    }
}
