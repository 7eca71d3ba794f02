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
        try await transaction.query(Self.rows([(blob.id, blob.source.size)], org: blob.org))
        // One chunk at a time: neither we nor libpq ever hold more of it.
        for (position, range) in Self.ranges(of: blob.source.size).enumerated() {
            let chunk = try await blob.source.read(range)
            try await transaction.query(Self.chunks([(blob.id, position, chunk)], org: blob.org))
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

    /// The rows of blobs whose chunks are written in the same transaction.
    package static func rows(_ blobs: [(id: BlobID, size: Int)], org: OrgID) -> Statement {
        """
        INSERT INTO blobs (org_id, id, size_bytes)
        SELECT \(org), id, size_bytes
        FROM unnest(\(blobs.map(\.id))::uuid[], \(blobs.map(\.size))::bigint[]) AS b (id, size_bytes)
        """
    }

    /// Chunks of blobs, each of at most `chunkBytes`.
    package static func chunks(
        _ chunks: [(blob: BlobID, position: Int, bytes: [UInt8])],
        org: OrgID
    ) -> Statement {
        """
        INSERT INTO blob_chunks (org_id, blob_id, position, bytes)
        SELECT \(org), blob_id, position, bytes
        FROM unnest(\(chunks.map(\.blob))::uuid[], \(chunks.map(\.position))::integer[],
            \(chunks.map(\.bytes))::bytea[]) AS c (blob_id, position, bytes)
        """
    }

    private static func ranges(of size: Int) -> [Range<Int>] {
        stride(from: 0, to: size, by: chunkBytes).map { $0..<min($0 + chunkBytes, size) }
    }
}
