// A name for a thread that nobody can forge, in the Reply-To of mail from an address that belongs to nobody: what comes
// back to it finds its conversation and its organization.
//
//   thread (16) · hint of the organization (5) · HMAC over these and the purpose (10)  =  31 bytes
//
// In base32 that is 50 letters and digits behind a plus sign: `agent+<token>@domain`. What it allows is to be heard in
// that thread, which whoever got the mail may.

import Database
import Foundation
package import Mail
package import Platform

/// Which thread an answer belongs to.
package struct ThreadToken: Sendable, Hashable {
    private static let purpose = "commune/thread/v1"
    private static let signatureOctets = 10
    private static let hintOctets = 5
    private static let digits = 50

    package let thread: ThreadID
    /// The last bytes of the organization's id.
    let hint: [UInt8]

    /// The token's content for a thread.
    package init(org: OrgID, thread: ThreadID) {
        self.thread = thread
        hint = Array(org.uuid.octets.suffix(Self.hintOctets))
    }

    /// Reads a text of either case; nil when it was not signed here.
    package init?(_ text: some StringProtocol, secrets: SecretBox) {
        guard text.utf8.count == Self.digits, let bytes = [UInt8](base32: text) else { return nil }
        let content = Array(bytes.dropLast(Self.signatureOctets))
        guard
            content.count == 16 + Self.hintOctets,
            secrets.verifies(
                Array(bytes.suffix(Self.signatureOctets)),
                of: content.hexadecimal,
                purpose: Self.purpose,
                length: Self.signatureOctets
            ),
            let uuid = UUID(octets: content.prefix(16))
        else { return nil }
        thread = ThreadID(uuid)
        hint = Array(content.suffix(Self.hintOctets))
    }

    /// Reads the one in an address' plus-tag; nil without one of ours.
    package init?(_ address: EmailAddress?, secrets: SecretBox) {
        guard let tag = address?.tag else { return nil }
        self.init(tag, secrets: secrets)
    }

    /// The signed text: 50 lower-case letters and digits.
    package func text(secrets: SecretBox) -> String {
        let content = thread.uuid.octets + hint
        let signature = secrets.sign(
            content.hexadecimal,
            purpose: Self.purpose,
            length: Self.signatureOctets
        )
        return (content + signature).base32
    }
}

extension Store {
    /// The hidden inbox of the thread that an answer is addressed to; nil when the address is not its own.
    func recipient(
        _ token: ThreadToken,
        _ address: EmailAddress
    ) async throws(DatabaseError)
        -> InboundRecipient?
    {
        let candidates = try await database.query(
            .lookup,
            "SELECT id FROM find_organizations(\(token.hint)) AS id"
        )
        let local = address.withoutTag.local.lowercased()
        // One, but for a chance of one in a million million.
        for candidate in candidates {
            let org: OrgID = try candidate("id")
            let rows = try await database.query(
                .tenant(org),
                """
                SELECT i.id FROM threads t
                JOIN inboxes i ON i.org_id = t.org_id AND i.id = t.inbox_id AND i.is_hidden AND i.deleted_at IS NULL
                    AND i.domain_name = \(address.domain) AND i.local_part = \(local)
                WHERE t.org_id = \(org) AND t.id = \(token.thread)
                """
            )
            guard let row = rows.first else { continue }
            return InboundRecipient(address: address.description, org: org, inbox: try row("id"))
        }
        return nil
    }

    /// The thread that a token names, if it is one of this inbox.
    static func thread(of token: ThreadToken?, inbox: InboxID, org: OrgID) -> Statement {
        "SELECT id FROM threads WHERE org_id = \(org) AND id = \(token?.thread) AND inbox_id = \(inbox)"
    }
}
