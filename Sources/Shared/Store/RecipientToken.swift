// A name for one recipient of one message that nobody can forge: in return paths and in unsubscribe links.
//
//   message (16) · ordinal (2) · hint of the organization (5) · HMAC over these and the purpose (10)  =  33 bytes
//
// In base32 that is 53 letters and digits, which survive servers that fold case and fit into a local part. It is the
// same at every try. A token is checked before any look-up; then the hint leads to the organization by an index, and
// the message is found by its key. What a token of one purpose allows, one of another does not.

package import Database
import Foundation
package import Platform

/// Who a return path or an unsubscribe link is about.
package struct RecipientToken: Sendable, Hashable {
    /// What a token is good for.
    package enum Purpose: String, Sendable, CaseIterable {
        case returnPath = "commune/return-path/v1"
        case unsubscribe = "commune/unsubscribe/v1"
    }

    private static let signatureOctets = 10
    private static let hintOctets = 5

    package let message: MessageID
    /// Of a recipient; in a return path the first of those that share a transaction.
    package let ordinal: Int
    /// The last bytes of the organization's id.
    let hint: [UInt8]

    /// The token's content for a recipient.
    package init(org: OrgID, message: MessageID, ordinal: Int) {
        self.message = message
        self.ordinal = ordinal
        hint = Array(org.uuid.octets.suffix(Self.hintOctets))
    }

    /// The signed text: 53 lower-case letters and digits.
    package func text(_ purpose: Purpose, secrets: SecretBox) -> String {
        let content = content
        return
            (content
            + secrets.sign(content.hexadecimal, purpose: purpose.rawValue, length: Self.signatureOctets))
            .base32
    }

    /// Reads a text of either case; nil when it was not signed here for this purpose.
    package init?(_ text: some StringProtocol, _ purpose: Purpose, secrets: SecretBox) {
        guard text.utf8.count == 53, let bytes = [UInt8](base32: text) else { return nil }
        let content = Array(bytes.dropLast(Self.signatureOctets))
        guard
            content.count == 16 + 2 + Self.hintOctets,
            secrets.verifies(
                Array(bytes.suffix(Self.signatureOctets)),
                of: content.hexadecimal,
                purpose: purpose.rawValue,
                length: Self.signatureOctets
            ),
            let uuid = UUID(octets: content.prefix(16))
        else { return nil }
        message = MessageID(uuid)
        ordinal = Int(content[16]) << 8 | Int(content[17])
        hint = Array(content.suffix(Self.hintOctets))
    }

    private var content: [UInt8] {
        let ordinal = UInt16(truncatingIfNeeded: ordinal)
        return message.uuid.octets + [UInt8(ordinal >> 8), UInt8(ordinal & 0xff)] + hint
    }
}

/// The recipient that a token is about, found.
package struct TokenSubject: Sendable {
    package let org: OrgID
    package let message: MessageID
    package let inbox: InboxID
    package let domain: DomainID
    package let ordinal: Int
    /// As it was given to the send.
    package let address: String
}

extension Store {
    /// The recipient of a token; nil when its message was deleted.
    package func subject(of token: RecipientToken) async throws(DatabaseError) -> TokenSubject? {
        let candidates = try await database.query(
            .lookup,
            "SELECT id FROM find_organizations(\(token.hint)) AS id"
        )
        // One, but for a chance of one in a million million.
        for candidate in candidates {
            let org: OrgID = try candidate("id")
            let rows = try await database.query(
                .tenant(org),
                """
                SELECT m.inbox_id, m.domain_id, r.address FROM messages m
                JOIN recipients r ON r.org_id = m.org_id AND r.message_id = m.id AND r.ordinal = \(token.ordinal)
                WHERE m.org_id = \(org) AND m.id = \(token.message)
                """
            )
            guard let row = rows.first else { continue }
            return TokenSubject(
                org: org,
                message: token.message,
                inbox: try row("inbox_id"),
                domain: try row("domain_id"),
                ordinal: token.ordinal,
                address: try row("address")
            )
        }
        return nil
    }
}

extension UUID {
    var octets: [UInt8] { withUnsafeBytes(of: uuid) { Array($0) } }

    init?(octets: some Collection<UInt8>) {
        guard octets.count == 16 else { return nil }
        var bytes: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        withUnsafeMutableBytes(of: &bytes) { $0.copyBytes(from: octets) }
        self.init(uuid: bytes)
    }
}
