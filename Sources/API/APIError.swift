// The one list of errors that callers see, and the only place where anything becomes a status code.

import Blobs
import Database
import Foundation
import HTTPTypes
import Hummingbird
import Platform
import Redis
import Store

/// A refusal, as the caller sees it.
struct APIError: Error, Sendable {
    /// A field at fault.
    struct Detail: Encodable, Sendable, Equatable {
        let path: String
        let message: String
    }

    let status: HTTPResponse.Status
    /// One clear sentence.
    let message: String
    var details: [Detail] = []
    var headers: HTTPFields = [:]
    /// What is wrong with recipients, where nothing else is.
    var validation: RecipientValidation?
    /// What went wrong on our side: for the log, never for the caller.
    var cause: String?

    init(_ status: HTTPResponse.Status, _ message: String, details: [Detail] = []) {
        self.status = status
        self.message = message
        self.details = details
    }

    static let noKey = APIError(
        .unauthorized,
        "Missing API key: send it as Authorization: Bearer comm_…"
    )
    static let badKey = APIError(.unauthorized, "Invalid or expired API key")
    static func missingScope(_ scope: String) -> APIError {
        APIError(.forbidden, "Insufficient permissions: this key lacks the scope \(scope).")
    }
    static func notFound(_ noun: String) -> APIError { APIError(.notFound, "\(noun) not found") }
    static func bodyTooLarge(_ most: Int) -> APIError {
        APIError(.contentTooLarge, "The request body is larger than \(most >> 20) MiB.")
    }
    static func invalid(_ details: [Detail]) -> APIError {
        let sentence = details.first.map { "\($0.path) \($0.message)" } ?? "The request is not valid."
        return APIError(.badRequest, sentence, details: details)
    }
    static func methodNotAllowed(_ allowed: [HTTPRequest.Method]) -> APIError {
        let names = allowed.map(\.rawValue).joined(separator: ", ")
        var error = APIError(.methodNotAllowed, "This path does not take that method; it takes \(names).")
        error.headers[.allow] = names
        return error
    }
    static func rateLimited(retryAfterSeconds: Int) -> APIError {
        var error = APIError(.tooManyRequests, "Rate limit exceeded")
        error.headers[.retryAfter] = String(retryAfterSeconds)
        return error
    }
    static func tooManyWrongKeys(retryAfterSeconds: Int) -> APIError {
        var error = APIError(.tooManyRequests, "Too many wrong API keys came from this address.")
        error.headers[.retryAfter] = String(retryAfterSeconds)
        return error
    }
    static let unavailable: APIError = {
        var error = APIError(
            .serviceUnavailable,
            "The service is not available at the moment. Try again shortly."
        )
        error.headers[.retryAfter] = "2"
        return error
    }()
}

extension APIError {
    /// What any thrown error is to this caller: what the database keeps from a limited key is forbidden, not our fault.
    init(_ error: any Error, to caller: Caller) {
        if case .failed(sqlstate: "42501", _)? = error as? DatabaseError, caller.limits != nil {
            self.init(
                .forbidden,
                "Insufficient permissions: this key is limited to some inboxes or domains, and this lies outside."
            )
        } else {
            self.init(error)
        }
    }

    /// What any thrown error is to the caller; unknown ones are ours, and their details stay in the log.
    init(_ error: any Error) {
        switch error {
        case let error as APIError: self = error
        case let fault as StoreFault: self.init(fault)
        case let fault as IdempotencyFault: self.init(fault)
        case let error as DatabaseError: self.init(error)
        case let error as HTTPError:
            self.init(
                error.status,
                error.status == .notFound ? "No such route" : error.body ?? error.status.reasonPhrase
            )
        // A full disk and a storage that is away are told apart in the log; a caller can only wait.
        case is BlobFault, is SpoolFault: self = .unavailable
        case is CancellationError: self = .unavailable
        default: self.init(.internalServerError, Self.ourFault)
        }
        if status.code >= 500, cause == nil { cause = "\(error)" }
    }

    private static let ourFault = "Something went wrong on our side. Quote the X-Request-ID to your operator."

    private init(_ fault: StoreFault) {
        switch fault {
        case .unknown(let message): self.init(.notFound, message)
        case .taken(let message): self.init(.conflict, message)
        case .refused(let message): self.init(.badRequest, message)
        case .forbidden(let message): self.init(.forbidden, message)
        case .suppressed(let addresses):
            self = .noRecipientLeft(RecipientValidation(suppressed: addresses))
        case .tooLarge(let message): self.init(.contentTooLarge, message)
        }
    }

    private init(_ fault: IdempotencyFault) {
        switch fault {
        case .otherRequest:
            self.init(.conflict, "This Idempotency-Key was used for another request.")
        case .otherKey:
            self.init(.conflict, "This Idempotency-Key was used with another API key.")
        case .inFlight:
            self.init(.conflict, "The first request with this Idempotency-Key is not finished yet.")
            headers[.retryAfter] = "1"
        }
    }

    private init(_ error: DatabaseError) {
        if error.isTransient {
            self = .unavailable
        } else {
            self.init(.internalServerError, Self.ourFault)
        }
    }

    /// What is wrong with a body, by the field at fault.
    init(_ error: DecodingError, hasBody: Bool) {
        func path(_ context: DecodingError.Context, _ key: (any CodingKey)? = nil) -> String {
            (context.codingPath + [key].compactMap { $0 }).map {
                $0.intValue.map { "[\($0)]" } ?? $0.stringValue
            }
            .joined(separator: ".").replacing(".[", with: "[")
        }
        switch error {
        case .keyNotFound(let key, let context):
            self = .invalid([Detail(path: path(context, key), message: "is required.")])
        case .valueNotFound(let type, let context), .typeMismatch(let type, let context):
            let name = path(context)
            if name.isEmpty {
                self.init(.badRequest, "The request body must be a JSON object.")
            } else {
                self = .invalid([Detail(path: name, message: "must be \(jsonName(of: type)).")])
            }
        case .dataCorrupted(let context) where !context.codingPath.isEmpty:
            self = .invalid([Detail(path: path(context), message: context.debugDescription)])
        default:
            self.init(
                .badRequest,
                hasBody ? "The request body is not valid JSON." : "The request needs a JSON body."
            )
        }
    }
}

private func jsonName(of type: any Any.Type) -> String {
    switch type {
    case is String.Type: "a string"
    case is Bool.Type: "true or false"
    case is any BinaryInteger.Type: "a whole number"
    case is any BinaryFloatingPoint.Type: "a number"
    default:
        String(describing: type).hasPrefix("Array") ? "a list" : "an object"
    }
}
