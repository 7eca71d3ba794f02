// Our side of an SMTP session (RFC 5321) as a value: replies in, actions out. No socket and no clock.
//
// greeting → EHLO (or HELO) → STARTTLS → EHLO → AUTH → idle ⇄ transaction → QUIT
//
// The caller connects, calls `start`, and does each returned action in order. It feeds every reply to `received` and
// tells of what is no reply: `connectionLost`, `timedOut`, `malformed`, `tlsEstablished`, `tlsFailed`.
// `timeout` is how long the present wait may take. Transactions are handed in by `deliver` one at a time.

/// The client half of an SMTP session; each recipient of each transaction gets exactly one outcome, however it ends.
package struct ClientSession: Sendable {
    enum Awaited: Equatable {
        case greeting, ehlo, helo, startTLS, tlsHandshake
        case authPlain(mayRepeat: Bool), authLoginUser, authLoginPassword, authResult
        case reset, mail, recipient(Int), data, endOfData, quit
    }

    let configuration: Configuration
    /// Replies that are due, in the order in which they come.
    var awaited: [Awaited] = []
    var running: Running?
    var waiting: Transaction?
    /// The server may hold parts of an earlier transaction, which RSET clears.
    var needsReset = false
    private var isOpen = true

    /// What the server offers; empty before EHLO and after HELO.
    package private(set) var capabilities = Capabilities()
    /// Whether what is sent now is encrypted.
    package private(set) var isEncrypted: Bool
    /// Set when the session ended otherwise than by `quit`.
    package private(set) var failure: Failure?
    /// What was said so far, without secrets and contents.
    package internal(set) var transcript = Transcript()
    /// Recipients of the last transaction whose outcome was the answer to their own RCPT, or to a message for them alone.
    ///
    /// Any other answer says nothing about their address.
    package internal(set) var answeredByName: Set<Int> = []

    package init(_ configuration: Configuration) {
        self.configuration = configuration
        isEncrypted = configuration.isEncryptedFromStart
    }

    /// Whether `deliver` would begin at once: the session is open, greeted and has nothing to do.
    package var isIdle: Bool { isOpen && isReady && awaited.isEmpty && running == nil }

    /// The session is over; whatever comes from the connection no longer matters.
    package var isClosed: Bool { !isOpen }

    private var isReady = false

    /// How long the reply that is due may take; nil when none is due.
    package var timeout: Duration? {
        switch awaited.first {
        case nil: nil
        case .tlsHandshake: configuration.timeouts.tlsHandshake
        case .data: configuration.timeouts.data
        case .endOfData: configuration.timeouts.endOfData
        case .quit: configuration.timeouts.quit
        default: configuration.timeouts.reply
        }
    }

    // MARK: What the caller tells

    /// The connection stands; the server speaks first.
    package mutating func start() -> [Action] {
        awaited = [.greeting]
        return []
    }

    /// A complete reply came.
    package mutating func received(_ reply: Reply) -> [Action] {
        guard isOpen else { return [] }
        transcript.server(reply)
        guard let step = awaited.first, step != .tlsHandshake else {
            // Nothing was asked: a server that closes an idle connection, or one that speaks out of turn.
            if reply.code == 421 { return end(.deferred(reply)) }
            return end(.deferred(.connectionFailed("The server sent a reply that nothing asked for")))
        }
        if step == .quit {
            isOpen = false
            awaited = []
            return [.close]
        }
        // RFC 5321 §3.8: the server closes after this, whatever it was asked.
        if reply.code == 421 { return end(.deferred(reply)) }
        awaited.removeFirst()
        switch step {
        case .greeting: return greeted(reply)
        case .ehlo, .helo: return hailed(reply, byHELO: step == .helo)
        case .startTLS: return answeredSTARTTLS(reply)
        case .authPlain, .authLoginUser, .authLoginPassword, .authResult: return authenticating(reply, step)
        case .reset, .mail, .recipient, .data, .endOfData: return transacting(reply, step)
        case .tlsHandshake, .quit: return []
        }
    }

    /// The handshake that `startTLS` asked for is done.
    package mutating func tlsEstablished() -> [Action] {
        guard isOpen, awaited.first == .tlsHandshake else { return [] }
        awaited.removeFirst()
        isEncrypted = true
        transcript.note("TLS established")
        // RFC 3207 §4.2: what was learnt in clear text is forgotten.
        capabilities = Capabilities()
        return command("EHLO \(configuration.heloName)", awaiting: .ehlo)
    }

    /// The handshake failed; clear text after it would be what an attacker wants, so the session ends.
    package mutating func tlsFailed(_ reason: String) -> [Action] {
        guard isOpen else { return [] }
        return end(.deferred(.connectionFailed("TLS handshake failed: \(reason)")))
    }

    /// The connection went; `finalDotWritten: false` says that the end of the message surely never left.
    package mutating func connectionLost(_ reason: String, finalDotWritten: Bool = true) -> [Action] {
        guard isOpen else { return [] }
        if awaited.first == .quit {
            isOpen = false
            return [.close]
        }
        transcript.note(reason)
        if awaited.contains(.endOfData), running?.accepted.isEmpty == false, finalDotWritten {
            return end(.deferred(.outcomeUnknown))
        }
        return end(.deferred(.connectionFailed(reason)))
    }

    /// The reply that was due did not come within `timeout`.
    package mutating func timedOut() -> [Action] {
        connectionLost("Timed out waiting for the server's reply")
    }

    /// The server sent something that is no reply.
    package mutating func malformed(_ fault: ReplyFault) -> [Action] {
        connectionLost("The server sent a malformed reply (\(fault))")
    }

    /// Hands in a message, which begins at once or when the session is ready.
    ///
    /// A second one before the first is done is deferred at once, without `transactionDone`.
    package mutating func deliver(_ transaction: Transaction) -> [Action] {
        guard isOpen else {
            let attempt = failure?.attempt ?? .deferred(.connectionFailed("The session is closed"))
            return transaction.recipients.indices.map { .outcome(recipient: $0, attempt) } + [
                .transactionDone
            ]
        }
        guard running == nil, waiting == nil else {
            let attempt = Attempt.deferred(.connectionFailed("The session is busy"))
            return transaction.recipients.indices.map { .outcome(recipient: $0, attempt) }
        }
        waiting = transaction
        return isIdle ? beginWaiting() : []
    }

    /// Ends the session politely; a transaction in progress is given up.
    package mutating func quit() -> [Action] {
        guard isOpen else { return [] }
        guard isIdle else { return end(.deferred(.connectionFailed("The session was given up"))) }
        return command("QUIT", awaiting: .quit)
    }

    // MARK: Opening

    private mutating func greeted(_ reply: Reply) -> [Action] {
        guard reply.code == 220 else { return refused(at: .greeting, Attempt(reply)) }
        return command("EHLO \(configuration.heloName)", awaiting: .ehlo)
    }

    private mutating func hailed(_ reply: Reply, byHELO: Bool) -> [Action] {
        guard reply.isPositive else {
            // RFC 5321 §3.2: servers that know no EHLO know HELO, but neither TLS nor AUTH.
            let mayFallBack = !byHELO && !isEncrypted && configuration.tls != .required
            if reply.isPermanent, mayFallBack, configuration.credentials == nil {
                return command("HELO \(configuration.heloName)", awaiting: .helo)
            }
            return refused(at: .hello, Attempt(reply))
        }
        if !byHELO { capabilities = Capabilities(reply) }
        if !isEncrypted, configuration.tls != .none {
            if capabilities.startTLS { return command("STARTTLS", awaiting: .startTLS) }
            if configuration.tls == .required {
                return refused(at: .startTLS, .deferred(.requiredTLSUnavailable))
            }
        }
        return authenticate()
    }

    private mutating func answeredSTARTTLS(_ reply: Reply) -> [Action] {
        if reply.code == 220 {
            awaited = [.tlsHandshake]
            return [.startTLS]
        }
        // No handshake was tried, so clear text is no downgrade of one.
        if configuration.tls == .required { return refused(at: .startTLS, .deferred(reply)) }
        return authenticate()
    }

    private mutating func authenticate() -> [Action] {
        guard let credentials = configuration.credentials else { return ready() }
        guard isEncrypted || configuration.allowsClearTextAuthentication else {
            return refused(at: .authentication, .deferred(.requiredTLSUnavailable))
        }
        if capabilities.authentication.contains("PLAIN") {
            let secret = plainSecret(credentials)
            return command(
                "AUTH PLAIN \(secret)",
                shownAs: "AUTH PLAIN …",
                awaiting: .authPlain(mayRepeat: true)
            )
        }
        if capabilities.authentication.contains("LOGIN") {
            return command("AUTH LOGIN", awaiting: .authLoginUser)
        }
        return refused(at: .authentication, .deferred(.authenticationUnavailable))
    }

    private mutating func authenticating(_ reply: Reply, _ step: Awaited) -> [Action] {
        if reply.code == 235 { return ready() }
        guard reply.code == 334, let credentials = configuration.credentials else {
            // Our password is wrong, the recipients' addresses are not: never a bounce.
            return refused(at: .authentication, .deferred(reply))
        }
        switch step {
        case .authPlain(mayRepeat: true):
            return command(plainSecret(credentials), shownAs: "…", awaiting: .authPlain(mayRepeat: false))
        case .authLoginUser:
            let user = Base64Encoder.string(credentials.user.utf8)
            return command(user, shownAs: "…", awaiting: .authLoginPassword)
        case .authLoginPassword:
            let password = Base64Encoder.string(credentials.password.utf8)
            return command(password, shownAs: "…", awaiting: .authResult)
        default:
            return refused(at: .authentication, .deferred(reply))
        }
    }

    // RFC 4616: no other identity than the user's own.
    private func plainSecret(_ credentials: Credentials) -> String {
        Base64Encoder.string([0] + Array(credentials.user.utf8) + [0] + Array(credentials.password.utf8))
    }

    private mutating func ready() -> [Action] {
        isReady = true
        return beginWaiting()
    }

    // MARK: Ending

    private mutating func refused(at stage: Failure.Stage, _ attempt: Attempt) -> [Action] {
        let goodbye = command("QUIT", awaiting: .quit)
        return goodbye + end(attempt, at: stage)
    }

    /// Ends the session now: what is undecided gets this fate.
    mutating func end(_ attempt: Attempt, at stage: Failure.Stage? = nil) -> [Action] {
        failure = Failure(stage: stage ?? self.stage, attempt: attempt)
        isOpen = false
        awaited = []
        return abandon(attempt) + [.close]
    }

    private var stage: Failure.Stage {
        if running != nil { return .transaction }
        switch awaited.first {
        case .greeting: return .greeting
        case .ehlo, .helo: return .hello
        case .startTLS: return .startTLS
        case .tlsHandshake: return .tlsHandshake
        case .authPlain, .authLoginUser, .authLoginPassword, .authResult: return .authentication
        default: return .idle
        }
    }

    // MARK: Commands

    mutating func command(_ line: String, shownAs shown: String? = nil, awaiting step: Awaited) -> [Action] {
        transcript.client(shown ?? line)
        awaited.append(step)
        return [.send(Array(line.utf8) + [0x0D, 0x0A])]
    }
}
