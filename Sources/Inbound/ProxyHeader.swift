// The PROXY protocol, versions 1 and 2: a load balancer says who its client is before the first byte of SMTP.
// Source: https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt, sections 2.1 and 2.2.

import DNS

/// What a proxy said of its client.
struct ProxyHeader: Equatable {
    /// The client; nil where the proxy speaks for itself (LOCAL, UNKNOWN): then the connection's own address counts.
    let client: IPAddress?
    /// Bytes that belong to the header.
    let length: Int

    enum Reading: Equatable {
        case needsMore
        case header(ProxyHeader)
        /// No header, or one that makes no sense: the connection is not worth a word.
        case malformed
    }

    /// The longest header that is read; version 2 may be longer, with parts that say nothing to us.
    static let lengthMax = 536
    private static let lineMax = 107
    private static let signature: [UInt8] = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10]

    /// Reads the beginning of a connection.
    static func read(_ bytes: [UInt8]) -> Reading {
        if bytes.first == signature[0] { return readBinary(bytes) }
        let line = Array("PROXY ".utf8)
        guard bytes.prefix(line.count).elementsEqual(line.prefix(bytes.count)) else { return .malformed }
        guard let end = bytes.firstIndex(of: 10) else {
            return bytes.count < lineMax ? .needsMore : .malformed
        }
        guard end >= 1, end < lineMax, bytes[end - 1] == 13 else { return .malformed }
        return readLine(String(decoding: bytes[..<(end - 1)], as: UTF8.self), length: end + 1)
    }

    private static func readLine(_ line: String, length: Int) -> Reading {
        let words = line.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count >= 2 else { return .malformed }
        switch words[1] {
        case "UNKNOWN": return .header(ProxyHeader(client: nil, length: length))
        case "TCP4", "TCP6":
            guard words.count == 6, let client = IPAddress(words[2]), client.isV4 == (words[1] == "TCP4"),
                UInt16(words[4]) != nil, UInt16(words[5]) != nil
            else { return .malformed }
            return .header(ProxyHeader(client: client.unmapped, length: length))
        default: return .malformed
        }
    }

    private static func readBinary(_ bytes: [UInt8]) -> Reading {
        guard bytes.prefix(12).elementsEqual(signature.prefix(bytes.count)) else { return .malformed }
        guard bytes.count >= 16 else { return .needsMore }
        let length = 16 + (Int(bytes[14]) << 8 | Int(bytes[15]))
        guard bytes[12] >> 4 == 2, length <= lengthMax else { return .malformed }
        guard bytes.count >= length else { return .needsMore }
        switch (bytes[12] & 0xf, bytes[13] >> 4) {
        // LOCAL, and families that are no IP.
        case (0, _), (1, 0), (1, 3): return .header(ProxyHeader(client: nil, length: length))
        case (1, 1): return address(bytes, count: 4, length: length)
        case (1, 2): return address(bytes, count: 16, length: length)
        default: return .malformed
        }
    }

    private static func address(_ bytes: [UInt8], count: Int, length: Int) -> Reading {
        guard length >= 16 + 2 * count + 4, let client = IPAddress(bytes: Array(bytes[16..<(16 + count)]))
        else { return .malformed }
        return .header(ProxyHeader(client: client.unmapped, length: length))
    }
}
