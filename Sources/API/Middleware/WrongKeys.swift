// Wrong keys from one address: 256 bits cannot be guessed, but each guess would cost a look-up in PostgreSQL.

import DNS
import Platform
import Redis

/// Bounds the look-ups that one client can cause with keys that are nobody's.
struct WrongKeys: Sendable {
    /// Different wrong keys at once, and for each second after.
    static let burst = 100
    static let perSecond = 5.0

    private let buckets = LocalTokenBucket()

    /// Throws 429 when the address has used up its wrong keys.
    func check(_ address: IPAddress?) throws(APIError) {
        let answer = take(0, address)
        guard answer.remaining > 0 else {
            throw .tooManyWrongKeys(retryAfterSeconds: max(1, Int((1 / Self.perSecond).rounded(.up))))
        }
    }

    /// Notes a key that was nobody's.
    func failed(_ address: IPAddress?) { _ = take(1, address) }

    private func take(_ tokens: Int, _ address: IPAddress?) -> TokenBucketAnswer {
        buckets.take(
            key: Self.name(of: address),
            ratePerSecond: Self.perSecond,
            burst: Self.burst,
            tokens: tokens
        )
    }

    /// An IPv6 client has a whole /64 to call from (RFC 6177), so that counts as one.
    static func name(of address: IPAddress?) -> String {
        guard let address else { return "local" }
        return address.isV4 ? "\(address)" : [UInt8](address.bytes.prefix(8)).hexadecimal
    }
}
