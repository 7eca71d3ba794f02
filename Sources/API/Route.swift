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

    static let allMethods: [HTTPRequest.Method] = [.get, .post, .put, .patch, .delete]
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
        let admission = try await admit(request, backend)
        let body = try await collectBody(of: request)
        let call = Call(
            request: request,
            context: context,
            body: body,
            admitted: admission?.caller,
            backend: backend
        )
        var response = try await function(call).response()
        admission?.rate?.write(to: &response.headers)
        return response
    }

    private func admit(_ request: Request, _ backend: Backend) async throws -> Admission? {
        if access == .open { return nil }
        let caller = try await backend.authenticate(request)
        if case .scope(let scope) = access, !caller.mayUse(scope) { throw APIError.missingScope(scope) }
        return Admission(caller: caller, rate: try await backend.limiter?.admit(caller.key))
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

/// Who was let in, and what is left of the rate.
struct Admission: Sendable {
    let caller: Caller
    let rate: RateState?
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
