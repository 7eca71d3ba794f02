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
    /// The answer is about this recipient's address, and not about the sender, the session or the message.
    var isAboutRecipient = false
    var record = DeliveryRecord()

    /// The message was sent and no final answer came: it may have been delivered.
    var isOutcomeUnknown: Bool { attempt.isOutcomeUnknown }

    /// The deciding reply on one line, at most 500 characters.
    var detail: String { String(attempt.reply.description.prefix(500)) }

    /// What was said in this try, without secrets and content; at most 8 KiB.
    var transcript: String { record.text }
}

/// The record of a try: what went wrong on the way, then the session that decided.
struct DeliveryRecord: Sendable {
    static let notesMax = 40
    /// In octets: it is kept with each recipient.
    static let textOctetsMax = 8 * 1024

    private(set) var notes: [String] = []
    var session: Transcript?

    /// Lines of `Transcript`'s form; of a longer text the beginning and the end.
    var text: String {
        let lines = (notes + (session?.lines ?? [])).map { $0.replacing("\0", with: "\u{fffd}") }
        let octets = lines.reduce(0) { $0 + $1.utf8.count + 1 }
        guard octets > Self.textOctetsMax + 1 else { return lines.joined(separator: "\n") }
        let gap = "-- …"
        let half = (Self.textOctetsMax - gap.utf8.count - 2) / 2
        let beginning = Self.lines(lines, within: half)
        let end = Self.lines(lines.reversed(), within: half)
        return (beginning + [gap] + end.reversed()).joined(separator: "\n")
    }

    private static func lines(_ lines: [String], within octetsMax: Int) -> [String] {
        var octets = 0
        return Array(
            lines.prefix {
                octets += $0.utf8.count + 1
                return octets <= octetsMax
            }
        )
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
