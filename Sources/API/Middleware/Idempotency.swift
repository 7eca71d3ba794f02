// Idempotency-Key: a request that is repeated gets the first answer again and does nothing twice.

import HTTPTypes
import Hummingbird
import NIOCore
import Queue
import Store
import Synchronization

extension Route {
    /// Runs the function unless it was run for this key, and keeps its answer with its work.
    func answer(_ call: Call, once key: String, for caller: Caller) async throws -> Answer {
        let digest = BodyDigest()
        if !streamsBody {
            call.body.withUnsafeReadableBytes { digest.update($0) }
            digest.complete()
        }
        let request = RepeatableRequest(
            caller,
            route: "\(method.rawValue) \(path)",
            idempotencyKey: key,
            target: call.request.uri.string,
            body: digest
        )
        let outbox = Outbox()
        let answer = try await call.store.once(request) { store in
            let answer = try await function(Call(call, in: store, outbox, digest))
            return (
                answer,
                answer.json.map { KeptAnswer(status: answer.status.code, body: Array($0.readableBytesView)) }
            )
        }
        switch answer {
        case .done(let answer):
            call.push(outbox.tickets)
            return answer
        case .repeated(let kept):
            var answer = Answer(HTTPResponse.Status(code: kept.status), json: ByteBuffer(bytes: kept.body))
            answer.headers[.idempotencyReplayed] = "true"
            return answer
        }
    }
}

/// Jobs of a transaction that has not ended yet.
final class Outbox: Sendable {
    private let waiting = Mutex<[Ticket]>([])

    func add(_ tickets: [Ticket]) { waiting.withLock { $0 += tickets } }

    var tickets: [Ticket] { waiting.withLock { $0 } }
}

extension Request {
    static let idempotencyKeyMax = 255

    /// The header's value; nil without one.
    var idempotencyKey: String? {
        get throws {
            guard let key = headers[.idempotencyKey] else { return nil }
            guard (1...Self.idempotencyKeyMax).contains(key.utf8.count),
                key.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
            else {
                throw APIError(
                    .badRequest,
                    "Idempotency-Key must be 1 to \(Self.idempotencyKeyMax) visible ASCII characters, once."
                )
            }
            return key
        }
    }
}

extension HTTPField.Name {
    static let idempotencyKey = other("Idempotency-Key")
    static let idempotencyReplayed = other("Idempotency-Replayed")
}
