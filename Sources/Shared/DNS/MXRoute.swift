// Which hosts take a domain's mail (RFC 5321 §5.1, RFC 7505).

/// A host that takes mail.
package struct Exchanger: Sendable, Hashable {
    /// Its name; lower case, no trailing dot.
    package let host: String
    /// Lower is tried first.
    package let preference: UInt16

    /// Takes both parts.
    package init(host: String, preference: UInt16) {
        self.host = host
        self.preference = preference
    }
}

/// Where a domain's mail goes.
package enum MXAnswer: Sendable, Equatable {
    /// To these hosts in this order; never to the domain's own address.
    case hosts([Exchanger], secure: Bool)
    /// There is no MX: to the domain itself (RFC 5321 §5.1).
    case implicit(String)
    /// The domain takes no mail: 556 5.1.10 (RFC 7505).
    case nullMX
    /// There is no such domain: permanent.
    case noSuchDomain
    /// Ask again later.
    case temporary(String)
}

extension Resolver {
    /// The hosts that take a domain's mail, by preference and in random order where that is equal.
    package func exchangers(
        of domain: String,
        options: LookupOptions = LookupOptions()
    ) async -> MXAnswer {
        var generator = SystemRandomNumberGenerator()
        return await exchangers(of: domain, options: options, using: &generator)
    }

    /// The same with chosen randomness.
    package func exchangers(
        of domain: String,
        options: LookupOptions = LookupOptions(),
        using generator: inout some RandomNumberGenerator
    ) async -> MXAnswer {
        do throws(DNSFault) {
            let answer = try await lookup(domain, .mx, options: options)
            return Self.route(answer, of: domain, using: &generator)
        } catch .noSuchName {
            return .noSuchDomain
        } catch .malformed(let reason) where DomainName.question(domain) == nil {
            // What is no name today will not be one tomorrow.
            _ = reason
            return .noSuchDomain
        } catch {
            return .temporary(error.description)
        }
    }

    private static func route(
        _ answer: DNSAnswer,
        of domain: String,
        using generator: inout some RandomNumberGenerator
    ) -> MXAnswer {
        let all = answer.records.compactMap { record -> Exchanger? in
            guard case .mx(let preference, let exchange) = record else { return nil }
            return Exchanger(host: exchange, preference: preference)
        }
        if all.isEmpty { return .implicit(DomainName.normal(domain)) }
        // RFC 7505 §3: `.` among others is a mistake, and the others count.
        let hosts = all.filter { $0.host != "." }
        if hosts.isEmpty { return .nullMX }
        // Shuffled first, then sorted by a sort that keeps the order of equals.
        let sorted = hosts.shuffled(using: &generator).sorted { $0.preference < $1.preference }
        return .hosts(sorted, secure: answer.secure)
    }
}
