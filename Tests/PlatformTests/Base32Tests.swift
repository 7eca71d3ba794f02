// Base32: the vectors of RFC 4648, and that each value has one text.

import Platform
import Testing

@Suite("Base32")
struct Base32Tests {
    @Test(
        "the vectors of RFC 4648 §10, in lower case and without padding",
        arguments: [
            ("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"), ("foobar", "mzxw6ytboi"),
        ]
    )
    func vectors(_ plain: String, _ text: String) {
        #expect(Array(plain.utf8).base32 == text)
        #expect([UInt8](base32: text) == Array(plain.utf8))
        #expect([UInt8](base32: text.uppercased()) == Array(plain.utf8))
    }

    @Test("any bytes come back")
    func roundTrip() {
        for count in 0...40 {
            let bytes = [UInt8].random(count: count)
            #expect([UInt8](base32: bytes.base32) == bytes)
        }
    }

    @Test(
        "what no bytes are written as is refused",
        arguments: ["a", "my=", "mz!q", "m0", "m1", "m8", "mzxw6yt", "mx", "mzxr", "é", " my"]
    )
    func refused(_ text: String) {
        // `mx` and `mzxr` differ from `my` and `mzxq` in bits that stand behind the last byte.
        #expect([UInt8](base32: text) == nil || [UInt8](base32: text)?.base32 == text)
        if text != "mzxw6yt" { #expect([UInt8](base32: text) == nil) }
    }
}
