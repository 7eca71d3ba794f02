// Which header fields a customer may set, and how they may look.

/// The rules for custom header fields; a violation is the caller's error, answered before anything is stored.
package enum HeaderRules {
    /// Custom header fields in one message.
    package static let countMax = 50
    /// In octets.
    package static let nameOctetsMax = 76
    /// In octets.
    package static let valueOctetsMax = 2_048
    /// A run without a blank cannot be folded, and a line has at most 998 octets (RFC 5322 §2.1.1).
    private static let runOctetsMax = 900

    private static let reserved: Set<String> = [
        "from", "sender", "return-path", "dkim-signature", "domainkey-signature", "message-id", "received",
        "received-spf", "bcc", "to", "cc", "subject", "date", "reply-to", "mime-version", "in-reply-to",
        "references", "authentication-results", "delivered-to", "x-original-to", "apparently-to",
    ]
    private static let reservedPrefixes = ["content-", "arc-", "resent-"]

    /// What is wrong with the field, as a sentence for the API's answer; nil when it may be sent.
    package static func fault(name: String, value: String) -> String? {
        guard isToken(name), name.utf8.count <= nameOctetsMax, !name.utf8.contains(UInt8(ascii: ":")) else {
            return "header name must be 1 to \(nameOctetsMax) letters, digits or hyphens"
        }
        let lowered = name.lowercased()
        if reserved.contains(lowered) || reservedPrefixes.contains(where: lowered.hasPrefix) {
            return "header \(name) is set by the platform"
        }
        guard value.utf8.count <= valueOctetsMax else {
            return "header \(name) is longer than \(valueOctetsMax) octets"
        }
        var run = 0
        var isASCII = true
        for byte in value.utf8 {
            if byte < 0x20 && byte != 0x09 || byte == 0x7F {
                return "header \(name) has a line break or control character"
            }
            if byte >= 0x80 { isASCII = false }
            run = byte == 0x20 || byte == 0x09 ? 0 : run + 1
            if run > runOctetsMax { return "header \(name) has a word longer than \(runOctetsMax) octets" }
        }
        // Encoded words mean nothing inside these fields (RFC 2369 §2), so no encoding could save the value.
        if !isASCII, lowered.hasPrefix("list-") { return "header \(name) must be ASCII" }
        return nil
    }

    /// RFC 2045 §5.1 `token`, never empty.
    static func isToken(_ text: some StringProtocol) -> Bool {
        !text.isEmpty
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "<"), UInt8(ascii: ">"),
                    UInt8(ascii: "@"),
                    UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: ":"), UInt8(ascii: "\\"),
                    UInt8(ascii: "\""),
                    UInt8(ascii: "/"), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: "?"),
                    UInt8(ascii: "="):
                    false
                default: byte > 0x20 && byte < 0x7F
                }
            }
    }
}
