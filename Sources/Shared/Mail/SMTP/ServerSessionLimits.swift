// What a client may do, and who sends what to whom.

extension ServerSession {
    /// The bounds of one session, each with the reply of design/mail.md.
    package struct Limits: Sendable, Equatable {
        /// Bytes of a command line, CRLF included.
        package var commandLineMax = 2_048
        /// Bytes of a message: advertised (RFC 1870), checked at MAIL and at the end of the data.
        package var messageSizeMax = 40 << 20
        /// Recipients of one message (RFC 5321 §4.5.3.1.8 asks for 100).
        package var recipientsMax = 100
        /// Received fields of one message (RFC 5321 §6.3).
        package var receivedFieldsMax = 50
        /// Commands that nobody knows before the connection is closed.
        package var junkCommandsMax = 3
        /// Errors of every kind before the connection is closed.
        package var errorsMax = 20

        package init() {}
    }
}

/// RFC 5321 §2.3.1: who sends to whom, as MAIL and RCPT said it.
package struct Envelope: Sendable, Equatable {
    /// Where failures go; nil for `<>`, which nothing may be returned to.
    package var sender: EmailAddress?
    /// In the order of the RCPT commands; an address may come twice.
    package var recipients: [EmailAddress] = []
    /// The SIZE of MAIL (RFC 1870), which the client may have guessed.
    package var declaredSize: Int?
    /// BODY=8BITMIME was given (RFC 6152).
    package var is8Bit = false
    /// SMTPUTF8 was given (RFC 6531).
    package var isSMTPUTF8 = false
    /// What the client called itself.
    package var clientName: String
    /// The word after `with` in our Received field (RFC 3848, RFC 6531 §4.3).
    package var transferProtocol: String
}
