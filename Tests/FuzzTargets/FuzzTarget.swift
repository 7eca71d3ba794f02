// What strangers write, each kind with its reader and what must hold of it whatever the bytes are. libFuzzer
// (scripts/fuzz) and the tests' own mutations drive the same functions.

import Mail

/// A reader of hostile input.
package enum FuzzTarget: String, CaseIterable, Sendable {
    case smtp, mime, address, dsn, dmarc

    /// What did not hold of this input, as a sentence; nil where all is well.
    ///
    /// A crash is the other way to fail.
    package func fault(in bytes: [UInt8]) -> String? {
        switch self {
        case .smtp: smtp(bytes)
        case .mime: mime(bytes)
        case .address: address(bytes)
        case .dsn: dsn(bytes)
        case .dmarc: dmarc(bytes)
        }
    }

    // MARK: SMTP

    /// However the network cuts the bytes, the same messages come out, and each is clean.
    private func smtp(_ bytes: [UInt8]) -> String? {
        let whole = Conversation.run(bytes, piece: max(1, bytes.count))
        for message in whole.messages {
            if let fault = Self.lineFault(of: message) { return fault }
        }
        let piece = Int(bytes.first ?? 0) % 7 + 1
        if Self.data(bytes, piece: piece) != Self.data(bytes, piece: max(1, bytes.count)) {
            return "The data differs when it comes in pieces of \(piece)."
        }
        _ = Conversation.run(bytes, piece: piece)
        return nil
    }

    /// What a decoder makes of bytes as message data.
    private static func data(_ bytes: [UInt8], piece: Int) -> [[UInt8]] {
        var decoder = LineDecoder()
        decoder.readData(sizeMax: 1 << 20)
        var messages: [[UInt8]] = [[]]
        for start in stride(from: 0, to: bytes.count, by: piece) {
            decoder.append(bytes[start..<min(start + piece, bytes.count)])
            while let event = decoder.next() {
                switch event {
                case .data(let chunk): messages[messages.count - 1] += chunk
                case .dataEnd(let end):
                    // Of a message that is refused nothing is kept, so how much of it came does not matter.
                    if end.fault != nil { messages[messages.count - 1] = [0] }
                    messages.append([])
                    decoder.readData(sizeMax: 1 << 20)
                case .line, .fault: break
                }
            }
        }
        return messages.dropLast()
    }

    /// Line ends are CRLF and nothing else, so that nobody after us reads another end of the message.
    private static func lineFault(of message: [UInt8]) -> String? {
        for (place, byte) in message.enumerated() {
            if byte == 0x0A, place == 0 || message[place - 1] != 0x0D { return "A bare LF was kept." }
            if byte == 0x0D, place + 1 == message.count || message[place + 1] != 0x0A {
                return "A bare CR was kept."
            }
        }
        return nil
    }

    /// A listener without a socket.
    private struct Conversation {
        var session = ServerSession(dialect: .smtp, hostname: "mx.example.org", offersTLS: true)
        var decoder = LineDecoder()
        var counter = ReceivedCounter()
        var current: [UInt8] = []
        var messages: [[UInt8]] = []

        static func run(_ bytes: [UInt8], piece: Int) -> Conversation {
            var conversation = Conversation()
            for start in stride(from: 0, to: bytes.count, by: piece) {
                conversation.decoder.append(bytes[start..<min(start + piece, bytes.count)])
                while let event = conversation.decoder.next() {
                    guard conversation.take(event) else { return conversation }
                }
            }
            return conversation
        }

        /// False when the connection is over.
        private mutating func take(_ event: LineDecoder.Event) -> Bool {
            switch event {
            case .line(let line):
                return follow(session.received(line, moreBuffered: decoder.hasBufferedBytes))
            case .fault(let fault): return follow(session.received(fault))
            case .data(let chunk):
                counter.append(chunk)
                current += chunk
                return true
            case .dataEnd(let end):
                return follow(session.dataEnded(end, receivedFields: counter.count))
            }
        }

        private mutating func follow(_ action: ServerSession.Action) -> Bool {
            switch action {
            case .reply, .refuse: return true
            case .checkRecipient(let address):
                return follow(session.recipientChecked(address.local.count % 3 == 0 ? .unknown : .accepted))
            case .startTLS:
                session.tlsStarted()
                decoder = LineDecoder()
                return true
            case .readData:
                (counter, current) = (ReceivedCounter(), [])
                decoder.readData(sizeMax: 1 << 20)
                return true
            case .accept:
                messages.append(current)
                _ = session.dataAccepted(as: "fuzz")
                return true
            case .close: return false
            }
        }
    }

    // MARK: Mail

    private func mime(_ bytes: [UInt8]) -> String? {
        let message = MIMEReader.read(bytes)
        if message.parts.count > 1_000 { return "There are \(message.parts.count) parts." }
        if message.text?.utf8.contains(0) == true { return "The text has a NUL." }
        for attachment in message.attachments where attachment.fileName.contains("/") {
            return "A file is called \(attachment.fileName)."
        }
        for part in message.parts where part.body.upperBound > bytes.count { return "A part is outside." }
        _ = (message.subject, message.from, message.to, message.date, message.references)
        _ = (message.extractedText, message.html, message.messageID, message.isAutomatic)
        return nil
    }

    /// What is an address is one again in its own form, and fits into a command.
    private func address(_ bytes: [UInt8]) -> String? {
        let text = String(decoding: bytes, as: UTF8.self)
        for allowingLiteral in [false, true] {
            guard let address = try? EmailAddress(text, allowingLiteral: allowingLiteral) else { continue }
            let form = address.description
            if (try? EmailAddress(form, allowingLiteral: true)) != address { return "\(form) is not itself." }
            if form.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) { return "\(form) breaks a line." }
            if form.utf8.count > EmailAddress.octetsMax { return "\(form) is too long." }
        }
        _ = try? Mailbox(text)
        _ = try? DomainName(text)
        return nil
    }

    private func dsn(_ bytes: [UInt8]) -> String? {
        let message = MIMEReader.read(bytes)
        let copy = ReturnedCopy(in: message)
        _ = (copy.returnPath, copy.unsubscribeToken, copy.messageID, FeedbackReport.read(message))
        guard let report = DeliveryReport.read(message) else { return nil }
        if report.recipients.isEmpty { return "A report is about nobody." }
        for recipient in report.recipients {
            if recipient.diagnostic.count > 1_000 { return "A diagnostic is too long." }
            if recipient.action == .delayed, recipient.bounce?.consequence == .suppressNow {
                return "A delay suppresses."
            }
        }
        return nil
    }

    private func dmarc(_ bytes: [UInt8]) -> String? {
        guard let report = try? DMARCReport.read(fileOrMail: bytes) else { return nil }
        if report.reportID.isEmpty || report.policy.domain.isEmpty { return "A report says nothing." }
        if report.begin > report.end { return "A report ends before it begins." }
        if report.records.contains(where: { $0.count < 0 }) { return "A count is below zero." }
        if report.messageCount < 0 { return "The sum is below zero." }
        return nil
    }
}
