// From a client's bytes to a stored attachment: spooled while they come in, stored when they are whole. A client may
// take minutes, and holds a file without a name meanwhile, but no memory to speak of and no database connection.

import Blobs
import Crypto
import HTTPTypes
import Platform
import Store

/// The bounds that all uploads of this process share.
struct Uploads: Sendable {
    /// Uploads under way; their files take at most 25 MiB each.
    static let atOnceMax = 100
    /// How long one may take, however steadily it comes.
    static let durationMax: Duration = .seconds(15 * 60)
    private static let storingWait: Duration = .seconds(60)

    private let folder: String
    private let places = Budget(Self.atOnceMax)
    /// Half of the database connections: uploads never keep all others waiting.
    private let storing: Budget

    init(folder: String, databaseConnections: Int) {
        self.folder = folder
        storing = Budget(max(1, databaseConnections / 2))
    }

    /// Runs `body` with an empty spool, which is gone afterwards; 503 when too many are under way.
    func withSpool<Value>(_ body: (inout UploadSpool) async throws -> Value) async throws -> Value {
        guard await places.take(1, within: .zero) else { throw APIError.unavailable }
        defer { places.give(1) }
        var spool = UploadSpool(file: try SpoolFile(in: folder))
        return try await body(&spool)
    }

    /// Stores a whole upload, some at a time.
    func store(_ attachment: NewAttachment, org: OrgID, in store: Store) async throws {
        guard await storing.take(1, within: Self.storingWait) else { throw APIError.unavailable }
        defer { storing.give(1) }
        try await store.add(attachment, org: org)
    }
}

/// An upload that is coming in.
///
/// Used by one task; it holds one piece in memory.
struct UploadSpool {
    private static let pieceBytes = 256 << 10

    private let file: SpoolFile
    private var piece: [UInt8] = []
    private var digest = SHA256()
    /// Bytes so far.
    private(set) var count = 0
    private let deadline = ContinuousClock.now + Uploads.durationMax

    init(file: SpoolFile) { self.file = file }

    /// Takes more of the content; 413 as soon as it is over the limit.
    mutating func append(_ bytes: ArraySlice<UInt8>) async throws {
        guard count + bytes.count <= Store.attachmentSizeMax else {
            throw APIError(
                .contentTooLarge,
                "An attachment may take at most \(Store.attachmentSizeMax >> 20) MiB."
            )
        }
        guard ContinuousClock.now < deadline else {
            throw APIError(.requestTimeout, "The upload took too long.")
        }
        if piece.capacity == 0 { piece.reserveCapacity(Self.pieceBytes + (64 << 10)) }
        piece += bytes
        count += bytes.count
        if piece.count >= Self.pieceBytes { try await flush() }
    }

    /// The blob that all of it makes.
    mutating func blob(org: OrgID) async throws -> NewBlob {
        try await flush()
        return NewBlob(org: org, source: file.source(size: count), sha256: Array(digest.finalize()))
    }

    private mutating func flush() async throws {
        guard !piece.isEmpty else { return }
        piece.withUnsafeBytes { digest.update(bufferPointer: $0) }
        try await file.write(piece, at: count - piece.count)
        piece.removeAll(keepingCapacity: true)
    }
}
