// Mail as it came, for the job that reads it.

import Blobs
import Database
package import Platform

/// A mail that was taken over SMTP.
package struct ReceivedMail: Sendable {
    package let id: ReceivedMailID
    /// Reverse-path; "" for `<>`.
    package let sender: String
    package let recipients: [InboundRecipient]
    package let clientAddress: String
    package let clientName: String
    package let tls: String?
    package let receivedAt: Timestamp
    package let bytes: [UInt8]
}

extension Store {
    /// Reads a received mail with its bytes; nil when it was deleted, or processed before.
    package func unprocessedMail(_ id: ReceivedMailID, org: OrgID) async throws -> ReceivedMail? {
        let rows = try await database.query(
            .worker,
            """
            SELECT sender, recipients, raw_blob, client_address, client_name, tls, received_at FROM received_mail
            WHERE org_id = \(org) AND id = \(id) AND processed_at IS NULL AND role IS NULL
            """
        )
        guard let row = rows.first else { return nil }
        guard let bytes = try await blobs.read(try row("raw_blob"), as: .worker, org: org) else { return nil }
        return ReceivedMail(
            id: id,
            sender: try row("sender"),
            recipients: try row.json("recipients", as: [InboundRecipient].self),
            clientAddress: try row("client_address"),
            clientName: try row("client_name"),
            tls: try row("tls"),
            receivedAt: try row("received_at"),
            bytes: bytes
        )
    }
}
