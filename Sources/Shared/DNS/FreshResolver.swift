// The newest word of one domain: past our cache, and past everybody else's where its own nameservers can be asked.

import Mail
import Platform
import Synchronization

/// Asks about one domain from scratch.
///
/// It holds one of a few places of its resolver, and threads, until it is let go.
package final class FreshResolver: Resolver {
    /// Nameservers of one domain that are asked.
    fileprivate static let addressesMax = 4
    /// Longest look for them, which must leave time to ask them.
    fileprivate static let searchMax = Duration.seconds(3)

    private let parent: UnboundResolver
    private let general: UnboundContext
    /// Asks the domain's own nameservers; nil when they are not known or may not be asked.
    private let direct: UnboundContext?
    /// They did not answer once, so they are not waited for again.
    private let isDirectDead = Mutex(false)

    fileprivate init(_ parent: UnboundResolver, stub: UnboundHandle.Stub?) throws(DNSFault) {
        self.parent = parent
        general = try UnboundContext(parent.configuration)
        // Without them the general way is still good.
        direct = try? stub.map { try UnboundContext(parent.configuration, stub: $0) }
    }

    deinit {
        general.close()
        direct?.close()
        parent.leaveFreshPlace()
    }

    package func lookup(
        _ name: String,
        _ type: RecordType,
        options: LookupOptions
    ) async throws(DNSFault) -> DNSAnswer {
        guard let question = DomainName.question(name) else {
            throw .malformed("“\(name.prefix(80))” is not a domain name")
        }
        let timeout = options.timeout ?? parent.configuration.timeout
        guard let direct, !isDirectDead.withLock({ $0 }) else {
            return try await general.lookup(question, type, timeout: timeout)
        }
        do throws(DNSFault) {
            return try await direct.lookup(question, type, timeout: timeout / 2)
        } catch {
            switch error {
            case .noSuchName, .cancelled, .malformed: throw error
            // Out of reach from here, as behind many firewalls: whom we ask usually may reach them.
            case .serverFailure, .timedOut: isDirectDead.withLock { $0 = true }
            }
        }
        return try await general.lookup(question, type, timeout: timeout)
    }
}

extension UnboundResolver {
    /// A resolver that knows nothing yet and asks the domain's own nameservers where that can be done.
    ///
    /// Throws `timedOut` when too many others are under way.
    package func fresh(for domain: String) async throws(DNSFault) -> FreshResolver {
        try await takeFreshPlace(until: .now + configuration.timeout)
        let stub = await stub(for: domain)
        do throws(DNSFault) {
            return try FreshResolver(self, stub: stub)
        } catch {
            leaveFreshPlace()
            throw error
        }
    }

    /// The nearest zone at or above the domain and addresses of its nameservers.
    private func stub(for domain: String) async -> UnboundHandle.Stub? {
        guard let nameservers = configuration.nameservers else { return nil }
        let deadline = ContinuousClock.now + FreshResolver.searchMax
        var zone = DomainName.normal(domain)
        // Not above the registrable domain: the registry's servers know nothing but where the domain's are.
        while !PublicSuffix.isPublicSuffix(zone), ContinuousClock.now < deadline {
            if let names = try? await lookup(zone, .ns).names, !names.isEmpty {
                let addresses = await addresses(of: names, until: deadline)
                    .filter(nameservers.allowed.allows)
                    .prefix(FreshResolver.addressesMax)
                guard !addresses.isEmpty else { return nil }
                return UnboundHandle.Stub(zone: zone, addresses: Array(addresses), port: nameservers.port)
            }
            guard let dot = zone.firstIndex(of: ".") else { return nil }
            zone = String(zone[zone.index(after: dot)...])
        }
        return nil
    }

    private func addresses(of names: [String], until deadline: ContinuousClock.Instant) async -> [IPAddress] {
        var found: [IPAddress] = []
        for name in names.sorted().prefix(FreshResolver.addressesMax) {
            let left = ContinuousClock.now.duration(to: deadline)
            guard left > .zero, found.count < FreshResolver.addressesMax else { break }
            found += (try? await addresses(of: name, options: LookupOptions(timeout: left))) ?? []
        }
        return found
    }
}
