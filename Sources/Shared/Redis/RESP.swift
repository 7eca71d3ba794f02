// What goes to Redis and what comes back, as Swift values.

package import Foundation
package import Platform

/// A reply of Redis, RESP2.
package enum RESP: Sendable, Equatable {
    /// Nothing there: a null bulk string or a null array.
    case null
    /// A whole number.
    case integer(Int)
    /// A bulk string, or the text of a status such as `OK`.
    case string([UInt8])
    /// A list of replies, of scripts also a nested one.
    case array([RESP])
    /// An error reply: its code and sentence as Redis wrote them.
    case error(String)

    /// The text of a string or number.
    package var string: String? {
        switch self {
        case .string(let bytes): String(decoding: bytes, as: UTF8.self)
        case .integer(let number): String(number)
        default: nil
        }
    }

    /// The bytes of a string.
    package var bytes: [UInt8]? {
        if case .string(let bytes) = self { bytes } else { nil }
    }

    /// The number, also where Redis keeps it as text.
    package var int: Int? {
        switch self {
        case .integer(let number): number
        case .string(let bytes): Int(String(decoding: bytes, as: UTF8.self))
        default: nil
        }
    }

    /// The elements of an array.
    package var array: [RESP]? {
        if case .array(let elements) = self { elements } else { nil }
    }

    /// Whether nothing is there.
    package var isNull: Bool { self == .null }
}

/// One word of a command; any bytes.
package struct RedisArgument: Sendable, Hashable {
    enum Storage: Hashable {
        case text(String)
        case bytes([UInt8])
    }

    let storage: Storage

    /// Text as UTF-8.
    package init(_ text: String) { storage = .text(text) }

    /// Bytes as they are.
    package init(_ bytes: [UInt8]) { storage = .bytes(bytes) }

    /// A number in decimal.
    package init(_ number: some BinaryInteger) { storage = .text(String(number)) }

    /// A number with its fraction, exact to the last bit.
    package init(_ number: Double) { storage = .text(String(number)) }

    /// A UUID in lower-case canonical text.
    package init(_ uuid: UUID) { storage = .text(uuid.text) }

    /// An identifier in its canonical text.
    package init<Noun>(_ id: ID<Noun>) { storage = .text(id.description) }

    /// Gives the bytes to `body`, which must not keep them.
    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        switch storage {
        case .text(var text): try text.withUTF8 { try body(UnsafeRawBufferPointer($0)) }
        case .bytes(let bytes): try bytes.withUnsafeBytes(body)
        }
    }

    var count: Int {
        switch storage {
        case .text(let text): text.utf8.count
        case .bytes(let bytes): bytes.count
        }
    }
}

extension RedisArgument: ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral {
    package init(stringLiteral text: String) { self.init(text) }

    package init(integerLiteral number: Int) { self.init(number) }
}
