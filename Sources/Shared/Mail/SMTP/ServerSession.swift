// One SMTP or LMTP client's session as a value: lines in, actions out. The listener owns the socket, the clock and the
// database; tests drive the same struct without any of them.

/// The server's half of an SMTP (RFC 5321) or LMTP (RFC 2033) conversation.
///
/// Feed every command line to `received`; answer `.checkRecipient` with `recipientChecked`, `.startTLS` with
/// `tlsStarted` (or close), `.readData` with `dataEnded` and `.accept` with `dataAccepted` or `dataRefused`.
package struct ServerSession: Sendable {
    /// Which protocol the port speaks.
    package enum Dialect: Sendable, Equatable { case smtp, lmtp }

    /// What the listener does next.
    package enum Action: Sendable, Equatable {
        /// Send the reply and read on.
        case reply(Reply)
        /// Ask whether we take mail for this address, then call `recipientChecked`.
        case checkRecipient(EmailAddress)
        /// Send the reply, then do the TLS handshake; nothing that was read before it counts afterwards.
        case startTLS(Reply)
        /// Send the reply, then read message data.
        case readData(Reply)
        /// Store the message, then call `dataAccepted` or `dataRefused`.
        case accept(Envelope)
        /// Send the replies: the message is refused (LMTP: one for each recipient).
        case refuse([Reply])
        /// Send the reply and close the connection.
        case close(Reply)
    }

    /// What is known about a recipient's address.
    package enum RecipientVerdict: Sendable, Equatable {
        case accepted
        /// No such inbox: 550 5.1.1.
        case unknown
        /// The inbox exists and takes no mail: 550 5.2.1.
        case disabled
        /// Not a domain of ours: 550 5.7.1, we never relay.
        case notOurDomain
        /// We could not find out: 451 4.3.0. Our own trouble is never a permanent refusal.
        case unavailable
        case refused(Reply)
    }

    enum State: Sendable, Equatable { case start, greeted, mail, checking(EmailAddress), data, storing }

    package let dialect: Dialect
    package let hostname: String
    package let limits: Limits
    /// False where no certificate is configured; then STARTTLS is neither offered nor known.
    package let offersTLS: Bool
    /// Set by the listener while the machine is overloaded: MAIL gets 452, what has begun goes on.
    package var isOverloaded = false
    /// True once the TLS handshake is over.
    package private(set) var isEncrypted: Bool
    /// The name of EHLO, HELO or LHLO; it proves nothing.
    package internal(set) var clientName: String?

    var state = State.start
    var isExtended = false
    /// The transaction that MAIL began; nil between two.
    package internal(set) var envelope: Envelope?
    var junkCommands = 0
    var errors = 0

    /// A session at its beginning; `isEncrypted` for ports that begin with TLS.
    package init(
        dialect: Dialect,
        hostname: String,
        limits: Limits = Limits(),
        offersTLS: Bool = false,
        isEncrypted: Bool = false
    ) {
        self.dialect = dialect
        self.hostname = hostname
        self.limits = limits
        self.offersTLS = offersTLS
        self.isEncrypted = isEncrypted
    }

    /// The 220 banner (RFC 5321 §3.1).
    package func greeting() -> Reply {
        Reply.greeting(hostname, protocol: dialect == .lmtp ? "LMTP" : "ESMTP")
    }

    /// The banner's place when the machine takes no more sessions (RFC 5321 §3.8).
    package func overloaded() -> Reply { Reply.tooBusy }

    /// The goodbye to a client that was silent for too long.
    package func idledOut() -> Reply { Reply.idleTooLong }

    /// The goodbye when this process shuts down.
    package func shuttingDown() -> Reply { Reply.shuttingDown }

    /// The answer to a client that talks before the banner (RFC 5321 §4.3.1).
    package func talkedEarly() -> Action { .close(Reply.earlyTalker) }

    /// One command line, without CRLF; `moreBuffered` when the client has already sent bytes after it.
    package mutating func received(_ line: [UInt8], moreBuffered: Bool = false) -> Action {
        let command = Command(line)
        switch state {
        case .checking, .data, .storing:
            // The listener waits for its own answer before it reads on; this is its fault, not the client's.
            return .close(Reply.tooBusy)
        case .start, .greeted, .mail: break
        }
        if moreBuffered, command.endsGroup {
            // RFC 2920 §3.1: these must be the last command of a group. What follows them was written without
            // knowing our answer, or was put there by somebody else.
            return command.changesEverything ? .close(Reply.pipelining) : failed(Reply.pipelining)
        }
        return perform(command)
    }

    /// A line that is none (RFC 5321 §2.3.8, §4.5.3.1.4).
    package mutating func received(_ fault: LineDecoder.LineFault) -> Action {
        switch fault {
        case .tooLong: failed(Reply.lineTooLong)
        case .endless: .close(Reply.lineTooLong)
        case .bareLineFeed: .close(Reply.bareLineFeed)
        case .bareCarriageReturn, .nul: failed(Reply.badCharacter)
        }
    }

    /// The answer to `.checkRecipient`.
    package mutating func recipientChecked(_ verdict: RecipientVerdict) -> Action {
        guard case .checking(let address) = state else { return failed(Reply.badSequence) }
        state = .mail
        switch verdict {
        case .accepted:
            envelope?.recipients.append(address)
            return .reply(Reply.recipientOK)
        case .unknown: return failed(Reply.mailboxUnavailable)
        case .disabled: return failed(Reply.mailboxDisabled)
        case .notOurDomain: return failed(Reply.relayingDenied)
        // Our trouble is not the client's error.
        case .unavailable: return .reply(Reply.temporaryFailure)
        case .refused(let reply): return failed(reply)
        }
    }

    /// The handshake is over: everything the client said before it is forgotten (RFC 3207 §4.2).
    package mutating func tlsStarted() {
        isEncrypted = true
        state = .start
        isExtended = false
        clientName = nil
        envelope = nil
        junkCommands = 0
    }

    /// Counts an error of the client's and closes when there were too many.
    mutating func failed(_ reply: Reply) -> Action {
        errors += 1
        return errors >= limits.errorsMax ? .close(Reply.tooManyErrors) : .reply(reply)
    }

    /// RFC 5321 §4.1.1.5: drops the transaction and keeps the session.
    mutating func reset() {
        envelope = nil
        if state != .start { state = .greeted }
    }
}
