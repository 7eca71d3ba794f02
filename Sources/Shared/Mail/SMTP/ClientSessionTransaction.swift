// One transaction of a client session: MAIL, RCPT, DATA, the message, the dot (RFC 5321 §3.3, RFC 2920).

extension ClientSession {
    /// The transaction in progress and what is known of each of its recipients.
    struct Running {
        let transaction: Transaction
        /// Recipients that the server is asked about, as indexes into the transaction.
        let asked: [Int]
        /// Recipients that it accepted and that wait for the fate of the message.
        var accepted: [Int] = []
        /// Recipients without an outcome.
        var open: Set<Int>
        /// MAIL was refused: what was pipelined behind it is answered, but says nothing.
        var senderRefused = false
    }

    /// Begins the transaction that `deliver` left, if there is one.
    mutating func beginWaiting() -> [Action] {
        guard let transaction = waiting else { return [] }
        waiting = nil
        transcript.beginTransaction()
        answeredByName = []
        var actions: [Action] = []
        var asked: [Int] = []
        for (index, recipient) in transaction.recipients.enumerated() {
            if let reply = localRefusal(transaction, recipient) {
                actions.append(.outcome(recipient: index, .bounced(reply)))
            } else {
                asked.append(index)
            }
        }
        guard !asked.isEmpty else { return actions + [.transactionDone] }
        running = Running(transaction: transaction, asked: asked, open: Set(asked))
        return actions + commands(for: transaction, asked: asked)
    }

    // What the server's EHLO already refuses need not be asked.
    private func localRefusal(_ transaction: Transaction, _ recipient: EmailAddress) -> Reply? {
        if let sizeMax = capabilities.sizeMax, transaction.message.count > sizeMax { return .messageTooBig }
        let needsUTF8 =
            transaction.needsSMTPUTF8 || transaction.sender?.needsSMTPUTF8 == true || recipient.needsSMTPUTF8
        return needsUTF8 && !capabilities.smtpUTF8 ? .nonASCIIAddress : nil
    }

    private mutating func commands(for transaction: Transaction, asked: [Int]) -> [Action] {
        guard configuration.pipelines, capabilities.pipelining else {
            if needsReset { return command("RSET", awaiting: .reset) }
            return command(mailCommand(transaction, asked), awaiting: .mail)
        }
        // One write, one round trip; DATA ends the group (RFC 2920 §3.1).
        var group: [UInt8] = []
        func add(_ actions: [Action]) {
            for case .send(let bytes) in actions { group += bytes }
        }
        if needsReset { add(command("RSET", awaiting: .reset)) }
        add(command(mailCommand(transaction, asked), awaiting: .mail))
        for index in asked {
            add(command("RCPT TO:<\(transaction.recipients[index])>", awaiting: .recipient(index)))
        }
        add(command("DATA", awaiting: .data))
        return [.send(group)]
    }

    private func mailCommand(_ transaction: Transaction, _ asked: [Int]) -> String {
        var line = "MAIL FROM:<\(transaction.sender.map(\.description) ?? "")>"
        if capabilities.offersSize { line += " SIZE=\(transaction.message.count)" }
        let isEightBit = transaction.message.contains { $0 >= 0x80 }
        if isEightBit, capabilities.eightBitMIME { line += " BODY=8BITMIME" }
        let needsUTF8 =
            transaction.needsSMTPUTF8 || transaction.sender?.needsSMTPUTF8 == true
            || asked.contains { transaction.recipients[$0].needsSMTPUTF8 }
        if needsUTF8 { line += " SMTPUTF8" }
        return line
    }

    /// A reply to one of the transaction's commands.
    mutating func transacting(_ reply: Reply, _ step: Awaited) -> [Action] {
        guard let transaction = running?.transaction else { return [] }
        let isPipelined = !awaited.isEmpty
        switch step {
        case .reset:
            needsReset = false
            if isPipelined { return [] }
            return command(mailCommand(transaction, running?.asked ?? []), awaiting: .mail)
        case .mail:
            return answeredMAIL(reply, isPipelined: isPipelined)
        case .recipient(let index):
            return answeredRCPT(index, reply, isPipelined: isPipelined)
        case .data:
            return answeredDATA(reply)
        default:
            return answeredEndOfData(reply)
        }
    }

    private mutating func answeredMAIL(_ reply: Reply, isPipelined: Bool) -> [Action] {
        guard reply.isPositive else {
            let actions = settleAll(Attempt(refusing: reply))
            running?.senderRefused = true
            return isPipelined ? actions : actions + done(reset: false)
        }
        needsReset = true
        return isPipelined ? [] : askNext(after: nil)
    }

    private mutating func answeredRCPT(_ index: Int, _ reply: Reply, isPipelined: Bool) -> [Action] {
        var actions: [Action] = []
        if running?.senderRefused == false {
            if reply.isPositive {
                running?.accepted.append(index)
            } else {
                answeredByName.insert(index)
                actions = settle(index, fate(ofRecipient: reply))
            }
        }
        return isPipelined ? actions : actions + askNext(after: index)
    }

    // RFC 5321 §4.5.3.1.10: 552 to RCPT means too many recipients, which another transaction may mend.
    private func fate(ofRecipient reply: Reply) -> Attempt {
        let tooMany = reply.status.map { $0.subject == 5 && $0.detail == 3 } ?? (reply.code == 552)
        return tooMany ? .deferred(reply) : Attempt(refusing: reply)
    }

    // Without pipelining: the next RCPT, or DATA behind the last one if anybody is left to have the message.
    private mutating func askNext(after index: Int?) -> [Action] {
        guard let running else { return [] }
        let next = index.map { index in running.asked.first { $0 > index } } ?? running.asked.first
        if let next {
            return command("RCPT TO:<\(running.transaction.recipients[next])>", awaiting: .recipient(next))
        }
        return running.accepted.isEmpty ? done(reset: true) : command("DATA", awaiting: .data)
    }

    private mutating func answeredDATA(_ reply: Reply) -> [Action] {
        guard let running else { return [] }
        guard reply.code == 354 else {
            return settleAll(Attempt(refusing: reply)) + done(reset: true)
        }
        awaited.append(.endOfData)
        guard !running.accepted.isEmpty else {
            // RFC 2920 §3.1: the server waits for data that nobody shall have; an empty message ends that.
            transcript.client(".")
            return [.send(TransparencyEncoder.endOfData)]
        }
        transcript.client("(message of \(running.transaction.message.count) octets) .")
        return [
            .send(TransparencyEncoder.encode(running.transaction.message)),
            .send(TransparencyEncoder.endOfData),
        ]
    }

    private mutating func answeredEndOfData(_ reply: Reply) -> [Action] {
        if let accepted = running?.accepted, accepted.count == 1 { answeredByName.formUnion(accepted) }
        return settleAll(Attempt(reply)) + done(reset: !reply.isPositive)
    }

    // MARK: Outcomes

    private mutating func settle(_ index: Int, _ attempt: Attempt) -> [Action] {
        running?.open.remove(index) == nil ? [] : [.outcome(recipient: index, attempt)]
    }

    private mutating func settleAll(_ attempt: Attempt) -> [Action] {
        (running?.open ?? []).sorted().flatMap { settle($0, attempt) }
    }

    private mutating func done(reset: Bool) -> [Action] {
        needsReset = reset
        running = nil
        return [.transactionDone] + beginWaiting()
    }

    /// Gives the transaction in progress and the one that waits this fate.
    mutating func abandon(_ attempt: Attempt) -> [Action] {
        var actions: [Action] = []
        if running != nil {
            actions += settleAll(attempt) + [.transactionDone]
            running = nil
        }
        if let transaction = waiting {
            actions += transaction.recipients.indices.map { .outcome(recipient: $0, attempt) }
            actions.append(.transactionDone)
            waiting = nil
        }
        return actions
    }
}

extension Attempt {
    /// The fate that a reply other than the expected one gives; a success where none was due is no delivery.
    init(refusing reply: Reply) {
        if case .delivered = Attempt(reply) {
            self = .deferred(reply)
        } else {
            self = Attempt(reply)
        }
    }
}
