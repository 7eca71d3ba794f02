// What is sealed at rest: DKIM private keys, webhook secrets. And what is signed: tokens that come back to us.

import Crypto
import Foundation

/// Seals and signs under keys derived from `COMMUNE_SECRET_KEY`, one derived key a purpose.
package struct SecretBox: Sendable {
    /// Why something did not open.
    package enum Fault: Error, Sendable {
        /// Altered, cut, sealed under another key, or for another place.
        case doesNotOpen
    }

    private let sealing: SymmetricKey
    private let signing: SymmetricKey

    /// Takes the master key; at least 32 bytes.
    package init(masterKey: [UInt8]) {
        let master = SymmetricKey(data: masterKey)
        sealing = Self.derive(master, purpose: "commune/seal/v1")
        signing = Self.derive(master, purpose: "commune/sign/v1")
    }

    /// Reads `COMMUNE_SECRET_KEY`: 32 bytes or more, as hexadecimal or base64.
    package init?(reading settings: inout Settings) {
        let variable = "COMMUNE_SECRET_KEY"
        guard
            let text = settings.required(
                variable,
                purpose: "seals secrets at rest (make one with: openssl rand -hex 32)"
            )
        else { return nil }
        guard let bytes = [UInt8](hexadecimal: text) ?? Data(base64Encoded: text).map([UInt8].init),
            bytes.count >= 32
        else {
            settings.fault(
                variable,
                "must be at least 32 bytes in hexadecimal or base64 (openssl rand -hex 32)."
            )
            return nil
        }
        self.init(masterKey: bytes)
    }

    /// Seals with AES-256-GCM; `place` (table, organization, row) is authenticated, so that a sealed secret
    /// cannot be moved to another row.
    package func seal(_ secret: [UInt8], place: String) -> [UInt8] {
        // `combined` is nil only for nonces of another size than AES-GCM's own, which is never given here.
        guard
            let box = try? AES.GCM.seal(secret, using: sealing, authenticating: Data(place.utf8)),
            let combined = box.combined
        else { preconditionFailure("AES-GCM refused to seal") }
        return [UInt8](combined)
    }

    /// Opens what `seal` made for the same place.
    package func open(_ sealed: [UInt8], place: String) throws(Fault) -> [UInt8] {
        guard
            let box = try? AES.GCM.SealedBox(combined: sealed),
            let secret = try? AES.GCM.open(box, using: sealing, authenticating: Data(place.utf8))
        else { throw .doesNotOpen }
        return [UInt8](secret)
    }

    /// HMAC-SHA-256 over purpose and text, cut to `length` bytes.
    package func sign(_ text: String, purpose: String, length: Int = 32) -> [UInt8] {
        var hmac = HMAC<SHA256>(key: signing)
        hmac.update(data: Data(purpose.utf8))
        hmac.update(data: [0] as [UInt8])
        hmac.update(data: Data(text.utf8))
        return [UInt8](hmac.finalize().prefix(length))
    }

    /// Compares in constant time with what `sign` would make.
    package func verifies(_ signature: [UInt8], of text: String, purpose: String, length: Int = 32) -> Bool {
        constantTimeEqual(signature, sign(text, purpose: purpose, length: length))
    }

    private static func derive(_ master: SymmetricKey, purpose: String) -> SymmetricKey {
        HKDF<SHA256>.deriveKey(inputKeyMaterial: master, info: Data(purpose.utf8), outputByteCount: 32)
    }
}

/// Compares without telling by its time where two secrets differ.
package func constantTimeEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    guard a.count == b.count else { return false }
    var difference: UInt8 = 0
    for index in a.indices { difference |= a[index] ^ b[index] }
    return difference == 0
}
