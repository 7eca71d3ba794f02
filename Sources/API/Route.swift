// A route: method, path, what a caller must be allowed to, how large its body may be, and its function.

import HTTPTypes
import Hummingbird
import NIOCore
import Platform
import Store

/// One line of the route table.
struct Route: Sendable {
    enum Access: Sendable, Equatable {
        /// No key is asked for.
        case open
        /// Any key will do.
        case anyKey
        /// A key that grants this scope.
        case scope(String)
    }

    static let allMethods: [HTTPRequest.Method] = [.get, .head, .post, .put, .patch, .delete, .options]
    static let bodyMaxDefault = 1 << 20

    let method: HTTPRequest.Method
    let path: String
    let access: Access
    /// Bytes of a request's body.
    let bodyMax: Int
    /// The function reads the body itself as it comes in (`Call.readBody`); else it is collected before.
    let streamsBody: Bool
    /// Whether a request may carry an Idempotency-Key: sends, uploads and creates.
    let isRepeatable: Bool
    /// Whether it takes of the organization's sends.
    let sends: Bool
    let function: @Sendable (Call) async throws -> Answer

    init(
        _ method: HTTPRequest.Method,
        _ path: String,
        _ access: Access,
        bodyMax: Int = bodyMaxDefault,
        streamsBody: Bool = false,
        isRepeatable: Bool = false,
        sends: Bool = false,
        _ function: @escaping @Sendable (Call) async throws -> Answer
    ) {
        self.method = method
        self.path = path
        self.access = access
        self.bodyMax = bodyMax
        self.streamsBody = streamsBody
        self.isRepeatable = isRepeatable
        self.sends = sends
        self.function = function
    }

    /// Key, rate, scope, body, function: in the order in which a refusal must be given.
    func respond(to request: Request, _ context: APIContext, _ backend: Backend) async throws -> Response {
        if access == .open { return try await answer(request, context, nil, backend).response() }
        let caller = try await backend.authenticate(
            request,
            from: backend.proxies.client(of: request.headers, peer: context.peer)
        )
        let mayUse = if case .scope(let scope) = access { caller.mayUse(scope) } else { true }
        // What is refused anyhow costs the organization no send.
        let rate = try await backend.limiter.admit(caller, sends: sends && mayUse)
        do {
            if !mayUse, case .scope(let scope) = access { throw APIError.missingScope(scope) }
            var response = try await answer(request, context, caller, backend).response()
            rate?.write(to: &response.headers)
            return response
        } catch {
            var refusal = APIError(error, to: caller)
            rate?.write(to: &refusal.headers)
            throw refusal
        }
    }

    private func answer(
        _ request: Request,
        _ context: APIContext,
        _ caller: Caller?,
        _ backend: Backend
    ) async throws -> Answer {
        let key = isRepeatable ? try request.idempotencyKey : nil
        let body = streamsBody ? ByteBuffer() : try await collectBody(of: request)
        let call = Call(request, context, body: body, caller: caller, backend)
        guard let key, let caller else { return try await function(call) }
        return try await answer(call, once: key, for: caller)
    }

    private func collectBody(of request: Request) async throws -> ByteBuffer {
        var body = ByteBuffer()
        try await request.readBody(max: bodyMax) { body.writeImmutableBuffer($0) }
        return body
    }
}

extension Request {
    /// Hands out the body piece by piece as it comes in; 413 as soon as it is known to be over the limit.
    func readBody(max: Int, _ take: (ByteBuffer) async throws -> Void) async throws {
        let declared = headers[.contentLength].flatMap(Int.init)
        guard let expected = declared ?? undeclaredLength else { return }
        guard expected <= max else { throw APIError.bodyTooLarge(max) }
        var count = 0
        for try await piece in body {
            count += piece.readableBytes
            guard count <= max else { throw APIError.bodyTooLarge(max) }
            try await take(piece)
        }
        // A client that hung up in the middle; nobody hears this, but nothing may be made of half a body.
        guard declared == nil || count == declared else {
            throw APIError(.badRequest, "The body is incomplete.")
        }
    }

    /// 0 for a body without a declared length; nil when there is none.
    private var undeclaredLength: Int? { headers[.transferEncoding] == nil ? nil : 0 }
}
