// Attachments and raw mail as rows: works for any number of processes, without a shared disk.

package import Database
package import Platform

/// Bytes kept in PostgreSQL, in chunks.
package struct DatabaseBlobs: Sendable {
    /// Bytes of one row; small enough that a reader never holds much, large enough that rows cost little.
    package static let chunkBytes = 256 * 1024

    private let database: Database

    /// Blobs in this database.
    package init(_ database: Database) { self.database = database }

    /// The statements that store a blob, for the caller's transaction.
    package func insert(_ bytes: [UInt8], id: BlobID, org: OrgID) -> [Statement] {
        let chunks = stride(from: 0, to: bytes.count, by: Self.chunkBytes).map { start in
            Array(bytes[start..<min(start + Self.chunkBytes, bytes.count)])
        }
        let row: Statement =
            "INSERT INTO blobs (org_id, id, size_bytes) VALUES (\(org), \(id), \(bytes.count))"
        return [row]
            + chunks.enumerated().map { position, chunk in
                """
                INSERT INTO blob_chunks (org_id, blob_id, position, bytes)
                VALUES (\(org), \(id), \(position), \(chunk))
                """
            }
    }

    /// The whole blob, or nil when there is none.
    package func read(_ id: BlobID, as access: Access, org: OrgID) async throws -> [UInt8]? {
        let results = try await database.batch(
            access,
            [
                "SELECT size_bytes FROM blobs WHERE org_id = \(org) AND id = \(id)",
                "SELECT bytes FROM blob_chunks WHERE org_id = \(org) AND blob_id = \(id) ORDER BY position",
            ]
        )
        guard let row = results[0].first else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(try row("size_bytes"))
        for chunk in results[1] { bytes += try chunk("bytes") as [UInt8] }
        return bytes
    }
}
