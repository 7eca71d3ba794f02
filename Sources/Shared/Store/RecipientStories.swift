// What became of a message at each of its recipients, as its sender may read it.

import Database
package import Platform

/// One recipient, and the last that is known of it.
package struct RecipientStory: Sendable {
    /// `to`, `cc` or `bcc`.
    package let role: String
    /// As it was given.
    package let address: String
    package let state: Recipient.State
    /// Tries so far.
    package let tries: Int
    /// The server of the last try; nil before one was reached.
    package let remoteMX: String?
    /// Protocol version of the last try; nil in clear, and before one was reached.
    package let tls: String?
    /// The last SMTP answer, or why none came; nil before the first try.
    package let lastReply: String?
    /// What was said in the last try, without secrets and contents; nil before the first.
    package let transcript: String?
    package let updatedAt: Timestamp

    init(_ row: Row) throws {
        role = try row("role")
        address = try row("address")
        state = try row("state")
        tries = try row("attempts")
        remoteMX = try row("remote_mx")
        tls = try row("tls")
        lastReply = try row("last_reply")
        transcript = try row("transcript")
        updatedAt = try row("updated_at")
    }
}
