// Enhanced mail system status codes (RFC 3463): `5.1.1`.

/// Class, subject and detail of a status; the class says whether trying again can help.
package struct EnhancedStatus: Sendable, Hashable, CustomStringConvertible {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    package let `class`: Int
    /// What it is about: 1 address, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 policy.
    package let subject: Int
    package let detail: Int

    package init(_ class: Int, _ subject: Int, _ detail: Int) {
        self.class = `class`
        self.subject = subject
        self.detail = detail
    }

    /// Exactly `c.sss.ddd` with a class of 2, 4 or 5 and up to three digits in the other two.
    package init?(_ text: some StringProtocol) {
        guard let (status, length) = Self.prefix(of: text.utf8), length == text.utf8.count else { return nil }
        self = status
    }

    /// A status at the beginning of a text, with the octets it takes; `#5.1.0` and `5.1.1:` are read as well.
    static func prefix(of text: some Collection<UInt8>) -> (status: EnhancedStatus, length: Int)? {
        var numbers: [Int] = []
        var number = 0
        var digits = 0
        var length = 0
        for byte in text {
            if length == 0, byte == UInt8(ascii: "#") {
                length += 1
                continue
            }
            if (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
                digits += 1
                guard digits <= 3 else { return nil }
                number = number * 10 + Int(byte - UInt8(ascii: "0"))
            } else if byte == UInt8(ascii: "."), digits > 0, numbers.count < 2 {
                numbers.append(number)
                number = 0
                digits = 0
            } else {
                guard [0x20, 0x09, UInt8(ascii: ":"), UInt8(ascii: ","), UInt8(ascii: ";")].contains(byte)
                else {
                    return nil
                }
                break
            }
            length += 1
        }
        guard numbers.count == 2, digits > 0, [2, 4, 5].contains(numbers[0]) else { return nil }
        return (EnhancedStatus(numbers[0], numbers[1], number), length)
    }

    package var description: String { "\(`class`).\(subject).\(detail)" }
}

extension EnhancedStatus: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let status = Self(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "no enhanced status")
        }
        self = status
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
