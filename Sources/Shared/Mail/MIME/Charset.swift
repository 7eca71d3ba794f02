// Bytes to text. Names of charsets come from strangers, so only those in this table ever reach iconv: some of glibc's
// rarer converters have crashed or hung on chosen input, and a name may also carry instructions ("//TRANSLIT").

internal import CIconv

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#endif

/// A character set that mail really uses, by the name iconv knows.
package struct Charset: Sendable, Hashable {
    /// glibc's name; empty for UTF-8 and US-ASCII, which need no conversion.
    let converter: String

    /// UTF-8, and with it US-ASCII.
    package static let utf8 = Charset(converter: "")
    /// What Western mail without a label turns out to be.
    package static let windows1252 = Charset(converter: "WINDOWS-1252")

    /// The charset a label means, or nil for one that we do not know.
    package init?(label: String) {
        var name = label.asciiLowercased
        name.removeAll { $0 == "\"" || $0 == "'" || $0.isWhitespace }
        if name.hasPrefix("x-") { name.removeFirst(2) }
        guard let known = Self.names[name] ?? Self.names[name.filter { $0 != "_" && $0 != "-" && $0 != ":" }]
        else {
            return nil
        }
        converter = known
    }

    private init(converter: String) { self.converter = converter }

    /// The text of `bytes` by their label; an unknown or absent label means UTF-8 where that is valid, else `fallback`.
    package static func decode(_ bytes: [UInt8], label: String?, fallback: Charset? = nil) -> String {
        if let label, let charset = Charset(label: label) { return charset.decode(bytes) }
        return guess(bytes, fallback: fallback)
    }

    /// The text of bytes that carry no label.
    package static func guess(_ bytes: [UInt8], fallback: Charset? = nil) -> String {
        if isISO2022JP(bytes), let japanese = Charset(label: "iso-2022-jp") { return japanese.decode(bytes) }
        if let text = String(validating: bytes, as: UTF8.self) { return text }
        let other = fallback == .utf8 ? nil : fallback
        return (other ?? .windows1252).decode(bytes)
    }

    /// The text; what the charset does not allow becomes U+FFFD.
    package func decode(_ bytes: [UInt8]) -> String {
        if isSingleByte, let text = Self.obviousUTF8(bytes) { return text }
        guard converter.isEmpty else { return convert(bytes) }
        if let text = String(validating: bytes, as: UTF8.self) { return text }
        // A wrong label: much mail says us-ascii or utf-8 and is Windows text. A few broken sequences in a text that
        // is otherwise UTF-8 do not make it Windows text.
        let repaired = String(decoding: bytes, as: UTF8.self)
        let broken = repaired.unicodeScalars.reduce(0) { $0 + ($1 == "\u{FFFD}" ? 1 : 0) }
        let high = bytes.reduce(0) { $0 + ($1 >= 0x80 ? 1 : 0) }
        return broken * 3 > high ? Charset.windows1252.decode(bytes) : repaired
    }

    private var isSingleByte: Bool {
        ["WINDOWS-125", "ISO-8859-", "KOI8-"].contains { converter.hasPrefix($0) }
    }

    /// Several characters beyond ASCII, all of them well-formed UTF-8: no text in a single-byte charset looks like that.
    private static func obviousUTF8(_ bytes: [UInt8]) -> String? {
        var leads = 0
        for byte in bytes where byte >= 0xC2 {
            leads += 1
            if leads > 3 { return String(validating: bytes, as: UTF8.self) }
        }
        return nil
    }

    /// ESC $ B and its relatives never occur in other text.
    private static func isISO2022JP(_ bytes: [UInt8]) -> Bool {
        var position = 0
        while let escape = bytes.position(of: 0x1B, from: position), escape + 2 < bytes.count {
            switch (bytes[escape + 1], bytes[escape + 2]) {
            case (0x24, 0x40), (0x24, 0x42), (0x28, 0x4A), (0x28, 0x49): return true
            default: position = escape + 1
            }
        }
        return false
    }
}

extension Charset {
    /// One pass of iconv over `bytes`; linear, since each call consumes input or skips a byte of it.
    private func convert(_ bytes: [UInt8]) -> String {
        guard !bytes.isEmpty else { return "" }
        // A machine without glibc's converters still shows the ASCII of it.
        guard let descriptor = iconv_open("UTF-8", converter), descriptor != Self.noDescriptor else {
            return String(decoding: bytes, as: UTF8.self)
        }
        defer { iconv_close(descriptor) }
        var input = bytes
        var room = [UInt8](repeating: 0, count: 4_096)
        var output: [UInt8] = []
        output.reserveCapacity(bytes.count + bytes.count / 2)
        input.withUnsafeMutableBytes { source in
            room.withUnsafeMutableBytes { target in
                Self.run(descriptor, source, target, into: &output)
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// What iconv_open returns when it fails: (iconv_t)-1.
    private static var noDescriptor: iconv_t? { iconv_t(bitPattern: -1) }

    private static let replacement: [UInt8] = [0xEF, 0xBF, 0xBD]

    private static func run(
        _ descriptor: iconv_t,
        _ source: UnsafeMutableRawBufferPointer,
        _ target: UnsafeMutableRawBufferPointer,
        into output: inout [UInt8]
    ) {
        var next = source.baseAddress?.assumingMemoryBound(to: CChar.self)
        var left = source.count
        while left > 0 {
            let before = left
            var place = target.baseAddress?.assumingMemoryBound(to: CChar.self)
            var free = target.count
            let isFault = iconv(descriptor, &next, &left, &place, &free) == -1
            let fault = isFault ? errno : 0
            output.append(contentsOf: target.prefix(target.count - free))
            switch fault {
            case 0: break
            case E2BIG where left < before || free < target.count: break
            case EINVAL:
                // The text ends inside a character.
                output.append(contentsOf: replacement)
                left = 0
            default:
                output.append(contentsOf: replacement)
                next = next?.advanced(by: 1)
                left -= 1
            }
        }
        // Some converters hold a character back until they are told that nothing follows.
        var place = target.baseAddress?.assumingMemoryBound(to: CChar.self)
        var free = target.count
        guard iconv(descriptor, nil, nil, &place, &free) != -1 else { return }
        output.append(contentsOf: target.prefix(target.count - free))
    }
}
