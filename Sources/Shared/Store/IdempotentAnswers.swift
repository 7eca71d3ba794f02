// Requests that may be repeated: the answer to the first is kept, by the transaction that did its work, and given
// again. So a repetition finds either the work and its answer, or neither.

import Crypto
package import Database
import Foundation
import Platform
import Synchronization

/// A request that came with an Idempotency-Key.
package struct RepeatableRequest: Sendable {
    /// How long an answer is kept.
    package static let keptHours = 24

    let org: OrgID
    /// The API key that asks.
    let key: KeyID
    /// Method and path of the route table: one Idempotency-Key may be used once on each.
    let route: String
    let idempotencyKey: String
    let target: String
    let body: BodyDigest

    /// Takes who asks, for what (`route` by the route table, `target` as in the request line), and the body's digest.
    ///
    /// A body that is read by the work itself must be complete before the work's first call to the database.
    package init(
        _ caller: Caller,
        route: String,
        idempotencyKey: String,
        target: String,
        body: BodyDigest
    ) {
        org = caller.org
        key = caller.key
        self.route = route
        self.idempotencyKey = idempotencyKey
        self.target = target
        self.body = body
    }
}

/// SHA-256 of a request's body, which may be taken while it comes in.
package final class BodyDigest: Sendable {
    private let hash = Mutex((digest: SHA256(), isComplete: false))

    /// Of no bytes yet.
    package init() {}

    /// Takes the next bytes.
    package func update(_ bytes: UnsafeRawBufferPointer) {
        hash.withLock { $0.digest.update(bufferPointer: bytes) }
    }

    /// Says that the body has ended.
    package func complete() { hash.withLock { $0.isComplete = true } }

    /// nil until the body has ended.
    var value: [UInt8]? { hash.withLock { $0.isComplete ? Array($0.digest.finalize()) : nil } }
}

/// An answer as it is kept.
package struct KeptAnswer: Sendable {
    /// Only 2xx is kept.
    package let status: Int
    package let body: [UInt8]

    /// Takes status and body.
    package init(status: Int, body: [UInt8]) {
        self.status = status
        self.body = body
    }
}

/// Why a repeated request is not done.
package enum IdempotencyFault: Error, Sendable, Equatable {
    /// The first request with this Idempotency-Key asked for something else.
    case otherRequest
    /// A limited key asks, and the first request came with another key.
    case otherKey
    /// The first request is being done at this moment.
    case inFlight
}

extension Store {
    /// Does `work` unless it was done, and keeps its answer in the same transaction.
    ///
    /// `work` gets a store all of whose calls are part of that transaction, which begins with the first of them. An answer
    /// that it does not give as `kept`, or that is not 2xx, is not kept.
    package func once<Answer: Sendable>(
        _ request: RepeatableRequest,
        _ work: (Store) async throws -> (answer: Answer, kept: KeptAnswer?)
    ) async throws -> RepeatableAnswer<Answer> {
        // A repetition must not fail on what has changed since: it is answered before the work looks at anything.
        let found = try await database.query(.tenant(request.org), request.look)
        // Of a body that is still to be read the transaction tells.
        if request.body.value != nil, let kept = try known(request.looked(found)) { return .repeated(kept) }
        do {
            let done = try await database.joined(
                .tenant(request.org),
                opening: { transaction in
                    let found = try await transaction.batch([request.lock, request.look])
                    if let kept = try known(request.looked(found[1])) { throw Repeated(kept: kept) }
                    guard let row = found[0].first, try row("locked") else { throw IdempotencyFault.inFlight }
                },
                closing: { done in
                    guard let kept = done.kept, (200..<300).contains(kept.status) else { return [] }
                    return keep(kept, of: request)
                },
                { database in try await work(on(database)) }
            )
            return .done(done.answer)
        } catch let repeated as Repeated {
            return .repeated(repeated.kept)
        } catch DatabaseError.unique(let constraint) where constraint == "idempotency_keys_pkey" {
            throw IdempotencyFault.otherKey
        }
    }

    /// Removes answers whose time is over; for a periodic chore.
    package static func purgeIdempotentAnswers(limit: Int) -> Statement {
        """
        DELETE FROM idempotency_keys WHERE (org_id, route, idempotency_key) IN (
            SELECT org_id, route, idempotency_key FROM idempotency_keys
            WHERE created_at <= now() - \(RepeatableRequest.keptHours) * interval '1 hour'
            ORDER BY created_at LIMIT \(limit) FOR UPDATE SKIP LOCKED)
        """
    }

    private func known(_ found: RepeatableRequest.Found?) throws -> KeptAnswer? {
        guard let found else { return nil }
        let body = try secrets.open(found.answer, place: found.place)
        return KeptAnswer(status: found.status, body: body)
    }

    /// Sealed, because an answer may hold what is shown once: an API key, a webhook's secret.
    private func keep(_ kept: KeptAnswer, of request: RepeatableRequest) -> [Statement] {
        let sealed = secrets.seal(kept.body, place: request.place)
        return [
            // One whose time is over and that no chore has removed yet.
            """
            DELETE FROM idempotency_keys WHERE org_id = \(request.org) AND route = \(request.route)
                AND idempotency_key = \(request.idempotencyKey)
            """,
            """
            INSERT INTO idempotency_keys (org_id, route, idempotency_key, target, body_sha256, key_id, status, answer)
            VALUES (\(request.org), \(request.route), \(request.idempotencyKey), \(request.target),
                \(request.body.value), \(request.key), \(kept.status), \(sealed))
            """,
        ]
    }
}

/// What became of a request that may be repeated.
package enum RepeatableAnswer<Answer: Sendable>: Sendable {
    /// Done now, and committed.
    case done(Answer)
    /// Done before; the first answer.
    case repeated(KeptAnswer)
}

private struct Repeated: Error {
    let kept: KeptAnswer
}

extension RepeatableRequest {
    fileprivate struct Found {
        let status: Int
        let answer: [UInt8]
        let place: String
    }

    /// Tells whether a request of this Idempotency-Key is under way, without waiting for it.
    fileprivate var lock: Statement {
        let digest = SHA256.hash(data: Data("idempotency\0\(org)\0\(route)\0\(idempotencyKey)".utf8))
        let number = digest.prefix(8).reduce(Int64(0)) { $0 << 8 | Int64($1) }
        return "SELECT pg_try_advisory_xact_lock(\(number)) AS locked"
    }

    fileprivate var look: Statement {
        """
        SELECT target, body_sha256, status, answer FROM idempotency_keys
        WHERE org_id = \(org) AND route = \(route) AND idempotency_key = \(idempotencyKey)
            AND created_at > now() - \(Self.keptHours) * interval '1 hour'
        """
    }

    /// The answer that was found, if it is one to this very request.
    fileprivate func looked(_ rows: Rows) throws -> Found? {
        guard let row = rows.first else { return nil }
        guard try row("target") == target, try row("body_sha256") == body.value else {
            throw IdempotencyFault.otherRequest
        }
        return Found(status: try row("status"), answer: try row("answer"), place: place)
    }

    fileprivate var place: String { "idempotency_keys/\(org)/\(route)/\(idempotencyKey)" }
}
