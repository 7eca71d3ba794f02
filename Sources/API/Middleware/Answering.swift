// Around every request: its id, the error form, and one line in the log.

import Foundation
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import Platform

/// Turns whatever is thrown into the error form, and gives every answer its request id.
struct Answering: RouterMiddleware {
    let logger: Logger

    func handle(
        _ request: Request,
        context: APIContext,
        next: @concurrent (Request, APIContext) async throws -> Response
    ) async throws -> Response {
        let began = ContinuousClock.now
        var response: Response
        do {
            response = try await next(request, context)
        } catch {
            let refusal = APIError(error)
            if refusal.status.code >= 500 {
                logger.error(
                    "A request failed.",
                    metadata: [
                        "request.id": "\(context.requestID)", "route": "\(context.endpointPath ?? "-")",
                        "error": "\(refusal.cause ?? refusal.message)",
                    ]
                )
            }
            response = refusal.response(requestID: context.requestID)
        }
        response.headers[.requestID] = context.requestID
        logger.debug(
            "Answered.",
            metadata: [
                "request.id": "\(context.requestID)", "method": "\(request.method)",
                "route": "\(context.endpointPath ?? "-")", "status": "\(response.status.code)",
                "ms": "\((ContinuousClock.now - began).milliseconds)",
            ]
        )
        return response
    }
}

extension APIError {
    private struct Body: Encodable {
        let error: String
        let details: [Detail]?
        let validation: RecipientValidation?
    }

    fileprivate func response(requestID: String) -> Response {
        let body = Body(error: message, details: details.isEmpty ? nil : details, validation: validation)
        // Two strings always encode; an empty body would be the lesser harm.
        let data = (try? JSONEncoder.api.encode(body)) ?? Data()
        var headers = headers
        headers[.contentType] = "application/json; charset=utf-8"
        return Response(status: status, headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: data)))
    }
}

extension HTTPField.Name {
    static let requestID = other("X-Request-ID")

    /// A name that HTTPTypes has no word for; only ever called with literals of ours.
    static func other(_ name: String) -> HTTPField.Name {
        guard let field = HTTPField.Name(name) else { preconditionFailure("\(name) is no header field name") }
        return field
    }
}
