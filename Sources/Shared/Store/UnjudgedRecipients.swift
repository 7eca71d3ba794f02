// Recipients of whose domain nothing was known when their message was accepted: what the verdict on it writes, in the
// transaction that ends the job, and whose mail comes to this installation whatever the DNS says.

package import Database
import Foundation
import Mail
package import Platform
package import Queue

/// A message with those of its recipients who wait for a verdict on their domain.
package struct UnjudgedRecipients: Sendable {
    private let message: AddressedMessage
    /// Each gets bytes of its own, and so a job.
    private let eachApart: Bool

    init(_ message: AddressedMessage, eachApart: Bool) {
        self.message = message
        self.eachApart = eachApart
    }

    /// The jobs that send to them.
    package func jobs() throws -> [NewJob] {
        try SendPayload.jobs(
            of: message.id,
            to: message.recipients.filter(\.state.isOpen).map { ($0.ordinal, $0.domain) },
            eachApart: eachApart,
            org: message.org
        )
    }

    /// Gives them up, with an event for each.
    package func rejection(_ reason: String) -> [Statement] { message.givingUp(reason) }
}

extension Store {
    /// The recipients of a `validate-recipients` job; nil when their message was deleted meanwhile.
    package func unjudgedRecipients(
        _ payload: ValidateRecipientsPayload,
        org: OrgID
    ) async throws -> UnjudgedRecipients? {
        guard let message = try await addressedMessage(payload.recipients, org: org) else { return nil }
        let rows = try await database.query(
            .worker,
            """
            SELECT composition ->> 'unsubscribeURL' IS NOT NULL AS apart FROM message_bodies
            WHERE org_id = \(org) AND message_id = \(payload.message)
            """
        )
        guard let row = rows.first else { return nil }
        return UnjudgedRecipients(message, eachApart: try row("apart"))
    }

    /// Those of the domains whose mail comes to this installation: the platform's, and what any organization verified.
    package func hostedDomains(among names: Set<String>) async throws(DatabaseError) -> Set<String> {
        guard !names.isEmpty else { return [] }
        let rows = try await database.query(
            .lookup,
            """
            SELECT name FROM unnest(\(names.sorted())::text[]) AS w (name)
            WHERE EXISTS (SELECT FROM find_recipient(w.name, ''))
            """
        )
        var hosted: Set<String> = []
        for row in rows { hosted.insert(try row("name")) }
        return hosted
    }
}
