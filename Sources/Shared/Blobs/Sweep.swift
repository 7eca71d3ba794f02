// Removes blobs that nobody wants: those whose transaction never came, and those that were given up.

package import Database
package import Platform

extension Blobs {
    /// A blob that is pending for longer than this was abandoned; far above the time an upload may take.
    package static let pendingMax: Duration = .seconds(3600)

    /// The statement that gives blobs up inside the caller's transaction; their bytes go with a later sweep.
    package static func release(_ blobs: [BlobID], org: OrgID) -> Statement {
        "UPDATE blobs SET state = 'removing' WHERE org_id = \(org) AND id = ANY (\(blobs))"
    }

    /// Removes up to `limit` blobs that are abandoned or given up; returns how many.
    ///
    /// Killed at any point, it goes on from there the next time: bytes first, the row that tells of them last.
    @discardableResult
    package func sweep(
        pendingMax: Duration = Self.pendingMax,
        limit: Int = 100
    ) async throws -> Int {
        // From here on the transaction that may still come finds nothing to commit (`BlobFault.abandoned`).
        let given = try await database.batch(
            .worker,
            [
                """
                UPDATE blobs SET state = 'removing' WHERE state = 'pending'
                    AND created_at < now() - \(pendingMax.microseconds) * interval '1 microsecond'
                """,
                """
                SELECT org_id, id, size_bytes, storage FROM blobs WHERE state = 'removing'
                ORDER BY created_at LIMIT \(limit)
                """,
            ]
        )[1]
        for row in given {
            let blob = StoredBlob(
                id: try row("id"),
                org: try row("org_id"),
                size: try row("size_bytes"),
                place: try row("storage")
            )
            try await storage(of: blob).erase(blob)
            try await database.query(
                .worker,
                "DELETE FROM blobs WHERE org_id = \(blob.org) AND id = \(blob.id) AND state = 'removing'"
            )
        }
        return given.count
    }
}
