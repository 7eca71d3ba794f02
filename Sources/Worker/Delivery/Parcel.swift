// What a job hands to a delivery, and what it gets back.

import Mail
import Platform

/// A message for recipients of one domain.
struct Parcel: Sendable {
    /// The reverse-path; empty for `<>`.
    let sender: String
    let recipients: [EmailAddress]
    /// The domain of all recipients; A-labels, lower case.
    let domain: String
    /// Complete and signed, with CRLF.
    let message: [UInt8]
    /// The header itself holds UTF-8.
    let needsSMTPUTF8: Bool
}

/// The fate of one recipient in one try.
struct RecipientOutcome: Sendable {
    let attempt: Attempt
    /// The host that decided; nil when none was spoken to.
    var remoteMX: String?
    /// `TLSv1.3`; nil when the session was in clear text.
    var tls: String?
    /// The try ended on our side: its turn did not come, the site rests, or the worker stops.
    ///
    /// It costs no attempt.
    var isPaced = false
    /// When a paced recipient may come again.
    var retryAfter: Duration?
    var record = DeliveryRecord()

    /// The message was sent and no final answer came: it may have been delivered.
    var isOutcomeUnknown: Bool { attempt.isOutcomeUnknown }

    /// The deciding reply on one line, at most 500 characters.
    var detail: String { String(attempt.reply.description.prefix(500)) }

    /// What was said in this try; bounded, without secrets and content.
    var transcript: String { record.text }
}

/// The record of a try: what went wrong on the way, then the session that decided.
struct DeliveryRecord: Sendable {
    static let notesMax = 40

    private(set) var notes: [String] = []
    var session: Transcript?

    /// Lines of `Transcript`'s form.
    var text: String {
        (notes + (session?.lines ?? [])).joined(separator: "\n")
    }

    mutating func note(_ line: String) {
        guard notes.count < Self.notesMax else { return }
        notes.append("-- \(line.prefix(300))")
    }

    /// Keeps a session that did not decide: another one follows.
    mutating func setAside(_ transcript: Transcript) {
        notes.append(contentsOf: transcript.lines.prefix(max(0, Self.notesMax - notes.count)))
    }
}
