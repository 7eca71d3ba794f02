// The published half of a key (RFC 6376 §3.6.1): what a TXT record says about it.

import Crypto

/// A key record that was found in DNS.
struct DKIMRecord {
    static let octetsMax = 8_192

    private enum PublicKey {
        case rsa(RSAPublicKey)
        case ed25519(Curve25519.Signing.PublicKey)
    }

    /// `t=y`: a failure is to be treated as if there were no signature.
    let isTesting: Bool
    /// `t=s`: the domain of `i=` must be that of `d=`.
    let isStrict: Bool
    private let key: PublicKey

    init(_ text: String) throws(DKIMSignature.Rejection) {
        guard text.utf8.count <= Self.octetsMax, let tags = TagList(Array(text.utf8)[...]) else {
            throw .init(result: .permerror, reason: "key record is malformed")
        }
        if let version = tags["v"], version != "DKIM1" {
            throw .init(result: .permerror, reason: "key record has an unknown version")
        }
        if let hashes = tags.list("h"), !hashes.contains("sha256") {
            throw .init(result: .permerror, reason: "key record forbids sha256")
        }
        if let services = tags.list("s"), !services.contains("*"), !services.contains("email") {
            throw .init(result: .permerror, reason: "key record is not for email")
        }
        guard let published = tags["p"] else {
            throw .init(result: .permerror, reason: "key record has no key")
        }
        guard !published.isEmpty else { throw .init(result: .permerror, reason: "key is revoked") }
        let flags = tags.list("t") ?? []
        isTesting = flags.contains("y")
        isStrict = flags.contains("s")
        key = try Self.key(kind: tags["k"] ?? "rsa", bytes: tags.base64("p") ?? [])
    }

    /// Whether a key of this kind can check a signature of that algorithm.
    func fits(_ algorithm: DKIMKey.Algorithm) -> Bool {
        switch (key, algorithm) {
        case (.rsa, .rsa), (.ed25519, .ed25519): true
        default: false
        }
    }

    func isValid(_ signature: [UInt8], over bytes: [UInt8]) -> Bool {
        switch key {
        case .rsa(let key): key.isValid(signature, over: bytes)
        case .ed25519(let key): key.isValidSignature(signature, for: Array(SHA256.hash(data: bytes)))
        }
    }

    private static func key(kind: String, bytes: [UInt8]) throws(DKIMSignature.Rejection) -> PublicKey {
        switch kind.lowercased() {
        case "rsa":
            guard let key = RSAPublicKey(der: bytes) else {
                throw .init(result: .permerror, reason: "key record holds no RSA key")
            }
            // RFC 8301 §3.2; the upper bound limits the work that a stranger's record can cause.
            guard (1_024...8_192).contains(key.bits) else {
                throw .init(result: .permerror, reason: "RSA key of \(key.bits) bits is not accepted")
            }
            return .rsa(key)
        case "ed25519":
            guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: bytes) else {
                throw .init(result: .permerror, reason: "key record holds no Ed25519 key")
            }
            return .ed25519(key)
        default:
            throw .init(result: .permerror, reason: "key record has an unknown kind of key")
        }
    }
}
