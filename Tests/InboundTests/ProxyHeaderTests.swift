// What a load balancer says of its client, in both versions of the PROXY protocol.

import DNS
import Testing

@testable import Inbound

@Suite("PROXY headers")
struct ProxyHeaderTests {
    static let signature: [UInt8] = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10]

    /// A binary header.
    static func binary(_ command: UInt8, _ family: UInt8, _ body: [UInt8], extra: Int = 0) -> [UInt8] {
        let length = body.count + extra
        return signature + [0x20 | command, family, UInt8(length >> 8), UInt8(length & 0xff)] + body
            + [UInt8](repeating: 4, count: extra)
    }

    static let v4: [UInt8] = [192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0, 25]
    static let v6: [UInt8] =
        [0x20, 0x01, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [7] + [UInt8](repeating: 1, count: 16)
        + [0, 1, 0, 25]

    @Test(
        "headers that are whole",
        arguments: [
            (Array("PROXY TCP4 192.0.2.7 198.51.100.1 12345 25\r\n".utf8), "192.0.2.7"),
            (Array("PROXY TCP6 2001:db8::7 2001:db8::1 12345 25\r\n".utf8), "2001:db8::7"),
            (Array("PROXY TCP6 ::ffff:192.0.2.7 ::1 12345 25\r\n".utf8), "192.0.2.7"),
            (Array("PROXY UNKNOWN\r\n".utf8), nil),
            (Array("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".utf8), nil),
            (binary(1, 0x11, v4), "192.0.2.7"),
            (binary(1, 0x21, v6), "2001:db8::7"),
            (binary(1, 0x11, v4, extra: 300), "192.0.2.7"),
            (binary(0, 0x11, v4), nil),
            (binary(0, 0, []), nil),
            (binary(1, 0x31, [UInt8](repeating: 0, count: 216)), nil),
        ] as [([UInt8], String?)]
    )
    func whole(_ header: [UInt8], _ client: String?) throws {
        let expected = ProxyHeader(client: client.flatMap { IPAddress($0) }, length: header.count)
        #expect(ProxyHeader.read(header) == .header(expected))
        // What follows belongs to the conversation.
        #expect(ProxyHeader.read(header + Array("EHLO x\r\n".utf8)) == .header(expected))
        for end in 0..<header.count {
            #expect(ProxyHeader.read(Array(header[..<end])) == .needsMore, "after \(end) bytes")
        }
    }

    @Test(
        "what is none",
        arguments: [
            Array("EHLO x\r\n".utf8), Array("PROXY TCP4 192.0.2.7 198.51.100.1 12345\r\n".utf8),
            Array("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n".utf8), Array("PROXY TCP4 x y 1 2\r\n".utf8),
            Array("PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n".utf8), Array("PROXY \r\n".utf8),
            Array("PROXY TCP4 192.0.2.7 198.51.100.1 12345 25\n".utf8), Array("PROXY\r\n".utf8),
            Array(("PROXY UNKNOWN " + String(repeating: "x", count: 200)).utf8),
            signature + [0x11, 0x11, 0, 12] + v4, signature + [0x22, 0x11, 0, 12] + v4,
            binary(1, 0x11, Array(v4.dropLast())), binary(1, 0x21, v4), binary(1, 0x41, v4),
            signature + [0x21, 0x11, 2, 9],
        ]
    )
    func none(_ bytes: [UInt8]) {
        #expect(ProxyHeader.read(bytes) == .malformed)
    }
}
