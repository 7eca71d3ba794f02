// What a client sends, cut into command lines and message data. Only CRLF ends a line and only CRLF.CRLF ends a
// message: servers that were generous here let one message be read as two (SMTP smuggling, CVE-2023-51764).

/// Turns the bytes of one SMTP or LMTP connection into command lines and chunks of message data.
///
/// `append` what arrived, then call `next` until it returns nil. Memory stays flat: a command line is bounded, and
/// message data leaves in chunks as it comes.
package struct LineDecoder: Sendable {
    /// What the bytes turned out to be.
    package enum Event: Sendable, Equatable {
        /// A command line without its CRLF.
        case line([UInt8])
        /// Something a command line may not be; all of it has been consumed.
        case fault(LineFault)
        /// The next bytes of the message: dots unstuffed, every line ended by CRLF.
        case data([UInt8])
        /// The message ended (CRLF.CRLF was read); the decoder is back at command lines.
        case dataEnd(DataEnd)
    }

    /// Why a command line is refused.
    package enum LineFault: Sendable, Equatable {
        /// Longer than the limit; the decoder skips to the line's true end.
        case tooLong
        /// Over a mebibyte without CRLF: nothing more will be read, close the connection.
        case endless
        /// An LF without CR, reported at once because such a client waits for an answer: close the connection.
        case bareLineFeed
        /// A CR without LF inside the line.
        case bareCarriageReturn
        /// A NUL inside the line.
        case nul
    }

    /// How a message's data ended.
    package struct DataEnd: Sendable, Equatable {
        /// Bytes of the message as it would be stored; counting stops where a fault was seen.
        package let size: Int
        /// Why it must be refused; nil when nothing speaks against it.
        package let fault: DataFault?
    }

    /// Why message data must be refused after its true end was read.
    package enum DataFault: Sendable, Equatable {
        /// A CR without LF (RFC 5321 §2.3.8).
        case bareCarriageReturn
        /// A bare LF or a NUL next to a line's leading dot: others could read an end of the message there.
        case ambiguousEnd
        /// More bytes than `readData(sizeMax:)` allowed.
        case tooLarge
    }

    /// The longest command line, CRLF included.
    package let lineMax: Int

    private enum Mode: Sendable { case command, skipping, data, dead }

    /// Where message data stands between two bytes.
    private enum DataState: Sendable {
        case lineStart(afterBareLF: Bool)
        case nulAtStart
        case dot(afterBareLF: Bool)
        case dotCarriage(afterBareLF: Bool)
        case carriage
        case middle
    }

    private static let skipMax = 1 << 20

    private var buffer: [UInt8] = []
    private var head = 0
    /// Bytes before this one hold no LF: a line that comes byte by byte is scanned once.
    private var scanned = 0
    private var mode = Mode.command
    private var skipped = 0
    private var skippedCarriage = false
    private var state = DataState.lineStart(afterBareLF: false)
    private var size = 0
    private var sizeMax = 0
    private var dataFault: DataFault?
    /// The end of the message, held back for the one event that carries its last bytes.
    private var pendingEnd: DataEnd?

    /// A decoder for command lines of at most `lineMax` bytes.
    package init(lineMax: Int = 2_048) {
        self.lineMax = lineMax
    }

    /// True while bytes wait that no event has carried yet (RFC 3207 §4.2: none may after STARTTLS).
    package var hasBufferedBytes: Bool { head < buffer.count }

    /// Adds bytes from the connection.
    package mutating func append(_ bytes: some Collection<UInt8>) {
        if head == buffer.count {
            buffer.removeAll(keepingCapacity: buffer.capacity <= 1 << 18)
            head = 0
            scanned = 0
        } else if head > 1 << 16 {
            buffer.removeFirst(head)
            scanned = max(0, scanned - head)
            head = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// Reads message data from here on: call it when the session said `.readData`.
    package mutating func readData(sizeMax: Int) {
        mode = .data
        // RFC 5321 §4.1.1.4: the CRLF of the DATA command counts as the one before the final dot.
        state = .lineStart(afterBareLF: false)
        size = 0
        self.sizeMax = sizeMax
        dataFault = nil
    }

    /// The next event, or nil when more bytes are needed.
    package mutating func next() -> Event? {
        if let end = pendingEnd {
            pendingEnd = nil
            return .dataEnd(end)
        }
        return switch mode {
        case .command: nextLine()
        case .skipping: skipLine()
        case .data: nextData()
        case .dead: dropAll()
        }
    }
}

// MARK: - Command lines

extension LineDecoder {
    private mutating func nextLine() -> Event? {
        let found = buffer.position(of: ASCII.lf, from: max(head, scanned))
        scanned = buffer.count
        guard let end = found, end - head < lineMax else {
            guard (found ?? buffer.count) - head >= lineMax else { return nil }
            mode = .skipping
            skipped = 0
            skippedCarriage = false
            return .fault(.tooLong)
        }
        let start = head
        head = end + 1
        scanned = head
        guard end > start, buffer[end - 1] == ASCII.cr else { return .fault(.bareLineFeed) }
        let content = start..<(end - 1)
        guard buffer.position(of: ASCII.cr, in: content) == nil else { return .fault(.bareCarriageReturn) }
        guard buffer.position(of: ASCII.nul, in: content) == nil else { return .fault(.nul) }
        return .line(Array(buffer[content]))
    }

    private mutating func skipLine() -> Event? {
        while let end = buffer.position(of: ASCII.lf, from: head) {
            let isTrueEnd = end > head ? buffer[end - 1] == ASCII.cr : skippedCarriage
            skipped += end + 1 - head
            head = end + 1
            skippedCarriage = false
            if isTrueEnd {
                mode = .command
                scanned = head
                return nextLine()
            }
        }
        if head < buffer.count { skippedCarriage = buffer[buffer.count - 1] == ASCII.cr }
        skipped += buffer.count - head
        head = buffer.count
        guard skipped > Self.skipMax else { return nil }
        mode = .dead
        return .fault(.endless)
    }

    private mutating func dropAll() -> Event? {
        head = buffer.count
        return nil
    }
}

// MARK: - Message data

extension LineDecoder {
    private mutating func nextData() -> Event? {
        guard head < buffer.count else { return nil }
        var output: [UInt8] = []
        if dataFault == nil { output.reserveCapacity(buffer.count - head) }
        let ended = scanData(into: &output)
        size += output.count
        if dataFault == nil, size > sizeMax { dataFault = .tooLarge }
        if ended {
            mode = .command
            scanned = head
            pendingEnd = DataEnd(size: size, fault: dataFault)
        }
        // Refused data is read to its true end and dropped.
        guard dataFault == nil, !output.isEmpty else { return next() }
        return .data(output)
    }

    /// RFC 5321 §4.5.2: transparency.
    ///
    /// True when CRLF.CRLF was read.
    private mutating func scanData(into output: inout [UInt8]) -> Bool {
        while head < buffer.count {
            if case .middle = state {
                scanMiddle(into: &output)
                continue
            }
            if step(buffer[head], into: &output) { return true }
        }
        return false
    }

    /// One byte at a place where CR, LF, NUL and dot have a meaning; what has none is left for `scanMiddle`.
    private mutating func step(_ byte: UInt8, into output: inout [UInt8]) -> Bool {
        switch (state, byte) {
        case (.dotCarriage(afterBareLF: false), ASCII.lf):
            head += 1
            return true
        case (.dotCarriage, ASCII.lf):
            // LF . CRLF: not an end for us, an end for others; the fault is already noted.
            endLine(into: &output)
        case (.dotCarriage, _):
            flag(.bareCarriageReturn)
            state = .carriage
        case (.lineStart(let afterBareLF), ASCII.dot):
            if afterBareLF { flag(.ambiguousEnd) }
            state = .dot(afterBareLF: afterBareLF)
            head += 1
        case (.nulAtStart, ASCII.dot):
            flag(.ambiguousEnd)
            take(byte, into: &output)
        case (.lineStart, ASCII.nul), (.nulAtStart, ASCII.nul):
            take(byte, into: &output)
            state = .nulAtStart
        case (.dot(let afterBareLF), ASCII.cr):
            state = .dotCarriage(afterBareLF: afterBareLF)
            head += 1
        case (.dot, ASCII.lf), (.dot, ASCII.nul):
            flag(.ambiguousEnd)
            state = .middle
        case (.dot, ASCII.dot):
            take(byte, into: &output)
        case (.carriage, ASCII.lf):
            endLine(into: &output)
        case (.carriage, ASCII.cr):
            flag(.bareCarriageReturn)
            head += 1
        case (.carriage, _):
            flag(.bareCarriageReturn)
            state = .middle
        default:
            state = .middle
        }
        return false
    }

    private mutating func take(_ byte: UInt8, into output: inout [UInt8]) {
        if dataFault == nil { output.append(byte) }
        state = .middle
        head += 1
    }

    private mutating func endLine(into output: inout [UInt8]) {
        if dataFault == nil { output.append(contentsOf: [ASCII.cr, ASCII.lf]) }
        state = .lineStart(afterBareLF: false)
        head += 1
    }

    /// The rest of lines, in long strides: stops where a line begins with a byte that has a meaning there.
    private mutating func scanMiddle(into output: inout [UInt8]) {
        let end = buffer.count
        let lineFeed = buffer.position(of: ASCII.lf, in: head..<end)
        let stop = lineFeed ?? end
        guard let carriage = buffer.position(of: ASCII.cr, in: head..<stop) else {
            copy(head..<stop, into: &output)
            head = stop
            guard lineFeed != nil else { return }
            // A bare LF that no dot follows becomes CRLF before anything is stored or hashed.
            endLine(into: &output)
            state = .lineStart(afterBareLF: true)
            return
        }
        copy(head..<carriage, into: &output)
        if carriage + 1 == stop, lineFeed != nil {
            head = stop
            endLine(into: &output)
        } else if carriage + 1 < stop {
            flag(.bareCarriageReturn)
            // Everything is dropped from here, so only the LF that ends the line matters: look no closer.
            head = stop - 1
            state = buffer[head] == ASCII.cr ? .carriage : .middle
            head += 1
        } else {
            head = carriage + 1
            state = .carriage
        }
    }

    private mutating func copy(_ range: Range<Int>, into output: inout [UInt8]) {
        guard dataFault == nil, !range.isEmpty else { return }
        output.append(contentsOf: buffer[range])
    }

    /// The first fault is the one that is reported.
    private mutating func flag(_ fault: DataFault) {
        if dataFault == nil || dataFault == .tooLarge { dataFault = fault }
    }
}
