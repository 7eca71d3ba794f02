// From draft to bytes. The same draft gives the same bytes, so a retry sends what the first try sent.
//
// Header fields first, then the body as a tree of parts:
//   mixed( alternative( text, related( html, inline files … ) ), attached files … )
// where a level with one child is left out.

extension Draft {
    /// The message in 7-bit bytes with CRLF line ends (RFC 5322), except for addresses that need SMTPUTF8.
    package func compose() -> [UInt8] {
        var writer = HeaderWriter(reserving: estimatedOctets)
        writer.mailboxes("From", [from])
        if to.isEmpty, cc.isEmpty {
            // All recipients are blind; a message without any recipient field is taken for spam.
            writer.begin("To")
            writer.word("undisclosed-recipients:;".utf8)
            writer.end()
        } else {
            writer.mailboxes("To", to)
            writer.mailboxes("Cc", cc)
        }
        if let replyTo { writer.mailboxes("Reply-To", [replyTo]) }
        writer.unstructured("Subject", subject)
        writer.begin("Date")
        writer.word(MailDate.bytes(date))
        writer.end()
        writer.identifiers("Message-ID", [messageID])
        if let inReplyTo { writer.identifiers("In-Reply-To", References.valid([inReplyTo])) }
        writer.identifiers("References", References.trimmed(references))
        for header in headers where HeaderRules.fault(name: header.name, value: header.value) == nil {
            writer.unstructured(header.name, header.value)
        }
        writer.begin("MIME-Version")
        writer.word("1.0".utf8)
        writer.end()
        var boundaries = Boundaries(seed: boundarySeed)
        root.write(to: &writer, boundaries: &boundaries)
        return writer.bytes
    }

    private var root: Part {
        var inline: [Part] = []
        var attached: [Part] = []
        for attachment in attachments {
            if html != nil, attachment.contentID != nil {
                inline.append(.file(attachment, isInline: true))
            } else {
                attached.append(.file(attachment, isInline: false))
            }
        }
        var alternatives: [Part] = []
        if let text { alternatives.append(.text(text, subtype: "plain")) }
        if let html {
            let page = Part.text(html, subtype: "html")
            alternatives.append(inline.isEmpty ? page : .multipart("related", [page] + inline))
        }
        if alternatives.isEmpty { alternatives.append(.text("", subtype: "plain")) }
        let body = alternatives.count == 1 ? alternatives[0] : .multipart("alternative", alternatives)
        return attached.isEmpty ? body : .multipart("mixed", [body] + attached)
    }

    private var estimatedOctets: Int {
        let texts = (text?.utf8.count ?? 0) + (html?.utf8.count ?? 0)
        let files = attachments.reduce(0) { $0 + $1.content.count + 512 }
        return 2_048 + texts + texts / 2 + files + files * 2 / 5
    }
}

/// Boundary lines that cannot occur inside a part, because neither quoted-printable nor base64 can hold `=_`.
struct Boundaries {
    private let stem: [UInt8]
    private var count = 0

    init(seed: String) {
        // FNV-1a: no secret is kept here, the seed only has to give each message its own.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in seed.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        stem = Array("=_\(String(hash, radix: 16))_".utf8)
    }

    mutating func next() -> [UInt8] {
        count += 1
        return stem + Array(String(count).utf8)
    }
}
