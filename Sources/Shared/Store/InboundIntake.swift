// Mail whose final dot has come, from there to the commit after which its client hears 250.
//
// Mails that end at the same moment share a transaction, whosever they are, and with it its round trips and its wait
// for the disk. Each is still all or nothing, and what is wrong with one is its own affair.

import Blobs
import Crypto
import Database
import Foundation
package import Mail
import Platform
package import Queue

/// A mail that came over SMTP or LMTP, whole.
package struct InboundMail: Sendable {
    /// Reverse-path; nil for `<>`.
    package let sender: EmailAddress?
    package let destinations: [MailDestination]
    package let content: InboundContentBytes
    package let clientAddress: String
    /// The argument of its EHLO.
    package let clientName: String
    /// Such as `TLSv1.3`; nil in clear text.
    package let tls: String?

    /// Puts together what the session knows.
    package init(
        from sender: EmailAddress?,
        for destinations: [MailDestination],
        _ content: InboundContentBytes,
        clientAddress: String,
        clientName: String,
        tls: String?
    ) {
        self.sender = sender
        self.destinations = destinations
        self.content = content
        self.clientAddress = clientAddress
        self.clientName = clientName
        self.tls = tls
    }
}

/// Takes mail for one process.
package final class InboundIntake: Sendable {
    /// What lies in a file takes its time, and small mail does not wait for it.
    private enum Kind: Hashable, Sendable { case small, spooled }

    /// Waiting mails from which on no new ones are asked for: several full groups.
    private static let crowd = 512

    private let convoy: Convoy<Kind, InboundMail, [Ticket]>

    /// An intake into one store.
    package init(_ store: Store) {
        convoy = Convoy(.init(groupsOfKey: 3, groups: 6, items: 64, weight: 4 << 20)) { _, mails in
            await store.receiveTogether(mails)
        }
    }

    /// Commits a mail for all its destinations; when this returns, the client may hear 250.
    ///
    /// Tickets of the new jobs come back. Of a mail that is here already, sent again by a client that lost our 250,
    /// nothing is kept a second time.
    package func receive(_ mail: InboundMail) async throws -> [Ticket] {
        try await convoy.go(mail.content.isSpooled ? .spooled : .small, mail, weight: mail.content.size)
    }

    /// Whether mail comes faster than it is stored.
    package var isCrowded: Bool { convoy.waitingCount >= Self.crowd }
}

extension Store {
    /// For how long a mail that comes again is known, in days: longer than clients keep trying (RFC 5321 §4.5.4.1).
    package static let resentWithinDays = 7

    /// Writes mails in one transaction, or each in its own where one of them is refused.
    func receiveTogether(_ mails: [InboundMail]) async -> [Result<[Ticket], any Error>] {
        do {
            return try await receive(mails).map { .success($0) }
        } catch  where mails.count > 1 && Self.isOfOne(error) {
            var answers: [Result<[Ticket], any Error>] = []
            for mail in mails {
                do {
                    answers.append(.success(try await receive([mail]).first ?? []))
                } catch {
                    answers.append(.failure(error))
                }
            }
            return answers
        } catch {
            return mails.map { _ in .failure(error) }
        }
    }

    /// Whether an error may be the fault of one mail alone; nothing was written.
    private static func isOfOne(_ error: any Error) -> Bool {
        switch error {
        case DatabaseError.unique, DatabaseError.constraint, DatabaseError.failed, DatabaseError.decoding,
            is SpoolFault, is EncodingError:
            true
        default: false
        }
    }

    /// The tickets of each mail.
    private func receive(_ mails: [InboundMail]) async throws -> [[Ticket]] {
        let rows = try mails.enumerated().flatMap { place, mail in
            try InboundRow.rows(of: mail, place: place)
        }
        // As nobody: each organization is named before its rows are written, and the policies see to it.
        let kept = try await database.transaction(.lookup) { transaction in
            try await keep(rows, in: transaction)
        }
        var tickets = [[Ticket]](repeating: [], count: mails.count)
        for row in rows where kept.contains(row.id) {
            if let job = row.job { tickets[row.place].append(job.ticket) }
        }
        return tickets
    }

    /// Writes what is not here yet, and says which rows those were.
    ///
    /// Organizations and digests are taken in order, so that two groups with the same mails cannot wait for each other.
    private func keep(
        _ rows: [InboundRow],
        in transaction: Transaction
    ) async throws -> Set<ReceivedMailID> {
        let groups = Dictionary(grouping: rows, by: \.org).sorted {
            ($0.key?.description ?? "") < ($1.key?.description ?? "")
        }
        var begun: [Statement] = []
        var inserts: [Int] = []
        for (org, rows) in groups {
            if let org { begun += [Self.speak(for: org), InboundRow.retire(rows, org)] }
            inserts.append(begun.count)
            begun.append(org.map { InboundRow.insert(rows, $0) } ?? OperatorMail.insert(rows))
        }
        let answers = try await transaction.batch(begun)
        let kept = Set(try inserts.flatMap { try answers[$0].map { try $0("id") as ReceivedMailID } })
        var written: [Statement] = []
        for (org, rows) in groups {
            let new = rows.filter { kept.contains($0.id) }
            let small = new.filter { !$0.content.isSpooled }
            if let org {
                written += [
                    Self.speak(for: org), InboundRow.insertBlobs(new, org),
                    InboundRow.insertChunks(small, org),
                    Jobs.insert(new.compactMap(\.job)),
                ]
            } else if !new.isEmpty {
                written += [OperatorMail.insertChunks(small), OperatorMail.forgetOldest]
            }
        }
        try await transaction.batch(written)
        for row in rows where kept.contains(row.id) && row.content.isSpooled {
            try await keepPieces(of: row, in: transaction)
        }
        return kept
    }

    /// One piece at a time: neither we nor libpq ever hold more of it.
    private func keepPieces(of row: InboundRow, in transaction: Transaction) async throws {
        guard case .file(let source) = row.content.place else { return }
        if let org = row.org { try await transaction.query(Self.speak(for: org)) }
        for (position, start) in stride(from: 0, to: source.size, by: DatabaseBlobs.chunkBytes).enumerated() {
            let end = min(start + DatabaseBlobs.chunkBytes, source.size)
            let piece = try await source.read(start..<end)
            try await transaction.query(row.chunk(piece, at: position))
        }
    }

    private static func speak(for org: OrgID) -> Statement {
        "SELECT set_config('commune.org', \(org.description)::text, true)"
    }
}
