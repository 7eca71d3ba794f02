// Mail as it came, from its commit (then the client hears 250) to the job that reads it.

import Blobs
import Crypto
package import Database
import Foundation
package import Mail
package import Platform
package import Queue

/// One of our inboxes among the recipients of an SMTP transaction.
package struct InboundRecipient: Sendable, Codable, Hashable {
    /// The address of RCPT TO.
    package let address: String
    package let org: OrgID
    package let inbox: InboxID

    enum CodingKeys: String, CodingKey {
        case address
        case org = "org_id"
        case inbox = "inbox_id"
    }
}

/// What a lookup of a recipient address found.
package enum RecipientLookup: Sendable {
    case inbox(InboundRecipient)
    /// The domain is ours, the mailbox does not exist or is inactive.
    case noSuchMailbox
    case notOurDomain
}

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
    /// Finds the inbox of an address; plus-tags belong to the inbox before them.
    package func recipient(_ address: EmailAddress) async throws(DatabaseError) -> RecipientLookup {
        if let path = ReturnPath(address) { return try await bounced(to: path, address) }
        let local = address.withoutTag.local.lowercased()
        let rows = try await database.query(
            .lookup,
            "SELECT domain_known, org_id, inbox_id, status FROM find_recipient(\(address.domain), \(local))"
        )
        guard let row = rows.first else { return .notOurDomain }
        guard let org: OrgID = try row("org_id"), let inbox: InboxID = try row("inbox_id"),
            try row("status") as String? != "inactive"
        else { return .noSuchMailbox }
        return .inbox(InboundRecipient(address: address.description, org: org, inbox: inbox))
    }

    /// A return path of ours belongs to the inbox whose message went out under it; a forged one to nobody.
    private func bounced(
        to path: ReturnPath,
        _ address: EmailAddress
    ) async throws(DatabaseError) -> RecipientLookup {
        guard let token = RecipientToken(path.token, .returnPath, secrets: secrets) else {
            let rows = try await database.query(
                .lookup,
                "SELECT domain_known FROM find_recipient(\(path.domain), '')"
            )
            return rows.isEmpty ? .notOurDomain : .noSuchMailbox
        }
        guard let subject = try await subject(of: token) else { return .noSuchMailbox }
        return .inbox(
            InboundRecipient(address: address.description, org: subject.org, inbox: subject.inbox)
        )
    }

    /// Commits a mail for all its inboxes; when this returns, the client may hear 250.
    ///
    /// Each organization gets rows of its own. A mail that an organization has already, sent again by a client that
    /// lost our 250, adds nothing.
    package func receive(
        _ message: [UInt8],
        trace: [UInt8],
        from sender: EmailAddress?,
        for recipients: [InboundRecipient],
        clientAddress: String,
        clientName: String,
        tls: String?
    ) async throws -> [Ticket] {
        // Our trace differs at every try, so it takes no part in telling whether a mail is here already.
        let bytes = trace + message
        var tickets: [Ticket] = []
        for (org, ofOrg) in Dictionary(grouping: recipients, by: \.org).sorted(by: {
            $0.key.description < $1.key.description
        }) {
            let id = ReceivedMailID()
            let blob = BlobID()
            let job = try NewJob(
                org: org,
                queue: QueueName.processInbound,
                payload: ProcessInboundPayload(mail: id)
            )
            let digest = Self.digest(message, sender: sender, recipients: ofOrg)
            let isNew = try await database.transaction(.tenant(org)) { transaction in
                let inserted = try await transaction.query(
                    """
                    INSERT INTO received_mail (org_id, id, digest, sender, recipients, raw_blob, size_bytes,
                        client_address, client_name, tls)
                    VALUES (\(org), \(id), \(digest), \(sender?.description ?? ""), \(json: ofOrg), \(blob),
                        \(bytes.count), \(clientAddress), \(clientName), \(tls))
                    ON CONFLICT (org_id, digest) DO NOTHING
                    """
                )
                guard inserted.affected == 1 else { return false }
                try await transaction.batch(blobs.insert(bytes, id: blob, org: org) + [Jobs.insert([job])])
                return true
            }
            if isNew { tickets.append(job.ticket) }
        }
        return tickets
    }

    /// Reads a received mail with its bytes; nil when it was deleted, or processed before.
    package func unprocessedMail(_ id: ReceivedMailID, org: OrgID) async throws -> ReceivedMail? {
        let rows = try await database.query(
            .worker,
            """
            SELECT sender, recipients, raw_blob, client_address, client_name, tls, received_at FROM received_mail
            WHERE org_id = \(org) AND id = \(id) AND processed_at IS NULL
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

    private static func digest(
        _ bytes: [UInt8],
        sender: EmailAddress?,
        recipients: [InboundRecipient]
    ) -> [UInt8] {
        var hash = SHA256()
        hash.update(data: Data((sender?.description ?? "").utf8))
        for recipient in recipients.map(\.address).sorted() { hash.update(data: Data("\0\(recipient)".utf8)) }
        hash.update(data: [0] as [UInt8])
        hash.update(data: bytes)
        return Array(hash.finalize())
    }
}
