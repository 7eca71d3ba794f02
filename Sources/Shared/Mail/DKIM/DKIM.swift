// Signing outgoing mail (RFC 6376, RFC 8301, RFC 8463): relaxed/relaxed, one body hash for all signatures.

import Crypto
package import FoundationEssentials

/// DomainKeys Identified Mail: signatures that tie a message to a domain.
package enum DKIM {
    /// Signed in each occurrence; From is named once more, so that none can be added.
    static let signedFields = [
        "From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To", "References",
        "MIME-Version", "Content-Type", "List-Unsubscribe", "List-Unsubscribe-Post",
    ]

    /// One key with the name under which its public half is found in DNS.
    package struct Signer: Sendable {
        package let domain: String
        package let selector: String
        package let key: DKIMKey

        /// The domain is the `d=` tag; the record stands at `selector._domainkey.domain`.
        package init(domain: String, selector: String, key: DKIMKey) {
            self.domain = domain
            self.selector = selector
            self.key = key
        }
    }

    /// The DKIM-Signature fields to put before the message, one for each signer, with their line ends.
    package static func sign(
        _ message: [UInt8],
        signers: [Signer],
        at date: Date
    ) throws(DKIMFault) -> [UInt8] {
        let header = HeaderBlock(of: message)
        let bodyHash = Base64Encoder.string(
            BodyCanonicalization.hash(message[header.bodyStart...], relaxed: true, length: nil)
        )
        var names: [String] = []
        var canonical: [UInt8] = []
        for name in signedFields {
            // Bottom up, as the verifier counts them (RFC 6376 §5.4.2).
            for field in header.fields(named: name.lowercased()).reversed() {
                names.append(name)
                HeaderCanonicalization.append(field, of: message, relaxed: true, to: &canonical)
            }
            if name == "From" { names.append(name) }
        }
        var output: [UInt8] = []
        for signer in signers {
            let value = unsignedValue(signer, names: names, bodyHash: bodyHash, date: date)
            var signed = canonical
            HeaderCanonicalization.appendRelaxed(name: "DKIM-Signature".utf8, value: value, to: &signed)
            // The signature's own field is hashed without the line break behind it (RFC 6376 §3.7).
            signed.removeLast(2)
            let signature = Base64Encoder.string(try signer.key.signature(over: signed))
            output.append(contentsOf: "DKIM-Signature:".utf8)
            output.append(contentsOf: value)
            fold(signature, into: &output)
        }
        return output
    }

    // The field's value up to and with `b=`, already folded.
    private static func unsignedValue(
        _ signer: Signer,
        names: [String],
        bodyHash: String,
        date: Date
    ) -> [UInt8] {
        var writer = HeaderWriter(reserving: 768)
        writer.begin("DKIM-Signature")
        let prefix = writer.bytes.count
        writer.word("v=1; a=\(signer.key.algorithm.rawValue); c=relaxed/relaxed;".utf8)
        writer.word("d=\(signer.domain);".utf8)
        writer.word("s=\(signer.selector);".utf8)
        writer.word("t=\(Int(date.timeIntervalSince1970));".utf8)
        for (index, name) in names.enumerated() {
            let last = index + 1 == names.count
            writer.word("\(index == 0 ? "h=" : "")\(name.lowercased())".utf8, followedBy: last ? ";" : ":")
        }
        writer.word("bh=\(bodyHash);".utf8)
        writer.end()
        writer.bytes.append(contentsOf: " b=".utf8)
        return Array(writer.bytes[prefix...])
    }

    private static func fold(_ signature: String, into output: inout [UInt8]) {
        var column = 3
        for byte in signature.utf8 {
            if column == 76 {
                output.append(contentsOf: "\r\n ".utf8)
                column = 1
            }
            output.append(byte)
            column += 1
        }
        output.append(contentsOf: "\r\n".utf8)
    }
}

/// Why a key could not be made, read or used.
package enum DKIMFault: Error, Hashable, Sendable {
    /// The bytes are no private key of that kind.
    case keyMalformed
    /// An RSA key below 1,024 bits (RFC 8301 §3.2).
    case keyTooShort
    /// libcrypto or swift-crypto refused the operation.
    case cryptography
}
