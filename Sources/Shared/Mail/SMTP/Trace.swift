// Our own line at the head of a message that we take (RFC 5321 §4.4).

package import FoundationEssentials

/// Trace information.
package enum Trace {
    /// The Received field with its line end; what the client said of itself is cut down to harmless characters.
    package static func received(
        from clientName: String,
        address: String,
        by hostname: String,
        with transferProtocol: String,
        at date: Date
    ) -> [UInt8] {
        var field: [UInt8] = []
        field.append(contentsOf: "Received: from \(printable(clientName)) ([\(printable(address))])\r\n".utf8)
        field.append(
            contentsOf: "\tby \(printable(hostname)) with \(printable(transferProtocol));\r\n\t".utf8
        )
        field.append(contentsOf: MailDate.bytes(date))
        field.append(contentsOf: "\r\n".utf8)
        return field
    }

    private static func printable(_ text: String) -> String {
        let kept = text.unicodeScalars.prefix(255).filter { scalar in
            scalar.isASCII && scalar.value > 0x20 && scalar.value < 0x7f
                && !"()<>;\\\"".unicodeScalars.contains(scalar)
        }
        return kept.isEmpty ? "unknown" : String(String.UnicodeScalarView(kept))
    }
}
