// Which addresses a delivery may connect to when the DNS named them.

import DNS
import NIOCore

/// Keeps mail from private networks (SSRF by MX) and from ourselves (a loop).
struct AddressGuard: Sendable {
    enum Verdict: Sendable, Equatable {
        case allowed, notPublic, ourOwn
    }

    private let filter: AddressFilter
    private let own: Set<IPAddress>

    /// `own` is what this machine answers to.
    init(_ filter: AddressFilter, own: Set<IPAddress> = Self.interfaceAddresses()) {
        self.filter = filter
        self.own = own
    }

    func verdict(on address: IPAddress) -> Verdict {
        // What the operator allows by name, a test lab say, is allowed in every respect.
        if filter.allowed.contains(where: { $0.contains(address) }) { return .allowed }
        guard filter.allows(address) else { return .notPublic }
        return own.contains(address.unmapped) ? .ourOwn : .allowed
    }

    /// The addresses of this machine's interfaces.
    static func interfaceAddresses() -> Set<IPAddress> {
        let devices = (try? System.enumerateDevices()) ?? []
        // An IPv6 address may end in a zone: `fe80::1%eth0`.
        let texts = devices.compactMap { $0.address?.ipAddress?.prefix { $0 != "%" } }
        return Set(texts.compactMap { IPAddress($0)?.unmapped })
    }
}
