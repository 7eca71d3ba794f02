// Whose request it is, where reverse proxies stand before the API.

import DNS
import HTTPTypes
import NIOCore

/// Which proxies are believed about the clients behind them.
struct Proxies: Sendable {
    /// Networks that proxies of ours call from; what others say in `X-Forwarded-For` is hearsay.
    let trusted: [Network]

    /// The client: the peer of the connection, or, behind trusted proxies, the nearest address that is none of them.
    ///
    /// Nil where there is no network, as in tests.
    func client(of request: HTTPFields, peer: SocketAddress?) -> IPAddress? {
        guard let text = peer?.ipAddress, var client = IPAddress(text.prefix { $0 != "%" })?.unmapped else {
            return nil
        }
        // Each proxy adds the address it was called from behind the others, so the last words are the surest.
        var words = request[values: .forwardedFor].flatMap { $0.split(separator: ",") }[...]
        while isTrusted(client), let word = words.popLast(), let next = Self.address(word) { client = next }
        return client
    }

    private func isTrusted(_ address: IPAddress) -> Bool { trusted.contains { $0.contains(address) } }

    /// Some proxies write a port behind, and brackets around IPv6.
    private static func address(_ word: Substring) -> IPAddress? {
        let text = word.filter { $0 != " " && $0 != "\t" }
        if let address = IPAddress(text) { return address.unmapped }
        if text.hasPrefix("[") { return IPAddress(text.dropFirst().prefix { $0 != "]" })?.unmapped }
        return IPAddress(text.prefix { $0 != ":" })
    }
}

extension HTTPField.Name {
    fileprivate static var forwardedFor: Self { .other("X-Forwarded-For") }
}
