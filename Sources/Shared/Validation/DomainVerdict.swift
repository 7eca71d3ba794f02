// Whether a domain takes mail at all, as the DNS says: the question before a send, not the route of a delivery.

package import DNS

/// What is known of a recipient domain.
package enum DomainVerdict: String, Sendable {
    /// It has a mail server, or an address that stands for one.
    case takesMail = "ok"
    /// No MX record and no address, or no such domain.
    case noMailServer = "none"
    /// A null MX: it says itself that it takes no mail (RFC 7505).
    case refusesMail = "null"
    /// The DNS has not answered; nothing is known.
    case unknown

    /// Why a recipient of this domain is rejected, in the words that clients know; nil when it is not.
    package var rejection: String? {
        switch self {
        case .noMailServer, .refusesMail: "No MX records found"
        case .takesMail, .unknown: nil
        }
    }
}

extension Resolver {
    /// Asks for the domain's MX, and without one for its addresses (RFC 5321 §5.1), no longer than `limit` in all.
    package func verdict(on domain: String, within limit: Duration) async -> DomainVerdict {
        let deadline = ContinuousClock.now + limit
        switch await exchangers(of: domain, options: LookupOptions(timeout: limit)) {
        case .hosts: return .takesMail
        case .nullMX: return .refusesMail
        case .noSuchDomain: return .noMailServer
        case .temporary: return .unknown
        case .implicit(let host):
            let left = ContinuousClock.now.duration(to: deadline)
            guard left > .zero else { return .unknown }
            do throws(DNSFault) {
                return try await addresses(of: host, options: LookupOptions(timeout: left)).isEmpty
                    ? .noMailServer : .takesMail
            } catch {
                return error.isTransient ? .unknown : .noMailServer
            }
        }
    }
}
