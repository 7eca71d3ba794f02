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
    let function: @Sendable (Call) async throws -> Answer

    init(
        _ method: HTTPRequest.Method,
        _ path: String,
        _ access: Access,
        bodyMax: Int = bodyMaxDefault,
        _ function: @escaping @Sendable (Call) async throws -> Answer
    ) {
        self.method = method
        self.path = path
        self.access = access
        self.bodyMax = bodyMax
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
        let body = try await collectBody(of: request)
        let call = Call(request: request, context: context, body: body, admitted: caller, backend: backend)
        return try await function(call).response()
    }

    private func collectBody(of request: Request) async throws -> ByteBuffer {
        guard let declared = request.headers[.contentLength].flatMap(Int.init) ?? request.undeclaredLength
        else {
            return ByteBuffer()
        }
        guard declared <= bodyMax else { throw APIError.bodyTooLarge(bodyMax) }
        var body = ByteBuffer()
        for try await chunk in request.body {
            guard body.readableBytes + chunk.readableBytes <= bodyMax else {
                throw APIError.bodyTooLarge(bodyMax)
            }
            body.writeImmutableBuffer(chunk)
        }
        return body
    }
}

extension Request {
    /// 0 for a body without a declared length; nil when there is none.
    fileprivate var undeclaredLength: Int? { headers[.transferEncoding] == nil ? nil : 0 }
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
