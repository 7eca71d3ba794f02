// Which domains' mail is for ourselves: it goes to our own inbound server and needs no MX, which may name this very
// machine.

import Synchronization

/// The installation's own domains, read again when they are half a minute old.
final class OwnDomains: Sendable {
    private static let lifetime = Duration.seconds(30)

    private struct State {
        var names: Set<String>?
        var readAt = ContinuousClock.now
        var isReading = false
    }

    private let read: @Sendable () async throws -> Set<String>
    private let state = Mutex(State())

    /// `read` gives the names as A-labels in lower case.
    init(_ read: @escaping @Sendable () async throws -> Set<String>) { self.read = read }

    /// Whether a domain, or the host that takes its bounces, is ours; nil when that cannot be told now.
    func contains(_ domain: String) async -> Bool? {
        guard let names = await names() else { return nil }
        if names.contains(domain) { return true }
        return domain.hasPrefix("send.") && names.contains(String(domain.dropFirst(5)))
    }

    private func names() async -> Set<String>? {
        let (known, mustRead) = state.withLock { state -> (Set<String>?, Bool) in
            let isFresh = state.names != nil && .now - state.readAt < Self.lifetime
            // While somebody reads, the others go on with what was known.
            guard !isFresh, state.names == nil || !state.isReading else { return (state.names, false) }
            state.isReading = true
            return (state.names, true)
        }
        guard mustRead else { return known }
        // Whoever reads in vain goes on with the old ones, and the next one tries again.
        let names = try? await read()
        return state.withLock { state in
            state.isReading = false
            if let names {
                state.names = names
                state.readAt = .now
            }
            return state.names
        }
    }
}
