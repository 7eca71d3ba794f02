// Domain names in both forms: text as we keep it, labels as records carry them.

/// Rules of names in text form (RFC 1035 §2.3.4).
enum DomainName {
    /// The name as libunbound wants it, or nil: labels of 1 to 63 bytes of printable ASCII, 253 in all.
    static func question(_ text: String) -> String? {
        let name = text.hasSuffix(".") ? text.dropLast() : text[...]
        guard !name.isEmpty, name.utf8.count <= 253 else { return nil }
        for label in name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false) {
            guard (1...63).contains(label.count) else { return nil }
            // A backslash would begin an escape.
            guard label.allSatisfy({ (0x21...0x7e).contains($0) && $0 != UInt8(ascii: "\\") }) else {
                return nil
            }
        }
        return name + "."
    }

    /// Lower case, without the trailing dot; the root stays `.`.
    static func normal(_ text: some StringProtocol) -> String {
        let lower = text.lowercased()
        return lower.count > 1 && lower.hasSuffix(".") ? String(lower.dropLast()) : lower
    }
}

/// Reads the parts of a record's data, which libunbound gives without compression.
struct RecordReader {
    /// Data that ends early, or a name that is none.
    struct Malformed: Error {}

    private var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func byte() throws(Malformed) -> UInt8 {
        guard let byte = rest.popFirst() else { throw Malformed() }
        return byte
    }

    mutating func number() throws(Malformed) -> UInt16 {
        UInt16(try byte()) << 8 | UInt16(try byte())
    }

    mutating func bytes(_ count: Int) throws(Malformed) -> [UInt8] {
        guard count <= rest.count else { throw Malformed() }
        defer { rest = rest.dropFirst(count) }
        return [UInt8](rest.prefix(count))
    }

    mutating func remaining() -> [UInt8] {
        defer { rest = [] }
        return [UInt8](rest)
    }

    /// A name in lower case; bytes that could be taken for syntax are escaped (RFC 1035 §5.1).
    mutating func name() throws(Malformed) -> String {
        var text: [UInt8] = []
        var length = 0
        while true {
            let count = Int(try byte())
            if count == 0 { break }
            length += count + 1
            guard count <= 63, length <= 254 else { throw Malformed() }
            if !text.isEmpty { text.append(UInt8(ascii: ".")) }
            for byte in try bytes(count) { Self.append(byte, to: &text) }
        }
        return text.isEmpty ? "." : String(decoding: text, as: UTF8.self)
    }

    private static func append(_ byte: UInt8, to text: inout [UInt8]) {
        switch byte {
        case UInt8(ascii: "."), UInt8(ascii: "\\"): text += [UInt8(ascii: "\\"), byte]
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): text.append(byte | 0x20)
        case 0x21...0x7e: text.append(byte)
        default:
            let decimal = String(byte)
            text += Array("\\\(String(repeating: "0", count: 3 - decimal.count))\(decimal)".utf8)
        }
    }
}

extension DNSRecord {
    /// Reads a record's data; nil when it is not what its type must be.
    init?(_ type: RecordType, data: [UInt8]) {
        var reader = RecordReader(data)
        do throws(RecordReader.Malformed) {
            switch type {
            case .a, .aaaa:
                guard let address = IPAddress(bytes: reader.remaining()),
                    address.isV4 == (type == .a)
                else { return nil }
                self = .address(address)
            case .mx:
                let preference = try reader.number()
                self = .mx(preference: preference, exchange: try reader.name())
            case .cname, .ns, .ptr: self = .name(try reader.name())
            case .txt:
                var joined: [UInt8] = []
                while !reader.isAtEnd { joined += try reader.bytes(Int(try reader.byte())) }
                self = .txt(String(decoding: joined, as: UTF8.self))
            case .tlsa:
                let (usage, selector, matching) = (try reader.byte(), try reader.byte(), try reader.byte())
                self = .tlsa(usage: usage, selector: selector, matching: matching, data: reader.remaining())
            }
        } catch {
            return nil
        }
        guard reader.isAtEnd else { return nil }
    }
}
