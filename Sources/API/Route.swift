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
    let function: @Sendable (Call) async throws -> Answer

    init(
        _ method: HTTPRequest.Method,
        _ path: String,
        _ access: Access,
        bodyMax: Int = bodyMaxDefault,
        streamsBody: Bool = false,
        _ function: @escaping @Sendable (Call) async throws -> Answer
    ) {
        self.method = method
        self.path = path
        self.access = access
        self.bodyMax = bodyMax
        self.streamsBody = streamsBody
        self.function = function
    }

    /// Key, scope, rate, body, function: in the order in which a refusal must be given.
    func respond(to request: Request, _ context: APIContext, _ backend: Backend) async throws -> Response {
        if access == .open { return try await answer(request, context, nil, backend) }
        let caller = try await backend.authenticate(request)
        let rate = try await backend.limiter?.admit(caller.key)
        do {
            if case .scope(let scope) = access, !caller.mayUse(scope) { throw APIError.missingScope(scope) }
            var response = try await answer(request, context, caller, backend)
            rate?.write(to: &response.headers)
            return response
        } catch {
            var refusal = APIError(error)
            rate?.write(to: &refusal.headers)
            throw refusal
        }
    }

    private func answer(
        _ request: Request,
        _ context: APIContext,
        _ caller: Caller?,
        _ backend: Backend
    ) async throws -> Response {
        let body = streamsBody ? ByteBuffer() : try await collectBody(of: request)
        let call = Call(request: request, context: context, body: body, admitted: caller, backend: backend)
        return try await function(call).response()
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

extension Caller {
    /// Whether the key grants a scope: by name, by `read` or `write`, or as `admin`.
    ///
    /// `data:delete` is not a write: only its name and `admin` grant it.
    func mayUse(_ scope: String) -> Bool {
        if scopes.contains("admin") || scopes.contains(scope) { return true }
        if scope.hasSuffix(":read") { return scopes.contains("read") }
        if scope.hasSuffix(":write") { return scopes.contains("write") }
        return false
    }
}
