// The chain of message identifiers that ties a reply to its thread (RFC 5322 §3.6.4).

/// What goes into References and In-Reply-To: identifiers from strangers' mail, so they are checked here.
package enum References {
    /// The newest identifiers that are kept beside the very first one.
    package static let lastMax = 20
    private static let identifierOctetsMax = 500

    /// The usable identifiers without repetitions, cut to the first and the last 20.
    package static func trimmed(_ identifiers: [String]) -> [String] {
        var seen: Set<String> = []
        let unique = valid(identifiers).filter { seen.insert($0).inserted }
        guard unique.count > lastMax + 1 else { return unique }
        return unique.prefix(1) + unique.suffix(lastMax)
    }

    /// References for an answer to a message: its own references, then its identifier.
    package static func answering(messageID: String, references: [String]) -> [String] {
        // The last one names the parent, so an earlier mention of it goes.
        trimmed(references.filter { $0 != messageID } + [messageID])
    }

    /// Those in angle brackets, ASCII, without blanks and short enough for a line.
    package static func valid(_ identifiers: [String]) -> [String] {
        identifiers.filter { identifier in
            let bytes = identifier.utf8
            guard bytes.count > 2, bytes.count <= identifierOctetsMax else { return false }
            guard bytes.first == UInt8(ascii: "<"), bytes.last == UInt8(ascii: ">") else { return false }
            return bytes.dropFirst().dropLast().allSatisfy {
                $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "<") && $0 != UInt8(ascii: ">")
            }
        }
    }
}
