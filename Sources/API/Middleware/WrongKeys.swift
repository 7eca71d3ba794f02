// Wrong keys from one address: 256 bits cannot be guessed, but each guess would cost a look-up in PostgreSQL.

import Glibc
import NIOCore
import Platform
import Redis

/// Bounds the look-ups that one client can cause with keys that are nobody's.
struct WrongKeys: Sendable {
    /// Different wrong keys at once, and for each second after.
    static let burst = 100
    static let perSecond = 5.0

    private let buckets = LocalTokenBucket()

    /// Throws 429 when the address has used up its wrong keys.
    func check(_ address: SocketAddress?) throws(APIError) {
        let answer = take(0, address)
        guard answer.remaining > 0 else {
            throw .tooManyWrongKeys(retryAfterSeconds: max(1, Int((1 / Self.perSecond).rounded(.up))))
        }
    }

    /// Notes a key that was nobody's.
    func failed(_ address: SocketAddress?) { _ = take(1, address) }

    private func take(_ tokens: Int, _ address: SocketAddress?) -> TokenBucketAnswer {
        buckets.take(
            key: Self.name(of: address),
            ratePerSecond: Self.perSecond,
            burst: Self.burst,
            tokens: tokens
        )
    }

    /// An IPv6 client has a whole /64 to call from (RFC 6177), so that counts as one.
    static func name(of address: SocketAddress?) -> String {
        guard let text = address?.ipAddress else { return "local" }
        var v6 = in6_addr()
        guard inet_pton(AF_INET6, String(text.prefix { $0 != "%" }), &v6) == 1 else { return text }
        return withUnsafeBytes(of: v6) { [UInt8]($0.prefix(8)).hexadecimal }
    }
}
