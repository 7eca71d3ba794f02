// Replies by name, for our server and for what our client decides without asking one.

extension Reply {
    private static func status(_ class: Int, _ subject: Int, _ detail: Int) -> EnhancedStatus {
        EnhancedStatus(`class`, subject, detail)
    }

    // MARK: Success

    /// 220, the first line of a session.
    package static func greeting(_ host: String, protocol name: String = "ESMTP") -> Reply {
        Reply(220, nil, "\(host) \(name)")
    }
    package static let readyForTLS = Reply(220, status(2, 0, 0), "Ready to start TLS")
    package static let closing = Reply(221, status(2, 0, 0), "Bye")
    package static let ok = Reply(250, status(2, 0, 0), "OK")
    package static let senderOK = Reply(250, status(2, 1, 0), "Sender OK")
    package static let recipientOK = Reply(250, status(2, 1, 5), "Recipient OK")
    package static let accepted = Reply(250, status(2, 0, 0), "Message accepted")
    package static let cannotVerify = Reply(252, status(2, 5, 2), "Send some mail, we will try to deliver it")
    package static let startMailInput = Reply(354, nil, "End data with <CR><LF>.<CR><LF>")

    // MARK: Later

    package static let shuttingDown = Reply(421, status(4, 3, 2), "Shutting down, try again later")
    package static let tooBusy = Reply(421, status(4, 3, 2), "Too busy, try again later")
    package static let tooManyConnections = Reply(421, status(4, 7, 0), "Too many connections from you")
    package static let tooManyErrors = Reply(421, status(4, 7, 0), "Too many errors, closing")
    package static let idleTooLong = Reply(421, status(4, 4, 2), "Idle for too long, closing")
    package static let temporaryFailure = Reply(451, status(4, 3, 0), "Temporary failure, try again later")
    package static let insufficientStorage = Reply(
        452,
        status(4, 3, 1),
        "Insufficient storage, try again later"
    )
    package static let tooManyRecipients = Reply(452, status(4, 5, 3), "Too many recipients")
    package static let tlsInjection = Reply(
        503,
        status(5, 5, 0),
        "Nothing may follow STARTTLS before the handshake"
    )
    package static let tlsUnavailable = Reply(454, status(4, 7, 0), "TLS is not available")

    // MARK: Never

    package static let commandNotRecognized = Reply(500, status(5, 5, 1), "Command not recognized")
    package static let lineTooLong = Reply(500, status(5, 5, 2), "Line too long")
    package static let syntaxError = Reply(501, status(5, 5, 4), "Syntax error in parameters")
    package static let badSenderAddress = Reply(501, status(5, 1, 7), "Bad sender address syntax")
    package static let badRecipientAddress = Reply(501, status(5, 1, 3), "Bad recipient address syntax")
    package static let commandNotImplemented = Reply(502, status(5, 5, 1), "Command not implemented")
    package static let badSequence = Reply(503, status(5, 5, 1), "Bad sequence of commands")
    package static let parameterNotRecognized = Reply(555, status(5, 5, 4), "Parameter not recognized")
    package static let mustUseTLS = Reply(530, status(5, 7, 0), "Must issue a STARTTLS command first")
    package static let mailboxUnavailable = Reply(550, status(5, 1, 1), "No such mailbox here")
    package static let mailboxDisabled = Reply(550, status(5, 2, 1), "Mailbox disabled")
    package static let relayingDenied = Reply(550, status(5, 7, 1), "Relaying denied")
    package static let messageTooBig = Reply(552, status(5, 3, 4), "Message too big")
    package static let nonASCIIAddress = Reply(553, status(5, 6, 7), "Address needs SMTPUTF8")
    package static let transactionFailed = Reply(554, status(5, 0, 0), "Transaction failed")
    package static let noValidRecipients = Reply(554, status(5, 5, 1), "No valid recipients")
    package static let tooManyHops = Reply(554, status(5, 4, 6), "Too many hops")
    package static let notSMTP = Reply(554, status(5, 5, 1), "This is not a web server")
    package static let bareLineBreak = Reply(554, status(5, 6, 0), "Bare CR or LF is not allowed")
    package static let nullMX = Reply(556, status(5, 1, 10), "Domain accepts no mail (null MX)")

    // MARK: What our client says of a peer, without a reply of the peer's

    /// The connection went while a reply to the final dot was due: the message may have been taken.
    package static let outcomeUnknown = Reply(
        451,
        status(4, 4, 2),
        "Connection lost after the message was sent; it may have been delivered"
    )
    /// A reason in the peer's or the network's behaviour to try later.
    package static func connectionFailed(_ reason: String) -> Reply {
        Reply(451, status(4, 4, 2), reason)
    }
    package static let requiredTLSUnavailable = Reply(
        451,
        status(4, 7, 10),
        "TLS is required and the server does not offer it"
    )
    package static let authenticationUnavailable = Reply(
        451,
        status(4, 7, 0),
        "The server offers no usable authentication"
    )
}
