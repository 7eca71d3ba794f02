// UUIDs as text, written and read byte by byte. Foundation goes through printf and scanf, which took a third of a
// worker's time with empty jobs: every id passes through here several times.

package import Foundation

extension UUID {
    /// Lower-case canonical text (RFC 9562 §4).
    package var text: String {
        withUnsafeBytes(of: uuid) { bytes in
            String(unsafeUninitializedCapacity: 36) { buffer in
                var position = 0
                for (index, byte) in bytes.enumerated() {
                    if Self.isHyphenBefore(index) {
                        buffer[position] = UInt8(ascii: "-")
                        position += 1
                    }
                    buffer[position] = Self.digit(byte >> 4)
                    buffer[position + 1] = Self.digit(byte & 0xf)
                    position += 2
                }
                return position
            }
        }
    }

    /// Reads canonical text of either case; nil when it is anything else.
    package init?(text: some StringProtocol) {
        var value: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        var position = 0
        var isValid = true
        withUnsafeMutableBytes(of: &value) { bytes in
            for digit in text.utf8 {
                // Of 36 places, four are hyphens; the others are digits in pairs.
                if position >= 36 { return isValid = false }
                if position == 8 || position == 13 || position == 18 || position == 23 {
                    if digit != UInt8(ascii: "-") { return isValid = false }
                } else {
                    guard let half = Self.value(of: digit) else { return isValid = false }
                    let hyphens =
                        position > 23 ? 4 : position > 18 ? 3 : position > 13 ? 2 : position > 8 ? 1 : 0
                    bytes[(position - hyphens) / 2] = bytes[(position - hyphens) / 2] << 4 | half
                }
                position += 1
            }
        }
        guard isValid, position == 36 else { return nil }
        self.init(uuid: value)
    }

    private static func isHyphenBefore(_ index: Int) -> Bool {
        index == 4 || index == 6 || index == 8 || index == 10
    }

    private static func digit(_ half: UInt8) -> UInt8 {
        half < 10 ? UInt8(ascii: "0") + half : UInt8(ascii: "a") + half - 10
    }

    private static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
