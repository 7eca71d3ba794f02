// The two canonical forms of RFC 6376 §3.4 for header fields and for bodies.

import Crypto

/// RFC 6376 §3.4.1 and §3.4.2.
enum HeaderCanonicalization {
    /// Appends one field of a message with its line break.
    static func append(
        _ field: HeaderBlock.Field,
        of message: [UInt8],
        relaxed: Bool,
        to output: inout [UInt8]
    ) {
        if relaxed {
            appendRelaxed(name: message[field.name], value: message[field.value], to: &output)
        } else {
            output.append(contentsOf: message[field.name.lowerBound..<field.value.upperBound])
            output.append(0x0D)
            output.append(0x0A)
        }
    }

    /// Lower-case name, unfolded value, blanks collapsed to one and gone at both ends.
    static func appendRelaxed(
        name: some Sequence<UInt8>,
        value: some Sequence<UInt8>,
        to output: inout [UInt8]
    ) {
        for byte in name { output.append(lowercased(byte)) }
        output.append(UInt8(ascii: ":"))
        var blank = false
        var empty = true
        for byte in value {
            switch byte {
            case 0x20, 0x09, 0x0D, 0x0A:
                blank = true
            default:
                if blank, !empty { output.append(0x20) }
                output.append(byte)
                blank = false
                empty = false
            }
        }
        output.append(0x0D)
        output.append(0x0A)
    }

    static func lowercased(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }
}

/// RFC 6376 §3.4.3 and §3.4.4, hashed on the way so that no second copy of a large body exists.
struct BodyCanonicalization {
    private static let chunkOctets = 65_536

    private var hasher = SHA256()
    private var chunk: [UInt8] = []
    private var left: Int

    /// SHA-256 of the canonical body, or of its first `length` octets (`l=`).
    static func hash(_ body: ArraySlice<UInt8>, relaxed: Bool, length: Int?) -> [UInt8] {
        var canonical = BodyCanonicalization(limit: length ?? .max)
        body.withUnsafeBufferPointer { canonical.read($0, relaxed: relaxed) }
        return canonical.finish()
    }

    /// Octets of the canonical body, to tell whether an `l=` tag covers all of it.
    static func count(_ body: ArraySlice<UInt8>, relaxed: Bool) -> Int {
        var canonical = BodyCanonicalization(limit: .max)
        body.withUnsafeBufferPointer { canonical.read($0, relaxed: relaxed) }
        return .max - canonical.left
    }

    private init(limit: Int) {
        left = limit
        chunk.reserveCapacity(Self.chunkOctets + 2)
    }

    // Line breaks are held back until something follows them: those at the end count as one, or none.
    private mutating func read(_ body: UnsafeBufferPointer<UInt8>, relaxed: Bool) {
        var breaks = 0
        var blank = false
        var empty = true
        var index = 0
        while index < body.count {
            let byte = body[index]
            if byte == 0x0D, index + 1 < body.count, body[index + 1] == 0x0A {
                breaks += 1
                blank = false
                index += 2
                continue
            }
            index += 1
            if relaxed, byte == 0x20 || byte == 0x09 {
                blank = true
                continue
            }
            while breaks > 0 {
                emit(0x0D)
                emit(0x0A)
                breaks -= 1
            }
            if blank { emit(0x20) }
            emit(byte)
            blank = false
            empty = false
        }
        // An empty body is nothing in the relaxed form and one line break in the simple one.
        if !empty || !relaxed {
            emit(0x0D)
            emit(0x0A)
        }
    }

    private mutating func emit(_ byte: UInt8) {
        guard left > 0 else { return }
        left -= 1
        chunk.append(byte)
        if chunk.count >= Self.chunkOctets {
            hasher.update(data: chunk)
            chunk.removeAll(keepingCapacity: true)
        }
    }

    private mutating func finish() -> [UInt8] {
        hasher.update(data: chunk)
        return Array(hasher.finalize())
    }
}
