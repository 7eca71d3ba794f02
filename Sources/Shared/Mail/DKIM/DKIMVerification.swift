// Checking the signatures of a message (RFC 6376 §6), with DNS and the clock given by the caller.

package import FoundationEssentials

/// What came of one DKIM-Signature field.
package struct DKIMVerdict: Sendable, Hashable {
    /// The results of RFC 8601 §2.7.1.
    package enum Result: String, Sendable, Hashable, Codable {
        case pass, fail, permerror, temperror, neutral
    }

    package let result: Result
    /// The `d=` tag, empty when the field could not be read so far.
    package let domain: String
    package let selector: String
    /// The `a=` tag as given.
    package let algorithm: String
    /// Why it did not pass, as a phrase for logs and Authentication-Results.
    package let reason: String?
    /// False when an `l=` tag leaves a part of the body unsigned, which anyone may have added.
    package let coversWholeBody: Bool
}

extension DKIM {
    /// Signatures beyond this count are not looked at.
    package static let signaturesMax = 10
    private static let recordsMax = 5
    // Clocks differ; a signature from further ahead is a forgery or a broken sender.
    private static let clockSkewSeconds = 86_400

    /// Judges each signature from top to bottom; none gives an empty answer.
    ///
    /// `lookup` gets a name like `s._domainkey.example.com` and gives its TXT values, the strings of one record joined:
    /// an empty list when there is none, and it throws when DNS gave no answer.
    package static func verify(
        _ message: [UInt8],
        now: Date,
        lookup: (String) async throws -> [String]
    ) async -> [DKIMVerdict] {
        let header = HeaderBlock(of: message)
        var verification = Verification(message: message, header: header, now: Int(now.timeIntervalSince1970))
        var verdicts: [DKIMVerdict] = []
        for field in header.fields(named: "dkim-signature").prefix(signaturesMax) {
            verdicts.append(await verification.verdict(on: field, lookup: lookup))
        }
        return verdicts
    }

    private struct Verification {
        struct BodyForm: Hashable {
            let relaxed: Bool
            let length: Int?
        }

        let message: [UInt8]
        let header: HeaderBlock
        let now: Int
        var bodyHashes: [BodyForm: [UInt8]] = [:]
        var bodyCounts: [Bool: Int] = [:]

        mutating func verdict(
            on field: HeaderBlock.Field,
            lookup: (String) async throws -> [String]
        ) async -> DKIMVerdict {
            let tags = TagList(message[field.value])
            var coversWholeBody = true
            func verdict(_ result: DKIMVerdict.Result, _ reason: String?) -> DKIMVerdict {
                DKIMVerdict(
                    result: result,
                    domain: tags?["d"].map { String($0.lowercased().prefix(255)) } ?? "",
                    selector: tags?["s"].map { String($0.prefix(255)) } ?? "",
                    algorithm: tags?["a"].map { String($0.prefix(40)) } ?? "",
                    reason: reason,
                    coversWholeBody: coversWholeBody
                )
            }
            guard let tags, let signatureRange = tags.range(of: "b") else {
                return verdict(.permerror, "signature field is malformed")
            }
            do throws(DKIMSignature.Rejection) {
                let signature = try DKIMSignature(tags)
                coversWholeBody = try checkBody(signature)
                let signed = signedHeader(signature, field: field, valueOfB: signatureRange)
                let records = try await records(for: signature, lookup: lookup)
                try check(signature, over: signed, with: records)
                return verdict(.pass, nil)
            } catch {
                return verdict(error.result, error.reason)
            }
        }

        // Before DNS is asked: most broken signatures are broken here.
        private mutating func checkBody(_ signature: DKIMSignature) throws(DKIMSignature.Rejection) -> Bool {
            if let expiresAt = signature.expiresAt, expiresAt < now {
                throw .init(result: .fail, reason: "signature has expired")
            }
            if let signedAt = signature.signedAt, signedAt > now + DKIM.clockSkewSeconds {
                throw .init(result: .permerror, reason: "signature is from the future")
            }
            let body = message[header.bodyStart...]
            let form = BodyForm(relaxed: signature.bodyIsRelaxed, length: signature.bodyLength)
            var coversWholeBody = true
            if let length = signature.bodyLength {
                let count =
                    bodyCounts[form.relaxed] ?? BodyCanonicalization.count(body, relaxed: form.relaxed)
                bodyCounts[form.relaxed] = count
                guard length <= count else {
                    throw .init(result: .permerror, reason: "l= is longer than the body")
                }
                coversWholeBody = length == count
            }
            let hash =
                bodyHashes[form]
                ?? BodyCanonicalization.hash(body, relaxed: form.relaxed, length: form.length)
            bodyHashes[form] = hash
            guard hash == signature.bodyHash else { throw .init(result: .fail, reason: "body has changed") }
            return coversWholeBody
        }

        private func signedHeader(
            _ signature: DKIMSignature,
            field: HeaderBlock.Field,
            valueOfB: Range<Int>
        ) -> [UInt8] {
            var output: [UInt8] = []
            var used: [String: Int] = [:]
            for name in signature.fieldNames {
                let fields = header.fields(named: name)
                let seen = used[name, default: 0]
                used[name] = seen + 1
                // From the bottom up; a name beyond the last occurrence signs its absence.
                guard seen < fields.count else { continue }
                let next = fields[fields.count - 1 - seen]
                HeaderCanonicalization.append(
                    next,
                    of: message,
                    relaxed: signature.headerIsRelaxed,
                    to: &output
                )
            }
            // Blanks around the value of `b=` go with it, as all verifiers do it.
            let value =
                message[field.value.lowerBound..<valueOfB.lowerBound]
                + message[valueOfB.upperBound..<field.value.upperBound]
            if signature.headerIsRelaxed {
                HeaderCanonicalization.appendRelaxed(name: message[field.name], value: value, to: &output)
                output.removeLast(2)
            } else {
                output.append(contentsOf: message[field.name.lowerBound..<field.value.lowerBound])
                output.append(contentsOf: value)
            }
            return output
        }

        private func records(
            for signature: DKIMSignature,
            lookup: (String) async throws -> [String]
        ) async throws(DKIMSignature.Rejection) -> [String] {
            let name = "\(signature.selector)._domainkey.\(signature.domain)"
            let found: [String]
            do {
                found = try await lookup(name)
            } catch {
                throw .init(result: .temperror, reason: "key could not be looked up")
            }
            guard !found.isEmpty else { throw .init(result: .permerror, reason: "no key at \(name)") }
            return Array(found.prefix(DKIM.recordsMax))
        }

        private func check(
            _ signature: DKIMSignature,
            over signed: [UInt8],
            with texts: [String]
        ) throws(DKIMSignature.Rejection) {
            var worst = DKIMSignature.Rejection(result: .permerror, reason: "no key for the algorithm")
            for text in texts {
                do throws(DKIMSignature.Rejection) {
                    let record = try DKIMRecord(text)
                    guard record.fits(signature.algorithm) else { continue }
                    guard !record.isStrict || signature.identityDomain == signature.domain else {
                        throw .init(result: .permerror, reason: "key forbids i= of a subdomain")
                    }
                    if record.isValid(signature.signature, over: signed) { return }
                    let result: DKIMVerdict.Result = record.isTesting ? .neutral : .fail
                    worst = .init(result: result, reason: "signature does not match")
                } catch {
                    if worst.result == .permerror { worst = error }
                }
            }
            throw worst
        }
    }
}
