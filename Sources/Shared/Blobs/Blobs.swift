// Attachments and raw mail as blobs: a row of `blobs` for each, and its bytes in one of two storages.
//
// The row is the truth. Bytes outside the database are written before the transaction that makes them count, and the
// row stands as 'pending' meanwhile: killed in between, the sweep finds the row and removes both (Sweep.swift).

package import Database
package import Platform

/// Where the bytes of a blob lie, as its row says.
package enum BlobPlace: String, Sendable, Column {
    case database, s3
}

/// Why bytes could not be stored or read.
package enum BlobFault: Error, Sendable, Equatable, CustomStringConvertible {
    /// The storage does not answer, or not as it should; the sentence says how.
    case unavailable(String)
    /// The row is there and the bytes are not.
    case missing
    /// Staging took so long that the sweep took the blob for abandoned.
    case abandoned

    package var description: String {
        switch self {
        case .unavailable(let reason): reason
        case .missing: "The bytes of a blob are missing from their storage."
        case .abandoned: "A blob was not committed in time and has been removed."
        }
    }
}

/// Bytes that can be read piece by piece, wherever they are.
package struct BlobSource: Sendable {
    /// Bytes in all.
    package let size: Int
    /// Reads a range within the size.
    package let read: @Sendable (Range<Int>) async throws -> [UInt8]

    /// A source of this many bytes.
    package init(size: Int, read: @escaping @Sendable (Range<Int>) async throws -> [UInt8]) {
        self.size = size
        self.read = read
    }

    /// What is in memory already.
    package init(_ bytes: [UInt8]) {
        self.init(size: bytes.count) { Array(bytes[$0]) }
    }
}

/// A blob on its way into a storage.
package struct NewBlob: Sendable {
    package let id = BlobID()
    package let org: OrgID
    package let source: BlobSource
    package let sha256: [UInt8]

    /// A blob of an organization; the digest is of exactly these bytes.
    package init(org: OrgID, source: BlobSource, sha256: [UInt8]) {
        self.org = org
        self.source = source
        self.sha256 = sha256
    }
}

/// A blob that is committed.
package struct StoredBlob: Sendable {
    package let id: BlobID
    package let org: OrgID
    package let size: Int
    package let place: BlobPlace

    /// What its row says.
    package init(id: BlobID, org: OrgID, size: Int, place: BlobPlace) {
        self.id = id
        self.org = org
        self.size = size
        self.place = place
    }
}

/// What a storage of blobs does.
package protocol BlobStorage: Sendable {
    /// What new rows say of it.
    var place: BlobPlace { get }
    /// Does what must not happen inside a transaction: brings the bytes out of the house.
    func stage(_ blob: NewBlob, as access: Access) async throws
    /// Makes the blob part of a transaction.
    func keep(_ blob: NewBlob, in transaction: Transaction) async throws
    /// Reads some of the bytes, over a connection that is free again afterwards.
    func read(_ range: Range<Int>, of blob: StoredBlob, as access: Access) async throws -> [UInt8]
    /// Removes the bytes; that there are none is no error.
    func erase(_ blob: StoredBlob) async throws
}

/// Every blob: new ones go to the configured storage, others are where their row says.
package struct Blobs: Sendable {
    /// Most bytes that `readAll` asks for at a time.
    private static let pieceBytes = 4 << 20

    package let database: Database
    package let inDatabase: DatabaseBlobs
    /// nil where the operator configured none.
    package let s3: S3Blobs?

    /// Blobs that go to S3 where that is given, else into the database.
    package init(_ database: Database, s3: S3Configuration? = nil) {
        self.database = database
        inDatabase = DatabaseBlobs(database)
        self.s3 = s3.map { S3Blobs($0, database: database) }
    }

    /// The same blobs through another door to the database.
    ///
    /// What notes that bytes are on their way out of the house stays with the first door: it must be committed before
    /// they leave.
    package func through(_ database: Database) -> Blobs { Blobs(database, s3: s3) }

    private init(_ database: Database, s3: S3Blobs?) {
        self.database = database
        inDatabase = DatabaseBlobs(database)
        self.s3 = s3
    }

    /// Where new blobs go.
    package var storage: any BlobStorage { s3 ?? inDatabase }

    /// A committed blob; nil when there is none, or it is on its way out.
    package func find(_ id: BlobID, as access: Access, org: OrgID) async throws -> StoredBlob? {
        let rows = try await database.query(
            access,
            "SELECT size_bytes, storage FROM blobs WHERE org_id = \(org) AND id = \(id) AND state = 'stored'"
        )
        return try rows.first.map { row in
            StoredBlob(id: id, org: org, size: try row("size_bytes"), place: try row("storage"))
        }
    }

    /// Reads some of a blob's bytes.
    package func read(_ range: Range<Int>, of blob: StoredBlob, as access: Access) async throws -> [UInt8] {
        try await storage(of: blob).read(range, of: blob, as: access)
    }

    /// Reads all of a blob into memory; whoever calls has seen its size.
    package func readAll(_ blob: StoredBlob, as access: Access) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(blob.size)
        while bytes.count < blob.size {
            let end = min(bytes.count + Self.pieceBytes, blob.size)
            bytes += try await read(bytes.count..<end, of: blob, as: access)
        }
        return bytes
    }

    /// The whole blob, or nil when there is none.
    package func read(_ id: BlobID, as access: Access, org: OrgID) async throws -> [UInt8]? {
        guard let blob = try await find(id, as: access, org: org) else { return nil }
        return try await readAll(blob, as: access)
    }

    func storage(of blob: StoredBlob) throws(BlobFault) -> any BlobStorage {
        switch blob.place {
        case .database: return inDatabase
        case .s3:
            guard let s3 else {
                throw .unavailable("A blob lies in S3, and COMMUNE_BLOBS of this program names none.")
            }
            return s3
        }
    }
}

extension Blobs {
    /// A URL of the storage itself by which anybody can read a blob until it expires; only S3 has such.
    package func temporaryURL(
        of blob: StoredBlob,
        expiresIn seconds: Int,
        disposition: String,
        mimeType: String
    ) throws(BlobFault) -> String {
        guard let s3, blob.place == .s3 else {
            throw .unavailable("A blob is not in S3, or COMMUNE_BLOBS of this program names none.")
        }
        return s3.temporaryURL(
            of: blob,
            expiresIn: seconds,
            disposition: disposition,
            mimeType: mimeType
        )
    }
}
