// Mail as it came, for the job that reads it.

import Blobs
import Database
package import Platform

/// A mail that was taken over SMTP.
package struct ReceivedMail: Sendable {
    package let id: ReceivedMailID
    /// Reverse-path; "" for `<>`.
    package let sender: String
    /// Empty for mail of a role.
    package let recipients: [InboundRecipient]
    package let clientAddress: String
    package let clientName: String
    package let tls: String?
    package let receivedAt: Timestamp
    package let bytes: [UInt8]
    /// Of a mailbox that no inbox has; its mail is read for reports, and stays as it came.
    package var role: MailRole?
    /// The address of that mailbox, as RCPT named it.
    package var roleAddress: String?
}

extension Store {
    /// Reads a received mail with its bytes; nil when it was deleted, or processed before.
    package func unprocessedMail(_ id: ReceivedMailID, org: OrgID) async throws -> ReceivedMail? {
        let rows = try await database.query(
            .worker,
            """
            SELECT sender, recipients, raw_blob, client_address, client_name, tls, received_at,
                role, recipients->0->>'address' AS address FROM received_mail
            WHERE org_id = \(org) AND id = \(id) AND processed_at IS NULL
            """
        )
        guard let row = rows.first else { return nil }
        guard let bytes = try await blobs.read(try row("raw_blob"), as: .worker, org: org) else { return nil }
        let role = (try row("role") as String?).flatMap(MailRole.init)
        return ReceivedMail(
            id: id,
            sender: try row("sender"),
            recipients: role == nil ? try row.json("recipients", as: [InboundRecipient].self) : [],
            clientAddress: try row("client_address"),
            clientName: try row("client_name"),
            tls: try row("tls"),
            receivedAt: try row("received_at"),
            bytes: bytes,
            role: role,
            roleAddress: role == nil ? nil : try row("address")
        )
    }
}
