// Dialogues as text: what a peer says and expects, and what shall become of each recipient.
//
//   # why this dialogue is here
//   to: a@example.test b@example.test      the recipients of each try (default a@example.test)
//   from: a@example.test                   empty for <>
//   route: smtps://…@HOST?tls=…            HOST or PORT stand for the peer's (default: HOST)
//   message: dots | 8bit | OCTETS    (default: a short one)
//   utf8: yes                              the header needs SMTPUTF8
//   trust: yes                             tls=require trusts the peer's certificate
//   tries: 2                               one after the other
//   expect: delivered 250 2.0.0 …          one line a recipient and try: fate, then the beginning of the reply;
//                                          `unknown` for a deferred one whose message may have arrived
//   tls: TLSv1.3                           of the last try
//   secret: text                           what no transcript may hold
//   ===                                    a connection begins
//   S: 220 ready                           the peer sends this and CRLF
//   RAW: 250-a\n250 b\r\n                  the peer sends exactly this
//   C: MAIL FROM:                          the client's next line begins so; ~ begins a regular expression
//   MESSAGE, BYTES, END                    the client sends the message; anything; closes
//   TLS, TLSFAIL                          the peer's half of a handshake; one that the client must break off
//   WAIT 9m, STALL 4m, CLOSE, RESET        time passes; time passes while nothing is read

import Foundation
import Testing

/// One file of `Dialogues`.
struct Dialogue: Sendable, CustomTestStringConvertible {
    let name: String
    private(set) var to = ["a@example.test"]
    private(set) var from = "sender@example.org"
    private(set) var route = "HOST"
    private(set) var message = Dialogue.short
    private(set) var needsUTF8 = false
    private(set) var trusts = false
    private(set) var tries = 1
    private(set) var expected: [String] = []
    private(set) var tls: String?
    private(set) var forbidden: [String] = []
    private(set) var parts: [[SMTPPeer.Step]] = []

    static let short = Array("Subject: Hello\r\n\r\nHow are you?\r\n".utf8)

    var testDescription: String { name }

    /// All of them; a folder without any is a fault of its own.
    static let all: [Dialogue] = {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
            "Dialogues"
        )
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return files.filter { $0.hasSuffix(".smtp") }.sorted().map { file in
            let text = try? String(contentsOf: folder.appendingPathComponent(file), encoding: .utf8)
            return Dialogue(name: String(file.dropLast(5)), text ?? "")
        }
    }()

    /// Lines that mean nothing become an expectation that fails.
    init(name: String, _ text: String) {
        self.name = name
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            if !read(String(line)) { expected.append("unreadable line “\(line)”") }
        }
    }

    private mutating func read(_ line: String) -> Bool {
        if line == "===" {
            parts.append([])
            return true
        }
        guard !parts.isEmpty else { return readHeader(line) }
        guard let step = Self.step(line) else { return false }
        parts[parts.count - 1].append(step)
        return true
    }

    private mutating func readHeader(_ line: String) -> Bool {
        guard let colon = line.firstIndex(of: ":") else { return false }
        let value = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
        switch line[..<colon] {
        case "to": to = value.split(separator: " ").map(String.init)
        case "from": from = value
        case "route": route = value
        case "message": message = Self.message(value)
        case "utf8": needsUTF8 = value == "yes"
        case "trust": trusts = value == "yes"
        case "tries": tries = Int(value) ?? 0
        case "expect": expected.append(value)
        case "tls": tls = value
        case "secret": forbidden.append(value)
        default: return false
        }
        return true
    }

    private static func message(_ kind: String) -> [UInt8] {
        let header = "Subject: Hello\r\n\r\n"
        switch kind {
        case "dots": return Array("\(header).\r\n..\r\n.a\r\nend.\r\n.".utf8) + [0x0D, 0x0A]
        case "8bit": return Array("\(header)Grüße\r\n".utf8)
        default:
            let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n"
            let count = (Int(kind) ?? 0) / line.utf8.count
            return Array((header + String(repeating: line, count: count)).utf8)
        }
    }

    private static func step(_ line: String) -> SMTPPeer.Step? {
        if line.hasPrefix("S: ") { return .send(Array("\(line.dropFirst(3))\r\n".utf8)) }
        if line.hasPrefix("C: ") { return .expectLine(String(line.dropFirst(3))) }
        if line.hasPrefix("RAW: ") { return .send(unescaped(line.dropFirst(5))) }
        if line.hasPrefix("WAIT "), let time = duration(line.dropFirst(5)) { return .wait(time) }
        if line.hasPrefix("STALL "), let time = duration(line.dropFirst(6)) { return .stall(time) }
        return switch line {
        case "MESSAGE": .expectMessage
        case "BYTES": .expectBytes
        case "END": .expectEnd
        case "CLOSE": .close
        case "RESET": .reset
        case "TLS": .handshake
        case "TLSFAIL": .failHandshake
        default: nil
        }
    }

    private static func duration(_ text: Substring) -> Duration? {
        guard let number = Int(text.dropLast()) else { return nil }
        return text.hasSuffix("m") ? .seconds(60 * number) : text.hasSuffix("s") ? .seconds(number) : nil
    }

    // \r, \n, \0 and \*N…; the last one repeats the octet that follows N times, as in \*5000;x
    private static func unescaped(_ text: Substring) -> [UInt8] {
        var output: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\\"), let escape = rest.popFirst() else {
                output.append(byte)
                continue
            }
            switch escape {
            case UInt8(ascii: "r"): output.append(0x0D)
            case UInt8(ascii: "n"): output.append(0x0A)
            case UInt8(ascii: "0"): output.append(0)
            case UInt8(ascii: "*"):
                let digits = rest.prefix { $0 != UInt8(ascii: ";") }
                rest = rest.dropFirst(digits.count + 1)
                let count = Int(String(decoding: digits, as: UTF8.self)) ?? 0
                if let repeated = rest.popFirst() { output += Array(repeating: repeated, count: count) }
            default: output += [byte, escape]
            }
        }
        return output
    }
}
