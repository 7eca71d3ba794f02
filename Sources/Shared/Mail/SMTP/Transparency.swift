// RFC 5321 §4.5.2: transparency. A line that begins with a dot gets another one, so that only we end the data.

/// Makes a message safe to send as the data of a transaction.
package enum TransparencyEncoder {
    /// What follows the data: the lone dot that ends it.
    package static let endOfData: [UInt8] = [UInt8(ascii: "."), 0x0D, 0x0A]

    /// Dots doubled, bare CR and LF made CRLF (nothing else could smuggle a second message), CRLF at the end.
    ///
    /// A message that needs none of this is given back as it is, without a copy.
    package static func encode(_ message: [UInt8]) -> [UInt8] {
        message.withUnsafeBufferPointer(isTransparent) ? message : stuffed(message)
    }

    private static func isTransparent(_ message: UnsafeBufferPointer<UInt8>) -> Bool {
        guard message.count >= 2, message[message.count - 1] == 0x0A else { return message.isEmpty }
        var previous: UInt8 = 0x0A
        for byte in message {
            // One comparison for nearly all octets.
            if byte <= UInt8(ascii: ".") || previous == 0x0D {
                if byte == UInt8(ascii: "."), previous == 0x0A { return false }
                if (byte == 0x0A) != (previous == 0x0D) { return false }
            }
            previous = byte
        }
        return true
    }

    private static func stuffed(_ message: [UInt8]) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(message.count + message.count / 32 + 4)
        var atLineStart = true
        var index = 0
        while index < message.count {
            let byte = message[index]
            index += 1
            if byte == 0x0D || byte == 0x0A {
                if byte == 0x0D, index < message.count, message[index] == 0x0A { index += 1 }
                output.append(0x0D)
                output.append(0x0A)
                atLineStart = true
                continue
            }
            if atLineStart, byte == UInt8(ascii: ".") { output.append(byte) }
            output.append(byte)
            atLineStart = false
        }
        if !atLineStart {
            output.append(0x0D)
            output.append(0x0A)
        }
        return output
    }
}
