// The rows of mails that were taken: one for each organization that a mail is for, one more for each role of its
// domains, and one for the operator.

import Blobs
import Crypto
import Database
import Foundation
import Mail
import Platform
import Queue

/// One row of `received_mail`, or of `operator_mail` where no organization is concerned.
struct InboundRow: Sendable {
    let id = ReceivedMailID()
    let blob = BlobID()
    /// Of its mail among those that are written together.
    let place: Int
    /// nil for the operator's.
    let org: OrgID?
    /// nil for mail to inboxes.
    let role: MailRole?
    /// As RCPT named them.
    let addresses: [String]
    /// The same as JSON, with their inboxes.
    let recipients: String
    let sender: String
    let digest: [UInt8]
    let content: InboundContentBytes
    let clientAddress: String
    let clientName: String
    let tls: String?
    /// Reads the mail; nil for the operator's.
    private(set) var job: NewJob?

    /// What a mail becomes.
    static func rows(of mail: InboundMail, place: Int) throws -> [InboundRow] {
        var inboxes: [OrgID: [InboundRecipient]] = [:]
        var roles: [Share: [RoleRecipient]] = [:]
        for destination in mail.destinations {
            switch destination {
            case .inbox(let recipient): inboxes[recipient.org, default: []].append(recipient)
            case .role(let recipient):
                roles[Share(org: recipient.org, role: recipient.role), default: []].append(recipient)
            }
        }
        var rows: [InboundRow] = []
        for (org, recipients) in inboxes {
            rows.append(try InboundRow(mail, place, org, nil, recipients.map(\.address), recipients))
        }
        for (share, recipients) in roles {
            let addresses = recipients.map(\.address)
            rows.append(
                try InboundRow(
                    mail,
                    place,
                    share.org,
                    share.role,
                    addresses,
                    addresses.map { ["address": $0] }
                )
            )
        }
        for index in rows.indices {
            guard let org = rows[index].org else { continue }
            rows[index].job = try NewJob(
                org: org,
                queue: QueueName.processInbound,
                payload: ProcessInboundPayload(mail: rows[index].id)
            )
        }
        return rows
    }

    private struct Share: Hashable {
        let org: OrgID?
        let role: MailRole
    }

    private init(
        _ mail: InboundMail,
        _ place: Int,
        _ org: OrgID?,
        _ role: MailRole?,
        _ addresses: [String],
        _ recipients: some Encodable
    ) throws {
        self.place = place
        self.org = org
        self.role = role
        self.addresses = addresses
        self.recipients = String(decoding: try JSONEncoder().encode(recipients), as: UTF8.self)
        sender = mail.sender?.description ?? ""
        content = mail.content
        clientAddress = mail.clientAddress
        clientName = mail.clientName
        tls = mail.tls
        digest = Self.digest(sender: sender, addresses: addresses, content: content.digest)
    }

    private static func digest(sender: String, addresses: [String], content: [UInt8]) -> [UInt8] {
        var hash = SHA256()
        hash.update(data: Data(sender.utf8))
        for address in addresses.sorted() { hash.update(data: Data("\0\(address)".utf8)) }
        hash.update(data: [0] as [UInt8])
        hash.update(data: content)
        return Array(hash.finalize())
    }
}

extension InboundRow {
    /// Lets a mail that comes again after a long time be a new one.
    static func retire(_ rows: [InboundRow], _ org: OrgID) -> Statement {
        """
        UPDATE received_mail SET digest = digest || uuid_send(id)
        WHERE org_id = \(org) AND digest = ANY (\(rows.map(\.digest))::bytea[])
            AND received_at < now() - \(Store.resentWithinDays) * interval '1 day'
        """
    }

    /// Inserts the rows of one organization that are not here yet: `id` of those.
    static func insert(_ rows: [InboundRow], _ org: OrgID) -> Statement {
        """
        INSERT INTO received_mail (org_id, id, digest, role, sender, recipients, raw_blob, size_bytes, client_address,
            client_name, tls)
        SELECT \(org), id, digest, role, sender, recipients, raw_blob, size_bytes, client_address, client_name, tls
        FROM unnest(
            \(rows.map(\.id))::uuid[], \(rows.map(\.digest))::bytea[], \(rows.map { $0.role?.rawValue })::text[],
            \(rows.map(\.sender))::text[], \(rows.map(\.recipients))::jsonb[], \(rows.map(\.blob))::uuid[],
            \(rows.map(\.content.size))::bigint[], \(rows.map(\.clientAddress))::text[],
            \(rows.map(\.clientName))::text[], \(rows.map(\.tls))::text[]
        ) AS m (id, digest, role, sender, recipients, raw_blob, size_bytes, client_address, client_name, tls)
        ORDER BY digest
        ON CONFLICT (org_id, digest) DO NOTHING
        RETURNING id
        """
    }

    /// The rows of their blobs; raw mail stays in the database, because 250 must not wait for another storage.
    static func insertBlobs(_ rows: [InboundRow], _ org: OrgID) -> Statement {
        DatabaseBlobs.rows(rows.map { ($0.blob, $0.content.size) }, org: org)
    }

    /// The bytes of those that are in memory, one chunk each.
    static func insertChunks(_ rows: [InboundRow], _ org: OrgID) -> Statement {
        DatabaseBlobs.chunks(rows.map { ($0.blob, 0, $0.memory) }, org: org)
    }

    /// A piece of one that is in a file.
    func chunk(_ bytes: [UInt8], at position: Int) -> Statement {
        guard let org else { return OperatorMail.chunk(bytes, of: id, at: position) }
        return DatabaseBlobs.chunks([(blob, position, bytes)], org: org)
    }

    /// Empty where the content is in a file.
    var memory: [UInt8] {
        if case .memory(let bytes) = content.place { bytes } else { [] }
    }
}

/// Mail for the postmaster of domains that are the operator's.
enum OperatorMail {
    /// So many are kept, the newest: strangers write here, and nobody may be reading.
    static let countMax = 10_000

    /// Inserts those that are not here yet: `id` of those.
    static func insert(_ rows: [InboundRow]) -> Statement {
        """
        INSERT INTO operator_mail (id, role, digest, sender, recipients, size_bytes, client_address, client_name, tls)
        SELECT id, role, digest, sender, ARRAY(SELECT jsonb_array_elements(recipients)->>'address'), size_bytes,
            client_address, client_name, tls
        FROM unnest(
            \(rows.map(\.id))::uuid[], \(rows.map { $0.role?.rawValue })::text[], \(rows.map(\.digest))::bytea[],
            \(rows.map(\.sender))::text[], \(rows.map(\.recipients))::jsonb[], \(rows.map(\.content.size))::bigint[],
            \(rows.map(\.clientAddress))::text[], \(rows.map(\.clientName))::text[], \(rows.map(\.tls))::text[]
        ) AS m (id, role, digest, sender, recipients, size_bytes, client_address, client_name, tls)
        ORDER BY digest
        ON CONFLICT (digest) DO NOTHING
        RETURNING id
        """
    }

    static func insertChunks(_ rows: [InboundRow]) -> Statement {
        """
        INSERT INTO operator_mail_chunks (mail_id, position, bytes)
        SELECT mail_id, 0, bytes
        FROM unnest(\(rows.map(\.id))::uuid[], \(rows.map(\.memory))::bytea[]) AS c (mail_id, bytes)
        """
    }

    static func chunk(_ bytes: [UInt8], of mail: ReceivedMailID, at position: Int) -> Statement {
        "INSERT INTO operator_mail_chunks (mail_id, position, bytes) VALUES (\(mail), \(position), \(bytes))"
    }

    static var forgetOldest: Statement {
        """
        DELETE FROM operator_mail WHERE id IN
            (SELECT id FROM operator_mail ORDER BY received_at DESC, id DESC OFFSET \(countMax))
        """
    }
}
