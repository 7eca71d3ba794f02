// Sealed and signed: what was altered, moved or made under another key does not open.

import Foundation
import Platform
import Testing

@Suite("SecretBox")
struct SecretBoxTests {
    private let box = SecretBox(masterKey: [UInt8](repeating: 7, count: 32))
    private let secret = Array("a private key".utf8)

    @Test("what was sealed opens at its place")
    func opens() throws {
        for secret in [[], [0], secret, [UInt8](repeating: 9, count: 5_000)] {
            #expect(try box.open(box.seal(secret, place: "table/1"), place: "table/1") == secret)
        }
    }

    @Test("the same secret is sealed differently each time")
    func fresh() {
        #expect(box.seal(secret, place: "p") != box.seal(secret, place: "p"))
    }

    @Test("one altered bit anywhere keeps it shut")
    func tampered() {
        let sealed = box.seal(secret, place: "p")
        for index in sealed.indices {
            var altered = sealed
            altered[index] ^= 1 << UInt8(index % 8)
            #expect(throws: SecretBox.Fault.doesNotOpen) { try box.open(altered, place: "p") }
        }
    }

    @Test("cut or lengthened, it stays shut")
    func cut() {
        let sealed = box.seal(secret, place: "p")
        for count in 0..<sealed.count {
            #expect(throws: SecretBox.Fault.doesNotOpen) {
                try box.open(Array(sealed.prefix(count)), place: "p")
            }
        }
        #expect(throws: SecretBox.Fault.doesNotOpen) { try box.open(sealed + [0], place: "p") }
    }

    @Test("at another place it stays shut")
    func otherPlace() {
        let sealed = box.seal(secret, place: "inboxes/1")
        for place in ["inboxes/2", "inboxes/", "", "inboxes/1 "] {
            #expect(throws: SecretBox.Fault.doesNotOpen) { try box.open(sealed, place: place) }
        }
    }

    @Test("under another master key it stays shut, and signatures differ")
    func otherKey() {
        let other = SecretBox(masterKey: [UInt8](repeating: 8, count: 32))
        #expect(throws: SecretBox.Fault.doesNotOpen) {
            try other.open(box.seal(secret, place: "p"), place: "p")
        }
        #expect(!other.verifies(box.sign("text", purpose: "p"), of: "text", purpose: "p"))
    }

    @Test("a signature holds for its text, purpose and length only")
    func signatures() {
        let signature = box.sign("text", purpose: "cursor")
        #expect(signature.count == 32)
        #expect(box.verifies(signature, of: "text", purpose: "cursor"))
        #expect(!box.verifies(signature, of: "Text", purpose: "cursor"))
        #expect(!box.verifies(signature, of: "text", purpose: "token"))
        #expect(!box.verifies(signature, of: "text", purpose: "cursor", length: 12))
        #expect(!box.verifies([], of: "text", purpose: "cursor"))
        // Purpose and text are kept apart.
        #expect(box.sign("bc", purpose: "a") != box.sign("c", purpose: "ab"))
        #expect(box.sign("text", purpose: "cursor", length: 12) == Array(signature.prefix(12)))
    }

    @Test("the master key is 32 bytes or more, in hexadecimal or base64")
    func masterKey() {
        let bytes = [UInt8](0..<32)
        for text in [bytes.hexadecimal, Data(bytes).base64EncodedString()] {
            var settings = Settings(["COMMUNE_SECRET_KEY": text])
            let read = SecretBox(reading: &settings)
            #expect(settings.faults.isEmpty)
            let expected = SecretBox(masterKey: bytes).sign("t", purpose: "p")
            #expect(read?.sign("t", purpose: "p") == expected)
        }
        for text in ["", "ab", String(repeating: "0", count: 62), "not a key at all, whatever it says !!"] {
            var settings = Settings(["COMMUNE_SECRET_KEY": text])
            #expect(SecretBox(reading: &settings) == nil)
            #expect(settings.faults.count == 1)
        }
    }

    @Test("secrets are compared whole")
    func compared() {
        #expect(constantTimeEqual([], []))
        #expect(constantTimeEqual([1, 2], [1, 2]))
        #expect(!constantTimeEqual([1, 2], [1, 3]))
        #expect(!constantTimeEqual([1, 2], [1, 2, 3]))
        #expect(!constantTimeEqual([0], []))
    }
}
