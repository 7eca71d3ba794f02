// What a request carries through the server, and what a route's function gets of it.

import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import Platform
import Queue
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

    /// Nil where there is no network, as in tests.
    var peer: SocketAddress? { channel.remoteAddress }
}

/// One request on its way through a route's function.
struct Call: Sendable {
    let request: Request
    let context: APIContext
    let body: ByteBuffer
    let admitted: Caller?
    let backend: Backend
    /// What the caller may see and change, and no more; the only way for a function to the database.
    let store: Store
    private let outbox: Outbox?
    private let digest: BodyDigest?

    init(_ request: Request, _ context: APIContext, body: ByteBuffer, caller: Caller?, _ backend: Backend) {
        self.request = request
        self.context = context
        self.body = body
        admitted = caller
        self.backend = backend
        store = backend.store.limited(to: caller?.limits)
        outbox = nil
        digest = nil
    }

    /// The same call as part of a transaction: `store` writes into it, jobs wait for its end, and `digest` is taken of a
    /// body that the function reads.
    init(_ call: Call, in store: Store, _ outbox: Outbox, _ digest: BodyDigest) {
        request = call.request
        context = call.context
        body = call.body
        admitted = call.admitted
        backend = call.backend
        self.store = store
        self.outbox = outbox
        self.digest = digest
    }

    /// Who calls; routes that ask for a key have one.
    var caller: Caller {
        get throws {
            guard let admitted else { throw APIError.noKey }
            return admitted
        }
    }

    /// Tells the schedule of jobs whose rows are written, as soon as they are committed.
    func push(_ tickets: [Ticket]) {
        if let outbox { return outbox.add(tickets) }
        if !tickets.isEmpty { FailPoint.afterAccept.reach() }
        backend.pusher.push(tickets)
    }

    /// Hands out the body piece by piece, in a route that reads it itself; 413 as soon as it is known to be over the limit.
    func readBody(max: Int, _ take: (ByteBuffer) async throws -> Void) async throws {
        try await request.readBody(max: max) { piece in
            if let digest { piece.withUnsafeReadableBytes { digest.update($0) } }
            try await take(piece)
        }
        digest?.complete()
    }

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
    /// The body of an answer in JSON, which can be given again.
    let json: ByteBuffer?

    /// An answer in JSON.
    init(_ status: HTTPResponse.Status = .ok, _ body: some Encodable) throws {
        self.init(status, json: ByteBuffer(bytes: try JSONEncoder.api.encode(body)))
    }

    /// An answer in JSON that was encoded before.
    init(_ status: HTTPResponse.Status, json: ByteBuffer) {
        self.status = status
        self.json = json
        body = .init(byteBuffer: json)
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
        json = nil
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
