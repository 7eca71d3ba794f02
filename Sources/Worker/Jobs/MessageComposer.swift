// From a message's row to the bytes that leave: composed, signed, under its return path.
//
// All of it is deterministic: every try sends the same bytes from the same return path, which greylisting compares.

import Mail
import Platform
import Store

/// Composes what a send job hands over.
struct MessageComposer: Sendable {
    /// A message that no try can send.
    struct Unsendable: Error {
        let reason: String
    }

    let signers: SignerCache
    let secrets: SecretBox

    /// The message for those of its recipients who are still to have it.
    func parcel(
        _ message: OutboundMessage,
        with files: [DraftAttachment],
        to open: [Recipient],
        domain: String
    ) async throws -> Parcel {
        let composition = message.composition
        // The first of the job's recipients stands for all of them, whoever of them is still open.
        guard let first = message.recipients.first else {
            throw Unsendable(reason: "The message has no recipients in \(domain).")
        }
        let token = RecipientToken(org: message.org, message: message.id, ordinal: first.ordinal)
        let draft = draft(message, files, token)
        let body = draft.compose()
        let sender = composition.from.address.domain
        guard let signers = try await signers.signers(domain: sender, org: message.org) else {
            throw Unsendable(reason: "The sending domain has no signing keys any more.")
        }
        let signature = try DKIM.sign(body, signers: signers, at: message.createdAt.date)
        return Parcel(
            sender: ReturnPath(token: token.text(.returnPath, secrets: secrets), domain: sender).address,
            recipients: try open.map { try EmailAddress($0.address) },
            domain: domain,
            message: signature + body,
            needsSMTPUTF8: draft.needsSMTPUTF8
        )
    }

    private func draft(
        _ message: OutboundMessage,
        _ files: [DraftAttachment],
        _ token: RecipientToken
    ) -> Draft {
        let composition = message.composition
        return Draft(
            from: composition.from,
            to: composition.to,
            cc: composition.cc,
            replyTo: composition.replyTo,
            subject: message.subject,
            text: composition.text ?? message.html.map(HTMLText.text(from:)),
            html: message.html,
            headers: composition.headers + unsubscribeHeaders(composition, token),
            messageID: message.rfcMessageID,
            date: message.createdAt.date,
            inReplyTo: composition.inReplyTo,
            references: composition.references,
            attachments: files,
            boundarySeed: message.id.description
        )
    }

    /// RFC 8058; the job has one recipient, whose link it is.
    private func unsubscribeHeaders(_ composition: Composition, _ token: RecipientToken) -> [DraftHeader] {
        guard let url = composition.unsubscribeURL else { return [] }
        return [
            DraftHeader(
                name: "List-Unsubscribe",
                value: "<\(url)\(token.text(.unsubscribe, secrets: secrets))>"
            ),
            DraftHeader(name: "List-Unsubscribe-Post", value: "List-Unsubscribe=One-Click"),
        ]
    }
}
