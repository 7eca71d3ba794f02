// Bytes as text and back.

import Platform
import Testing

@Suite("Encoding")
struct EncodingTests {
    @Test(
        "hexadecimal has two digits a byte",
        arguments: [([], ""), ([0], "00"), ([0x0f, 0xf0, 0xff], "0ff0ff"), ([0xde, 0xad], "dead")]
            as [([UInt8], String)]
    )
    func hexadecimal(_ bytes: [UInt8], _ text: String) {
        #expect(bytes.hexadecimal == text)
        #expect([UInt8](hexadecimal: text) == bytes)
        #expect([UInt8](hexadecimal: text.uppercased()) == bytes)
    }

    @Test("what is not hexadecimal is refused", arguments: ["0", "0g", "0x00", "00 ", "é0", "000"])
    func notHexadecimal(_ text: String) {
        #expect([UInt8](hexadecimal: text) == nil)
    }

    @Test(
        "base64url has no padding and no character that a URL would need to escape (RFC 4648 §10)",
        arguments: [
            ("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ]
    )
    func base64URL(_ text: String, _ encoded: String) {
        #expect(Array(text.utf8).base64URL == encoded)
        #expect([UInt8](base64URL: encoded) == Array(text.utf8))
    }

    @Test("the two last characters of the alphabet are - and _")
    func alphabet() {
        #expect(([0xfb, 0xff, 0xfe] as [UInt8]).base64URL == "-__-")
        #expect([UInt8](base64URL: "-__-") == [0xfb, 0xff, 0xfe])
        #expect([UInt8](base64URL: "+//+") == nil)
    }

    @Test("padding is taken, malformed text is not", arguments: ["Z", "Zg=x", "Z!", "Zg ", "Zm9vY", "é"])
    func malformed(_ text: String) {
        #expect([UInt8](base64URL: text) == nil, "\(text)")
        #expect([UInt8](base64URL: "Zg==") == [0x66])
    }

    @Test("bytes of every length come back from both forms")
    func roundTrip() {
        for count in 0..<200 {
            let bytes = [UInt8].random(count: count)
            #expect([UInt8](base64URL: bytes.base64URL) == bytes)
            #expect([UInt8](hexadecimal: bytes.hexadecimal) == bytes)
        }
    }
}
