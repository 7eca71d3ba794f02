// The signing keys of sending domains, opened and parsed once: parsing an RSA key costs as much as a signature.

import Mail
import Platform
import Store
import Synchronization

final class SignerCache: Sendable {
    private static let domainsMax = 1_000
    // Short enough that a key that was replaced is soon not used any more.
    private static let lifetime = Duration.seconds(60)

    private struct Key: Hashable {
        let domain: String
        let org: OrgID
    }

    private struct Entry {
        let signers: [DKIM.Signer]
        let readAt: ContinuousClock.Instant
    }

    private let store: Store
    private let entries = Mutex<[Key: Entry]>([:])

    init(_ store: Store) { self.store = store }

    /// The signers of a domain, or nil when it has no keys here.
    func signers(domain: String, org: OrgID) async throws -> [DKIM.Signer]? {
        let key = Key(domain: domain, org: org)
        if let entry = entries.withLock({ $0[key] }), .now - entry.readAt < Self.lifetime {
            return entry.signers
        }
        guard let signers = try await store.signers(domain: domain, org: org) else { return nil }
        entries.withLock { entries in
            if entries.count >= Self.domainsMax { entries.removeAll() }
            entries[key] = Entry(signers: signers, readAt: .now)
        }
        return signers
    }
}
