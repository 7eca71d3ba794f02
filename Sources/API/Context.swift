// What a request carries through the server, and what a route's function gets of it.

import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import Platform
import Store

/// Hummingbird's context with our request id.
struct APIContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let requestID: String
    /// The client's connection.
    let channel: any Channel

    init(source: Source) {
        coreContext = .init(source: source)
        channel = source.channel
        // Foundation's UUID() opens /dev/urandom each time.
        requestID = ID<APIContext>().description
    }
}

/// One request on its way through a route's function.
struct Call: Sendable {
    let request: Request
    let context: APIContext
    let body: ByteBuffer
    let admitted: Caller?
    let backend: Backend

    /// Who calls; routes that ask for a key have one.
    var caller: Caller {
        get throws {
            guard let admitted else { throw APIError.noKey }
            return admitted
        }
    }

    var store: Store { backend.store }

    /// Reads the body as JSON.
    func decode<Body: Decodable>(_ type: Body.Type) throws -> Body {
        // The decoder overlooks broken UTF-8 in members it is not asked for, and guesses at UTF-16 (RFC 8259 §8.1).
        guard String(validating: body.readableBytesView, as: UTF8.self) != nil else {
            throw APIError(.badRequest, "The request body is not valid JSON.")
        }
        do {
            return try JSONDecoder().decode(type, from: Data(body.readableBytesView))
        } catch let error as DecodingError {
            throw APIError(error, hasBody: body.readableBytes > 0)
        }
    }

    /// An identifier in the path; one that cannot be ours is not found.
    func id<Noun>(_ name: String, prefix: String = "", of noun: String) throws -> ID<Noun> {
        guard let text = context.parameters.get(name), let id = ID<Noun>(text, prefix: prefix) else {
            throw APIError.notFound(noun)
        }
        return id
    }
}

/// What a route's function answers.
struct Answer: Sendable {
    let status: HTTPResponse.Status
    let body: ResponseBody
    var headers: HTTPFields

    /// An answer in JSON.
    init(_ status: HTTPResponse.Status = .ok, _ body: some Encodable) throws {
        self.status = status
        self.body = .init(byteBuffer: ByteBuffer(bytes: try JSONEncoder.api.encode(body)))
        headers = [.contentType: "application/json; charset=utf-8"]
    }

    /// A 200 of any type.
    init(contentType: String, _ body: Data) {
        self.init(.ok, [.contentType: contentType], .init(byteBuffer: ByteBuffer(bytes: body)))
    }

    /// An answer of any kind, which may be written bit by bit.
    init(_ status: HTTPResponse.Status, _ headers: HTTPFields, _ body: ResponseBody) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    /// A page for a browser, which loads nothing from elsewhere and is kept by nobody.
    init(page: String) {
        self.init(contentType: "text/html; charset=utf-8", Data(page.utf8))
        headers[.contentSecurityPolicy] =
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        headers[.cacheControl] = "no-store"
        headers[.other("Referrer-Policy")] = "no-referrer"
        headers[.other("X-Robots-Tag")] = "noindex"
        headers[.xContentTypeOptions] = "nosniff"
    }

    func response() -> Response { Response(status: status, headers: headers, body: body) }
}

/// The `data` of a successful answer, and where its next page begins.
struct Envelope<Content: Encodable & Sendable>: Encodable, Sendable {
    let data: Content
}

/// A page in `data`, with the place of the next.
struct PageEnvelope<Element: Encodable & Sendable>: Encodable, Sendable {
    let data: [Element]
    let nextCursor: String?
    let hasMore: Bool

    enum CodingKeys: String, CodingKey {
        case data
        case nextCursor = "next_cursor"
        case hasMore = "has_more"
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(data, forKey: .data)
        // Present and null on the last page, as clients expect.
        try container.encode(nextCursor, forKey: .nextCursor)
        try container.encode(hasMore, forKey: .hasMore)
    }
}

extension JSONEncoder {
    static let api: JSONEncoder = {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.withoutEscapingSlashes]
        return encoder
    }()
}
