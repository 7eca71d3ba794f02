// Who calls: the bearer key, looked up by its hash.

import Hummingbird
import Store

extension Backend {
    /// The key's caller; 401 without a key, and with one that is unknown, revoked or expired.
    func authenticate(_ request: Request) async throws -> Caller {
        guard let header = request.headers[.authorization] else { throw APIError.noKey }
        let parts = header.split(separator: " ", omittingEmptySubsequences: true)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { throw APIError.noKey }
        // Keys have one form; anything else is not worth a look-up.
        guard APIKey.isWellFormed(parts[1]), let caller = try await store.caller(secret: String(parts[1]))
        else {
            throw APIError.badKey
        }
        return caller
    }
}
