// The two kinds of DKIM keys: how they are made, sealed, published and used.

import Crypto
import FoundationEssentials

/// A private key, parsed once; signing with it from many tasks at a time is safe.
package struct DKIMKey: Sendable {
    /// The `a=` tag of a signature.
    package enum Algorithm: String, Sendable, CaseIterable, Codable {
        case rsa = "rsa-sha256"
        case ed25519 = "ed25519-sha256"
    }

    private enum Material: Sendable {
        case rsa(RSAPrivateKey)
        case ed25519([UInt8], Curve25519.Signing.PrivateKey)
    }

    package let algorithm: Algorithm
    private let material: Material

    /// A new key; RSA has 2,048 bits and takes tens of milliseconds.
    package static func generate(_ algorithm: Algorithm) throws(DKIMFault) -> DKIMKey {
        switch algorithm {
        case .rsa:
            DKIMKey(algorithm, .rsa(try RSAPrivateKey(bits: 2_048)))
        case .ed25519:
            try DKIMKey(algorithm, privateBytes: Array(Curve25519.Signing.PrivateKey().rawRepresentation))
        }
    }

    /// Reads what `privateBytes` gave: PKCS#8 DER for RSA (PKCS#1 is understood too), 32 bytes for Ed25519.
    package init(_ algorithm: Algorithm, privateBytes: [UInt8]) throws(DKIMFault) {
        switch algorithm {
        case .rsa:
            self.init(algorithm, .rsa(try RSAPrivateKey(der: privateBytes)))
        case .ed25519:
            guard let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: privateBytes) else {
                throw .keyMalformed
            }
            self.init(algorithm, .ed25519(privateBytes, key))
        }
    }

    private init(_ algorithm: Algorithm, _ material: Material) {
        self.algorithm = algorithm
        self.material = material
    }

    /// The secret half, to be sealed before it is stored.
    package var privateBytes: [UInt8] {
        get throws(DKIMFault) {
            switch material {
            case .rsa(let key): try key.der()
            case .ed25519(let bytes, _): bytes
            }
        }
    }

    /// The TXT value to publish; an RSA one is longer than the 255 octets of a single DNS string.
    package var publicRecord: String {
        get throws(DKIMFault) {
            switch material {
            case .rsa(let key):
                "v=DKIM1; k=rsa; p=\(Base64Encoder.string(try key.publicDER()))"
            case .ed25519(_, let key):
                "v=DKIM1; k=ed25519; p=\(Base64Encoder.string(key.publicKey.rawRepresentation))"
            }
        }
    }

    /// Signs the SHA-256 digest of the bytes, as both algorithms do.
    func signature(over bytes: [UInt8]) throws(DKIMFault) -> [UInt8] {
        switch material {
        case .rsa(let key):
            return try key.signature(over: bytes)
        case .ed25519(_, let key):
            // RFC 8463 §3: Ed25519 over the digest, not over the text.
            guard let signature = try? key.signature(for: Array(SHA256.hash(data: bytes))) else {
                throw .cryptography
            }
            return Array(signature)
        }
    }
}
