// Blobs as objects of a bucket. The database keeps their rows and none of their bytes.
//
// Written in this order: the row as 'pending', the object, the row as 'stored' in the caller's transaction. Killed
// before the last step, the row stays behind and the sweep removes object and row.

import AsyncHTTPClient
package import Database
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import Platform

/// Bytes kept in S3-compatible storage.
package final class S3Blobs: BlobStorage {
    /// Together with the time a body of this size takes at a slow 200 kB/s.
    private static let callSeconds = 30
    private static let bytesPerSecond = 200_000
    private static let errorBytesMax = 64 << 10

    private let configuration: S3Configuration
    private let database: Database
    private let signer: SigV4
    private let client: HTTPClient

    init(_ configuration: S3Configuration, database: Database) {
        self.configuration = configuration
        self.database = database
        signer = SigV4(
            accessKey: configuration.accessKey,
            secretKey: configuration.secretKey,
            region: configuration.region
        )
        var settings = HTTPClient.Configuration(
            // A signature is for one host and path; what is elsewhere was configured wrongly.
            redirectConfiguration: .disallow,
            timeout: .init(connect: .seconds(5), read: .seconds(30), write: .seconds(30))
        )
        settings.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 16
        client = HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton, configuration: settings)
    }

    deinit {
        // Asserts if nobody does; nothing waits for it.
        client.shutdown { _ in }
    }

    package var place: BlobPlace { .s3 }

    package func stage(_ blob: NewBlob, as access: Access) async throws {
        try await database.query(
            access,
            """
            INSERT INTO blobs (org_id, id, size_bytes, storage, state)
            VALUES (\(blob.org), \(blob.id), \(blob.source.size), 's3', 'pending')
            """
        )
        do {
            try await put(blob)
        } catch {
            // So that the next sweep takes what may have arrived; if this is not written, it does after an hour.
            _ = try? await database.query(access, Blobs.release([blob.id], org: blob.org))
            throw error
        }
    }

    package func keep(_ blob: NewBlob, in transaction: Transaction) async throws {
        let stored = try await transaction.query(
            """
            UPDATE blobs SET state = 'stored'
            WHERE org_id = \(blob.org) AND id = \(blob.id) AND state = 'pending'
            """
        )
        guard stored.affected == 1 else { throw BlobFault.abandoned }
    }

    package func read(
        _ range: Range<Int>,
        of blob: StoredBlob,
        as access: Access
    ) async throws -> [UInt8] {
        guard !range.isEmpty else { return [] }
        let bytes = try await call(
            .GET,
            Self.key(blob.org, blob.id),
            headers: [("range", "bytes=\(range.lowerBound)-\(range.upperBound - 1)")],
            answerMax: range.count
        )
        guard bytes.count == range.count else { throw BlobFault.missing }
        return bytes
    }

    package func erase(_ blob: StoredBlob) async throws {
        do {
            _ = try await call(.DELETE, Self.key(blob.org, blob.id))
        } catch BlobFault.missing {
            // It never arrived, or an earlier sweep was cut off after this step.
        }
    }

    /// A URL that works without a key until it expires; the storage answers with this name and type.
    package func temporaryURL(
        of blob: StoredBlob,
        expiresIn seconds: Int,
        disposition: String,
        mimeType: String
    ) -> String {
        let place = configuration.place(of: Self.key(blob.org, blob.id), under: configuration.publicEndpoint)
        let query = signer.presigned(
            host: place.host,
            path: place.path,
            query: [("response-content-disposition", disposition), ("response-content-type", mimeType)],
            expiresIn: seconds,
            at: .now
        )
        return "\(place.url)?\(query)"
    }

    private static func key(_ org: OrgID, _ id: BlobID) -> String { "\(org)/\(id)" }

    // MARK: Calls

    private func put(_ blob: NewBlob) async throws {
        let size = blob.source.size
        _ = try await call(
            .PUT,
            Self.key(blob.org, blob.id),
            headers: [("content-type", "application/octet-stream")],
            payload: blob.sha256.hexadecimal,
            body: .stream(Pieces(source: blob.source), length: .known(Int64(size))),
            bodyBytes: size
        )
    }

    private func call(
        _ method: HTTPMethod,
        _ key: String,
        headers: [(name: String, value: String)] = [],
        payload: String = emptyDigest,
        body: HTTPClientRequest.Body? = nil,
        bodyBytes: Int = 0,
        answerMax: Int = 0
    ) async throws -> [UInt8] {
        let place = configuration.place(of: key, under: configuration.endpoint)
        let time = Timestamp.now
        let signed =
            headers + [
                ("host", place.host), ("x-amz-content-sha256", payload), ("x-amz-date", SigV4.stamp(time)),
            ]
        var request = HTTPClientRequest(url: place.url)
        request.method = method
        for (name, value) in signed { request.headers.add(name: name, value: value) }
        request.headers.add(
            name: "authorization",
            value: signer.authorization(
                method: method.rawValue,
                path: place.path,
                headers: signed,
                payload: payload,
                at: time
            )
        )
        request.body = body
        let seconds = Self.callSeconds + max(bodyBytes, answerMax) / Self.bytesPerSecond
        return try await perform(request, within: .seconds(Int64(seconds)), answerMax: answerMax)
    }

    private func perform(
        _ request: HTTPClientRequest,
        within limit: TimeAmount,
        answerMax: Int
    ) async throws -> [UInt8] {
        let status: Int
        let answer: [UInt8]
        do {
            let response = try await client.execute(request, timeout: limit)
            status = Int(response.status.code)
            let most = (200...299).contains(status) ? max(answerMax, Self.errorBytesMax) : Self.errorBytesMax
            answer = Array(try await response.body.collect(upTo: most).readableBytesView)
        } catch let error as CancellationError {
            throw error
        } catch let error as SpoolFault {
            throw error
        } catch {
            throw BlobFault.unavailable("S3 did not answer \(request.method.rawValue): \(error)")
        }
        switch status {
        case 200...299: return answer
        case 404 where Self.code(in: answer) != "NoSuchBucket": throw BlobFault.missing
        default:
            throw BlobFault.unavailable(
                "S3 answered \(request.method.rawValue) with \(status) \(Self.code(in: answer))."
            )
        }
    }

    /// The error's name in S3's answer.
    private static func code(in answer: [UInt8]) -> String {
        let text = String(decoding: answer, as: UTF8.self)
        guard let match = text.firstMatch(of: /<Code>([A-Za-z]{1,60})<\/Code>/) else { return "" }
        return String(match.1)
    }
}

/// SHA-256 of no bytes.
private let emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/// A source as the HTTP client takes it: a piece at a time, when the socket has room.
private struct Pieces: AsyncSequence, Sendable {
    let source: BlobSource

    func makeAsyncIterator() -> Iterator { Iterator(source: source) }

    struct Iterator: AsyncIteratorProtocol {
        let source: BlobSource
        var position = 0

        mutating func next() async throws -> ByteBuffer? {
            guard position < source.size else { return nil }
            let end = Swift.min(position + DatabaseBlobs.chunkBytes, source.size)
            defer { position = end }
            return ByteBuffer(bytes: try await source.read(position..<end))
        }
    }
}
