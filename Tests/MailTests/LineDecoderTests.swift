// Where lines and messages end, for every way in which somebody may pretend that they do.

import TestSupport
import Testing

@testable import Mail

@Suite("the line decoder")
struct LineDecoderTests {
    /// Feeds data in pieces; what a listener would have seen.
    static func outcome(of data: [UInt8], pieces: [Int], sizeMax: Int = 1 << 20) -> DataOutcome {
        var decoder = LineDecoder()
        decoder.readData(sizeMax: sizeMax)
        var outcome = DataOutcome()
        var position = 0
        for piece in pieces + [data.count] where position < data.count {
            let end = min(data.count, position + max(1, piece))
            decoder.append(data[position..<end])
            position = end
            while let event = decoder.next() { outcome.take(event) }
        }
        return outcome
    }

    @Test(
        "every end of data is one message, one refusal, or no end yet; never two messages",
        arguments: EndOfData.all
    )
    func smuggling(_ sample: EndOfData) {
        let data = Array(sample.data.utf8)
        var generator = SeededGenerator(seed: 7)
        var splits: [[Int]] = [[data.count], Array(repeating: 1, count: data.count)]
        for _ in 0..<20 {
            splits.append((0..<data.count).map { _ in Int.random(in: 1...9, using: &generator) })
        }
        for split in splits {
            let outcome = Self.outcome(of: data, pieces: split)
            switch sample.expected {
            case .message(let text, let rest):
                #expect(outcome.ends.count == 1)
                #expect(outcome.ends.first?.fault == nil)
                #expect(outcome.ends.first?.size == text.utf8.count)
                #expect(String(decoding: outcome.content, as: UTF8.self) == text)
                #expect(outcome.lines == rest)
            case .refusal(let fault, let rest):
                #expect(outcome.ends.map(\.fault) == [fault])
                #expect(outcome.lines == rest)
            case .noEnd:
                #expect(outcome.ends.isEmpty)
                #expect(outcome.lines.isEmpty)
            }
        }
    }

    @Test("a message over the limit is read to its end and refused, and memory stays flat")
    func tooLarge() {
        var decoder = LineDecoder()
        decoder.readData(sizeMax: 1_000)
        let line = Array((String(repeating: "x", count: 998) + "\r\n").utf8)
        var emitted = 0
        for _ in 0..<200 {
            decoder.append(line)
            while let event = decoder.next() {
                guard case .data(let bytes) = event else {
                    Issue.record("ended early")
                    return
                }
                emitted += bytes.count
            }
        }
        #expect(emitted == 1_000)
        decoder.append(Array(".\r\nQUIT\r\n".utf8))
        guard case .dataEnd(let end) = decoder.next() else {
            Issue.record("no end")
            return
        }
        #expect(end.fault == .tooLarge)
        #expect(decoder.next() == .line(Array("QUIT".utf8)))
    }

    @Test("exactly the limit is not over it")
    func sizeAtTheEdge() {
        let outcome = Self.outcome(of: Array("123\r\n.\r\n".utf8), pieces: [], sizeMax: 5)
        #expect(outcome.ends == [LineDecoder.DataEnd(size: 5, fault: nil)])
        let over = Self.outcome(of: Array("1234\r\n.\r\n".utf8), pieces: [], sizeMax: 5)
        #expect(over.ends.map(\.fault) == [.tooLarge])
    }

    @Test("command lines", arguments: CommandLines.all)
    func commandLines(_ sample: CommandLines) {
        let bytes = Array(sample.input.utf8)
        for step in [1, 2, 3, 7, bytes.count] {
            var decoder = LineDecoder(lineMax: 20)
            var events: [LineDecoder.Event] = []
            for start in stride(from: 0, to: bytes.count, by: step) {
                decoder.append(bytes[start..<min(bytes.count, start + step)])
                while let event = decoder.next() { events.append(event) }
            }
            #expect(events == sample.events)
        }
    }

    @Test("a line without end is dropped as it comes and ends in a fault")
    func endlessLine() {
        var decoder = LineDecoder()
        let chunk = [UInt8](repeating: UInt8(ascii: "A"), count: 1 << 16)
        var events: [LineDecoder.Event] = []
        for _ in 0..<100 {
            decoder.append(chunk)
            while let event = decoder.next() { events.append(event) }
        }
        #expect(events == [.fault(.tooLong), .fault(.endless)])
    }

    @Test("what stands behind a line is still buffered")
    func bufferedBytes() {
        var decoder = LineDecoder()
        decoder.append(Array("STARTTLS\r\nEHLO evil\r\n".utf8))
        #expect(decoder.next() == .line(Array("STARTTLS".utf8)))
        #expect(decoder.hasBufferedBytes)
        #expect(decoder.next() == .line(Array("EHLO evil".utf8)))
        #expect(!decoder.hasBufferedBytes)
    }

    @Test("splits do not change what arbitrary bytes mean")
    func splitsDoNotMatter() {
        var generator = SeededGenerator(seed: 42)
        let alphabet: [UInt8] = [0x0D, 0x0A, 0x2E, 0x61, 0x00]
        for _ in 0..<2_000 {
            let data = (0..<40).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &generator)] }
            let whole = Self.outcome(of: data, pieces: [data.count])
            let bytewise = Self.outcome(of: data, pieces: Array(repeating: 1, count: data.count))
            #expect(whole.ends.map(\.fault) == bytewise.ends.map(\.fault))
            // Of a message that is refused, or may still be, nothing counts.
            if let end = whole.ends.first, end.fault == nil { #expect(whole.content == bytewise.content) }
            #expect(whole.events == bytewise.events)
            #expect(whole.ends.count == Reference.ends(in: data))
        }
    }

    @Test("a chunk full of carriage returns takes linear time")
    func manyCarriages() {
        let data = [UInt8](repeating: 0x0D, count: 1 << 20) + Array("\r\n.\r\n".utf8)
        let elapsed = ThreadTime.of {
            #expect(Self.outcome(of: data, pieces: [data.count]).ends.map(\.fault) == [.bareCarriageReturn])
        }
        #expect(elapsed < .seconds(5))
    }
}

/// What the events of one message add up to.
struct DataOutcome {
    var content: [UInt8] = []
    var ends: [LineDecoder.DataEnd] = []
    var lines: [String] = []
    var events: [String] = []

    mutating func take(_ event: LineDecoder.Event) {
        switch event {
        case .data(let bytes): content += bytes
        case .dataEnd(let end):
            ends.append(end)
            events.append("end")
        case .line(let line):
            lines.append(String(decoding: line, as: UTF8.self))
            events.append(String(decoding: line, as: UTF8.self))
        case .fault(let fault): events.append("\(fault)")
        }
    }
}

/// The rule itself, said in another way: a message ends at the first CRLF.CRLF, counted from the CRLF of DATA.
enum Reference {
    static func ends(in data: [UInt8]) -> Int {
        let whole = [0x0D, 0x0A] + data
        let end: [UInt8] = [0x0D, 0x0A, 0x2E, 0x0D, 0x0A]
        return (0..<max(0, whole.count - 4)).contains { Array(whole[$0..<($0 + 5)]) == end } ? 1 : 0
    }
}

struct EndOfData: Sendable, CustomTestStringConvertible {
    enum Expected: Sendable {
        case message(String, rest: [String])
        case refusal(LineDecoder.DataFault, rest: [String])
        case noEnd
    }

    let data: String
    let expected: Expected
    var testDescription: String { data.debugDescription }

    init(_ data: String, _ expected: Expected) {
        self.data = data
        self.expected = expected
    }

    /// What an attacker puts behind an end that is none.
    private static let inner = "MAIL FROM:<evil@example.com>\r\n"
    private static let end = "\r\n.\r\nQUIT\r\n"

    static let all: [EndOfData] = [
        EndOfData("a\r\n.\r\nQUIT\r\n", .message("a\r\n", rest: ["QUIT"])),
        EndOfData(".\r\nQUIT\r\n", .message("", rest: ["QUIT"])),
        EndOfData("..\r\n..a\r\n.b\r\n.\r\n", .message(".\r\n.a\r\nb\r\n", rest: [])),
        EndOfData("a.\r\n.\r\n", .message("a.\r\n", rest: [])),
        EndOfData("a\nb\n\nc\r\n.\r\n", .message("a\r\nb\r\n\r\nc\r\n", rest: [])),
        EndOfData("sentence.\nnext\r\n.\r\n", .message("sentence.\r\nnext\r\n", rest: [])),
        EndOfData("a\0b\r\n\0\r\n.\r\n", .message("a\0b\r\n\0\r\n", rest: [])),
        EndOfData("a\r\n.\n\(inner)\r\n.\r\n", .refusal(.ambiguousEnd, rest: [])),
        EndOfData(".\n\(inner)\(end)", .refusal(.ambiguousEnd, rest: ["QUIT"])),
        EndOfData("a\n.\n\(inner)\(end)", .refusal(.ambiguousEnd, rest: ["QUIT"])),
        EndOfData("a\n.\r\n\(inner)\(end)", .refusal(.ambiguousEnd, rest: ["QUIT"])),
        EndOfData("a\r\n.\n\(inner)\(end)", .refusal(.ambiguousEnd, rest: ["QUIT"])),
        EndOfData("a\n.\(inner)\(end)", .refusal(.ambiguousEnd, rest: ["QUIT"])),
        EndOfData("a\r.\r\(inner)\(end)", .refusal(.bareCarriageReturn, rest: ["QUIT"])),
        EndOfData("a\r.\r\n\(inner)\(end)", .refusal(.bareCarriageReturn, rest: ["QUIT"])),
        EndOfData("a\r\n.\r\(inner)\(end)", .refusal(.bareCarriageReturn, rest: ["QUIT"])),
        EndOfData("a\r.\n\(inner)\(end)", .refusal(.bareCarriageReturn, rest: ["QUIT"])),
        EndOfData("a\n.\r\(inner)\(end)", .refusal(.ambiguousEnd, rest: ["QUIT"])),
        EndOfData("a\r\n.\r\r\n\(inner)\(end)", .refusal(.bareCarriageReturn, rest: ["QUIT"])),
        EndOfData("a\r\r\n.\r\r\n\(inner)\(end)", .refusal(.bareCarriageReturn, rest: ["QUIT"])),
        EndOfData("a\r\n\r.\r\n\(inner)\(end)", .refusal(.bareCarriageReturn, rest: ["QUIT"])),
        EndOfData("a\r\n.\0\r\n\(inner)\(end)", .refusal(.ambiguousEnd, rest: ["QUIT"])),
        EndOfData("a\r\n\0.\r\n\(inner)\(end)", .refusal(.ambiguousEnd, rest: ["QUIT"])),
        EndOfData("a\r\0\n.\r\n\(inner)\(end)", .refusal(.bareCarriageReturn, rest: ["QUIT"])),
        EndOfData("a\r\n.\r\0\n\(inner)\(end)", .refusal(.bareCarriageReturn, rest: ["QUIT"])),
        EndOfData("a\0\n.\0\n\(inner)\(end)", .refusal(.ambiguousEnd, rest: ["QUIT"])),
        EndOfData("a\rb\r\n.\r\n", .refusal(.bareCarriageReturn, rest: [])),
        EndOfData("a\r\n.\r\n\r\n.\r\n", .message("a\r\n", rest: ["", "."])),
        EndOfData("a\n.\n", .noEnd),
        EndOfData("a\r.\r", .noEnd),
        EndOfData("a\r\n.", .noEnd),
        EndOfData("a\r\n.\r", .noEnd),
        EndOfData("a\r\n..\r\n", .noEnd),
        EndOfData("a.\r\n", .noEnd),
    ]
}

struct CommandLines: Sendable, CustomTestStringConvertible {
    let input: String
    let events: [LineDecoder.Event]
    var testDescription: String { input.debugDescription }

    private static func line(_ text: String) -> LineDecoder.Event { .line(Array(text.utf8)) }

    static let all: [CommandLines] = [
        CommandLines(input: "NOOP\r\nQUIT\r\n", events: [line("NOOP"), line("QUIT")]),
        CommandLines(input: "\r\n", events: [line("")]),
        CommandLines(input: "NOOP", events: []),
        CommandLines(input: "NOOP\r", events: []),
        CommandLines(input: "NOOP\nQUIT\r\n", events: [.fault(.bareLineFeed), line("QUIT")]),
        CommandLines(input: "NO\rOP\r\nQUIT\r\n", events: [.fault(.bareCarriageReturn), line("QUIT")]),
        CommandLines(input: "NOOP\r\r\nQUIT\r\n", events: [.fault(.bareCarriageReturn), line("QUIT")]),
        CommandLines(input: "NO\0OP\r\nQUIT\r\n", events: [.fault(.nul), line("QUIT")]),
        CommandLines(
            input: "123456789012345678\r\nQUIT\r\n",
            events: [line("123456789012345678"), line("QUIT")]
        ),
        CommandLines(input: "1234567890123456789\r\nQUIT\r\n", events: [.fault(.tooLong), line("QUIT")]),
        CommandLines(
            input: "1234567890123456789012345\n6\r7\nQUIT\r\nRSET\r\n",
            events: [.fault(.tooLong), line("RSET")]
        ),
    ]
}
