// What each command does, under the name RFC 5321 gives it.

extension ServerSession {
    mutating func perform(_ command: Command) -> Action {
        switch command.verb {
        case .ehlo: EHLO(command.argument)
        case .helo: HELO(command.argument)
        case .lhlo: LHLO(command.argument)
        case .mail: MAIL(command.argument)
        case .rcpt: RCPT(command.argument)
        case .data: DATA(command.argument)
        case .rset: RSET(command.argument)
        case .noop: .reply(Reply.ok)
        // RFC 5321 §7.3: who is here is nobody's business.
        case .vrfy: command.argument.isEmpty ? failed(Reply.syntaxError) : .reply(Reply.cannotVerify)
        case .quit: .close(Reply.closing)
        case .startTLS: STARTTLS(command.argument)
        case .help: .reply(Reply.help)
        case .expn, .turn, .etrn, .bdat, .auth, .send: failed(Reply.commandNotImplemented)
        case .get, .post, .put, .head, .options, .delete, .connect, .patch, .trace, .pri:
            .close(Reply.notSMTP)
        case nil: junk()
        }
    }

    private mutating func junk() -> Action {
        junkCommands += 1
        guard junkCommands < limits.junkCommandsMax else { return .close(Reply.tooManyErrors) }
        return failed(Reply.commandNotRecognized)
    }

    // RFC 5321 §4.1.1.1.
    private mutating func EHLO(_ argument: [UInt8]) -> Action {
        dialect == .lmtp ? failed(Reply.commandNotImplemented) : greet(argument, extended: true)
    }

    private mutating func HELO(_ argument: [UInt8]) -> Action {
        dialect == .lmtp ? failed(Reply.commandNotImplemented) : greet(argument, extended: false)
    }

    // RFC 2033 §4.1: LHLO takes the place of both.
    private mutating func LHLO(_ argument: [UInt8]) -> Action {
        dialect == .smtp ? junk() : greet(argument, extended: true)
    }

    private mutating func greet(_ argument: [UInt8], extended: Bool) -> Action {
        // Real clients say all sorts of names; the only use of it is our Received field, so keep it printable there.
        let name = argument.prefix { !$0.isSpace }
        guard !name.isEmpty, name.count <= 255, name.allSatisfy({ $0 > 0x20 && $0 != 0x7F }) else {
            return failed(Reply.syntaxError)
        }
        clientName = String(decoding: name, as: UTF8.self)
        isExtended = extended
        envelope = nil
        state = .greeted
        guard extended else { return .reply(Reply(250, nil, hostname)) }
        var lines = [
            hostname, "PIPELINING", "SIZE \(limits.messageSizeMax)", "8BITMIME", "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
        ]
        if offersTLS, !isEncrypted { lines.append("STARTTLS") }
        return .reply(Reply(code: 250, status: nil, lines: lines))
    }

    // RFC 3207 §4.
    private mutating func STARTTLS(_ argument: [UInt8]) -> Action {
        guard offersTLS else { return failed(Reply.tlsUnavailable) }
        guard argument.isEmpty else { return failed(Reply.syntaxError) }
        guard !isEncrypted, state == .greeted else { return failed(Reply.badSequence) }
        return .startTLS(Reply.readyForTLS)
    }

    // RFC 5321 §4.1.1.2.
    private mutating func MAIL(_ argument: [UInt8]) -> Action {
        guard state == .greeted, let clientName else { return failed(Reply.badSequence) }
        guard !isOverloaded else { return .reply(Reply.insufficientStorage) }
        let path: PathArgument
        do { path = try PathArgument(argument, keyword: "FROM:", hostname: hostname) } catch {
            return failed(error == .syntax ? Reply.syntaxError : Reply.badSenderAddress)
        }
        var envelope = Envelope(sender: path.address, clientName: clientName, transferProtocol: "")
        if let fault = apply(path.parameters, to: &envelope) { return failed(fault) }
        if path.address?.needsSMTPUTF8 == true, !envelope.isSMTPUTF8 { return failed(Reply.nonASCIIAddress) }
        envelope.transferProtocol = transferProtocol(isSMTPUTF8: envelope.isSMTPUTF8)
        self.envelope = envelope
        state = .mail
        return .reply(Reply.senderOK)
    }

    private func apply(_ parameters: [(name: String, value: String?)], to envelope: inout Envelope) -> Reply?
    {
        // RFC 5321 §4.1.1.1: after HELO there are no extensions.
        guard isExtended || parameters.isEmpty else { return Reply.parameterNotRecognized }
        for (name, value) in parameters {
            switch (name, value) {
            case ("SIZE", .some(let value)):
                // RFC 1870 §6: what is too large is refused before it is sent; 20 digits may not fit an Int.
                guard !value.isEmpty, value.count <= 20, value.utf8.allSatisfy(\.isDigit) else {
                    return Reply.syntaxError
                }
                let size = Int(value) ?? Int.max
                guard size <= limits.messageSizeMax else { return Reply.messageTooBig }
                envelope.declaredSize = size
            case ("BODY", .some(let value)):
                switch value.uppercased() {
                case "7BIT": envelope.is8Bit = false
                case "8BITMIME": envelope.is8Bit = true
                default: return Reply.syntaxError
                }
            case ("SMTPUTF8", nil): envelope.isSMTPUTF8 = true
            default: return Reply.parameterNotRecognized
            }
        }
        return nil
    }

    private func transferProtocol(isSMTPUTF8: Bool) -> String {
        let secure = isEncrypted ? "S" : ""
        if isSMTPUTF8 { return dialect == .lmtp ? "UTF8LMTP\(secure)" : "UTF8SMTP\(secure)" }
        return dialect == .lmtp ? "LMTP\(secure)" : isExtended ? "ESMTP\(secure)" : "SMTP"
    }

    // RFC 5321 §4.1.1.3.
    private mutating func RCPT(_ argument: [UInt8]) -> Action {
        guard state == .mail, let envelope else { return failed(Reply.badSequence) }
        let path: PathArgument
        do { path = try PathArgument(argument, keyword: "TO:", hostname: hostname) } catch {
            return failed(error == .syntax ? Reply.syntaxError : Reply.badRecipientAddress)
        }
        guard path.parameters.isEmpty else { return failed(Reply.parameterNotRecognized) }
        guard let address = path.address else { return failed(Reply.badRecipientAddress) }
        if address.needsSMTPUTF8, !envelope.isSMTPUTF8 { return failed(Reply.nonASCIIAddress) }
        // RFC 5321 §4.5.3.1.10: the client sends the rest in another transaction; no error of its own.
        guard envelope.recipients.count < limits.recipientsMax else { return .reply(Reply.tooManyRecipients) }
        state = .checking(address)
        return .checkRecipient(address)
    }

    // RFC 5321 §4.1.1.4.
    private mutating func DATA(_ argument: [UInt8]) -> Action {
        guard argument.isEmpty else { return failed(Reply.syntaxError) }
        guard state == .mail, let envelope else { return failed(Reply.badSequence) }
        // RFC 2033 §4.2, RFC 5321 §3.3: without a recipient there is nothing to say yes to.
        guard !envelope.recipients.isEmpty else {
            return failed(dialect == .lmtp ? Reply.badSequence : Reply.noValidRecipients)
        }
        state = .data
        return .readData(Reply.startMailInput)
    }

    private mutating func RSET(_ argument: [UInt8]) -> Action {
        guard argument.isEmpty else { return failed(Reply.syntaxError) }
        reset()
        return .reply(Reply.ok)
    }
}
