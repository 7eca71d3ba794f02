// Blobs as rows: works for any number of processes, without a shared disk and without another service.

package import Database
package import Platform

/// Bytes kept in PostgreSQL, in chunks.
package struct DatabaseBlobs: BlobStorage {
    /// Bytes of one row; small enough that a reader never holds much, large enough that rows cost little.
    package static let chunkBytes = 256 * 1024

    private let database: Database

    /// Blobs in this database.
    package init(_ database: Database) { self.database = database }

    package var place: BlobPlace { .database }

    /// Nothing: the bytes go with the transaction.
    package func stage(_ blob: NewBlob, as access: Access) async throws {}

    package func keep(_ blob: NewBlob, in transaction: Transaction) async throws {
        try await transaction.query(Self.row(blob.id, size: blob.source.size, org: blob.org))
        // One chunk at a time: neither we nor libpq ever hold more of it.
        for (position, range) in Self.ranges(of: blob.source.size).enumerated() {
            let chunk = try await blob.source.read(range)
            try await transaction.query(Self.chunk(chunk, at: position, of: blob.id, org: blob.org))
        }
    }

    package func read(
        _ range: Range<Int>,
        of blob: StoredBlob,
        as access: Access
    ) async throws -> [UInt8] {
        guard !range.isEmpty else { return [] }
        let first = range.lowerBound / Self.chunkBytes
        let last = (range.upperBound - 1) / Self.chunkBytes
        let rows = try await database.query(
            access,
            """
            SELECT bytes FROM blob_chunks
            WHERE org_id = \(blob.org) AND blob_id = \(blob.id) AND position BETWEEN \(first) AND \(last)
            ORDER BY position
            """
        )
        var bytes: [UInt8] = []
        bytes.reserveCapacity((last - first + 1) * Self.chunkBytes)
        for row in rows { bytes += try row("bytes") as [UInt8] }
        let start = range.lowerBound - first * Self.chunkBytes
        guard bytes.count >= start + range.count else { throw BlobFault.missing }
        return start == 0 && bytes.count == range.count ? bytes : Array(bytes[start..<start + range.count])
    }

    package func erase(_ blob: StoredBlob) async throws {
        try await database.query(
            .worker,
            "DELETE FROM blob_chunks WHERE org_id = \(blob.org) AND blob_id = \(blob.id)"
        )
    }

    /// The statements that store a blob, for the caller's transaction.
    package func insert(_ bytes: [UInt8], id: BlobID, org: OrgID) -> [Statement] {
        [Self.row(id, size: bytes.count, org: org)]
            + Self.ranges(of: bytes.count).enumerated().map { position, range in
                Self.chunk(Array(bytes[range]), at: position, of: id, org: org)
            }
    }

    private static func ranges(of size: Int) -> [Range<Int>] {
        stride(from: 0, to: size, by: chunkBytes).map { $0..<min($0 + chunkBytes, size) }
    }

    private static func row(_ id: BlobID, size: Int, org: OrgID) -> Statement {
        "INSERT INTO blobs (org_id, id, size_bytes) VALUES (\(org), \(id), \(size))"
    }

    private static func chunk(_ bytes: [UInt8], at position: Int, of id: BlobID, org: OrgID) -> Statement {
        """
        INSERT INTO blob_chunks (org_id, blob_id, position, bytes)
        VALUES (\(org), \(id), \(position), \(bytes))
        """
    }
}
