// Identifiers: UUIDv7 inside, so that rows of one time lie side by side in an index, and a type for each noun.

package import Foundation

/// An identifier of one noun: `ID<Message>` and `ID<Inbox>` cannot be mixed up.
package struct ID<Noun>: Hashable, Sendable, CustomStringConvertible {
    /// The sixteen bytes, RFC 9562.
    package let uuid: UUID

    /// Takes an existing identifier.
    package init(_ uuid: UUID) { self.uuid = uuid }

    /// Makes a new one: RFC 9562 §5.7, with the fraction of the millisecond in `rand_a` (§6.2, method 3).
    package init() {
        self.init(UUID.version7(at: Timestamp.now))
    }

    /// Reads the canonical text, with the noun's prefix where it has one; nil when it is not ours.
    package init?(_ text: some StringProtocol, prefix: String = "") {
        guard text.hasPrefix(prefix), let uuid = UUID(text: text.dropFirst(prefix.count))
        else { return nil }
        self.init(uuid)
    }

    /// Reads 32 hexadecimal digits, either case; nil when it is not ours.
    package init?(hexadecimal text: some StringProtocol) {
        guard text.utf8.count == 32, let bytes = [UInt8](hexadecimal: text) else { return nil }
        self.init(bytes: bytes)
    }

    /// Takes the sixteen bytes; nil for another number of them.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 16 else { return nil }
        self.init(Array(bytes).withUnsafeBytes { UUID(uuid: $0.loadUnaligned(as: uuid_t.self)) })
    }

    /// The sixteen bytes.
    package var bytes: [UInt8] { withUnsafeBytes(of: uuid.uuid) { Array($0) } }

    /// 32 lower-case hexadecimal digits, for nouns that are written so outside.
    package var hexadecimal: String { bytes.hexadecimal }

    /// Lower-case canonical text, as it is written everywhere.
    package var description: String { uuid.text }
}

extension ID: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let uuid = UUID(text: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "is not an id.")
        }
        self.init(uuid)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension UUID {
    static func version7(at time: Timestamp) -> UUID {
        let milliseconds = UInt64(time.microseconds / 1000)
        let fraction = UInt64(time.microseconds % 1000) * 4096 / 1000
        let high = milliseconds << 16 | 0x7000 | fraction
        let low = UInt64.random(in: 0...UInt64.max) & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
        func byte(_ word: UInt64, _ index: UInt64) -> UInt8 {
            UInt8(truncatingIfNeeded: word >> (56 - 8 * index))
        }
        return UUID(
            uuid: (
                byte(high, 0), byte(high, 1), byte(high, 2), byte(high, 3),
                byte(high, 4), byte(high, 5), byte(high, 6), byte(high, 7),
                byte(low, 0), byte(low, 1), byte(low, 2), byte(low, 3),
                byte(low, 4), byte(low, 5), byte(low, 6), byte(low, 7)
            )
        )
    }
}

/// The nouns that have an identifier; never instantiated.
package enum Noun {
    package enum Organization {}
    package enum Key {}
    package enum Domain {}
    package enum Inbox {}
    package enum Thread {}
    package enum Message {}
    package enum ReceivedMail {}
    package enum Attachment {}
    package enum Blob {}
    package enum Job {}
    package enum Worker {}
    package enum Event {}
    package enum Delivery {}
    package enum SpamReport {}
    package enum DMARCReport {}
    package enum Alert {}
}

package typealias OrgID = ID<Noun.Organization>
package typealias KeyID = ID<Noun.Key>
package typealias DomainID = ID<Noun.Domain>
package typealias InboxID = ID<Noun.Inbox>
package typealias ThreadID = ID<Noun.Thread>
package typealias MessageID = ID<Noun.Message>
package typealias ReceivedMailID = ID<Noun.ReceivedMail>
package typealias AttachmentID = ID<Noun.Attachment>
package typealias BlobID = ID<Noun.Blob>
package typealias JobID = ID<Noun.Job>
package typealias WorkerID = ID<Noun.Worker>
package typealias EventID = ID<Noun.Event>
package typealias DeliveryID = ID<Noun.Delivery>
package typealias SpamReportID = ID<Noun.SpamReport>
package typealias DMARCReportID = ID<Noun.DMARCReport>
package typealias AlertID = ID<Noun.Alert>
