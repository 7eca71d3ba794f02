// The end of a message's data: who may have it, and what the client hears.

extension ServerSession {
    /// The data has been read to its true end; `receivedFields` from `ReceivedCounter`.
    package mutating func dataEnded(_ end: LineDecoder.DataEnd, receivedFields: Int) -> Action {
        guard state == .data, let envelope else { return failed(Reply.badSequence) }
        if let refusal = refusal(of: end, receivedFields: receivedFields) {
            errors += 1
            return .refuse(dataRefused(refusal))
        }
        state = .storing
        return .accept(envelope)
    }

    /// The message is durable (RFC 5321 §4.2.5: from here on it is ours); `name` is what our logs call it.
    package mutating func dataAccepted(as name: String) -> [Reply] {
        finish(Reply.accepted(as: name))
    }

    /// The message was not stored: the same reply for everybody.
    package mutating func dataRefused(_ reply: Reply) -> [Reply] {
        finish(reply)
    }

    /// RFC 2033 §4.2: each recipient's own reply, in the order of the envelope; SMTP hears the worst of them.
    package mutating func dataFinished(_ replies: [Reply]) -> [Reply] {
        defer { reset() }
        guard dialect == .smtp else { return replies }
        // A positive reply makes all recipients ours; so one that failed for now makes the client try again for all.
        return [replies.first { !$0.isPositive } ?? replies.first ?? Reply.temporaryFailure]
    }

    private mutating func finish(_ reply: Reply) -> [Reply] {
        let recipients = envelope?.recipients.count ?? 1
        reset()
        return Array(repeating: reply, count: dialect == .lmtp ? max(1, recipients) : 1)
    }

    private func refusal(of end: LineDecoder.DataEnd, receivedFields: Int) -> Reply? {
        switch end.fault {
        case .bareCarriageReturn, .ambiguousEnd: Reply.bareLineBreak
        case .tooLarge: Reply.messageTooBig
        case nil: receivedFields > limits.receivedFieldsMax ? Reply.tooManyHops : nil
        }
    }
}

/// Counts the Received fields of a message that streams by (RFC 5321 §6.3: loop detection).
package struct ReceivedCounter: Sendable {
    /// How many there are so far.
    package private(set) var count = 0
    private var isOver = false
    /// The beginning of the current line: enough of it to know the name.
    private var prefix: [UInt8] = []

    private static let name = Array("received:".utf8)

    package init() {}

    /// The next bytes of the message, lines ended by CRLF as `LineDecoder` gives them.
    package mutating func append(_ chunk: [UInt8]) {
        var position = 0
        while !isOver, position < chunk.count {
            let end = chunk.position(of: ASCII.lf, from: position) ?? chunk.count
            let room = Self.name.count + 1 - prefix.count
            if room > 0 { prefix += chunk[position..<min(end, position + room)] }
            guard end < chunk.count else { return }
            if prefix.isEmpty || prefix == [ASCII.cr] { isOver = true }
            if prefix.prefix(Self.name.count).map(\.lowered) == Self.name { count += 1 }
            prefix.removeAll(keepingCapacity: true)
            position = end + 1
        }
    }
}
