// Triage of threads: what state one is in, whose it is, and how it is tagged.

import Database
package import Platform

/// What people and agents have made of a thread; one that nobody has touched is open, nobody's, and without tags.
package struct ThreadTriage: Sendable, Equatable {
    package enum Status: String, Sendable, Codable, CaseIterable, Column {
        case open
        case needsReply = "needs_reply"
        case waiting, closed
    }

    /// Tags of one thread.
    package static let tagsMax = 50

    package let status: Status
    /// Whoever it is assigned to, in the caller's own words.
    package let assignee: String?
    /// In the order of their adding, each once.
    package let tags: [String]

    init(_ row: Row) throws {
        status = try row("status")
        assignee = try row("assigned_to")
        tags = try row("tags")
    }

    static let columns: Statement = """
        coalesce(d.status, 'open') AS status, d.assigned_to, coalesce(d.tags, '{}') AS tags
        """
    /// To the threads `t`.
    static let join: Statement = "LEFT JOIN thread_metadata d ON d.org_id = t.org_id AND d.thread_id = t.id"
}

/// One change of a thread's triage.
package enum TriageChange: Sendable {
    /// Each part that is not nil; an assignee of nil within is nobody.
    case set(status: ThreadTriage.Status?, assignee: String??)
    case addTags([String])
    case removeTags([String])
}

extension Store {
    /// Changes a thread's triage and returns the thread as it is then; nil when the organization has none of this id.
    package func change(_ change: TriageChange, of thread: ThreadID, org: OrgID) async throws -> MailThread? {
        let results = try await database.batch(
            .tenant(org),
            [
                // Its key is held, so that none is left of a thread that is being deleted.
                """
                INSERT INTO thread_metadata (org_id, thread_id)
                SELECT org_id, id FROM threads WHERE org_id = \(org) AND id = \(thread) FOR KEY SHARE
                ON CONFLICT (org_id, thread_id) DO NOTHING
                """,
                Self.update(change, thread, org),
                """
                SELECT \(fragment: MailThread.columns) FROM threads t \(fragment: ThreadTriage.join)
                WHERE t.org_id = \(org) AND t.id = \(thread)
                """,
            ]
        )
        guard let row = results[2].first else { return nil }
        guard results[1].affected == 1 else {
            throw StoreFault.refused("A thread has at most \(ThreadTriage.tagsMax) tags.")
        }
        return try MailThread(row)
    }

    private static func update(_ change: TriageChange, _ thread: ThreadID, _ org: OrgID) -> Statement {
        var statement: Statement = "UPDATE thread_metadata SET updated_at = now()"
        switch change {
        case .set(let status, let assignee):
            if let status { statement += ", status = \(status.rawValue)" }
            if let assignee { statement += ", assigned_to = \(assignee)" }
        case .addTags(let tags):
            statement += """
                , tags = ARRAY(SELECT tag FROM unnest(tags || \(tags)::text[]) WITH ORDINALITY AS t (tag, place)
                    GROUP BY tag ORDER BY min(place))
                """
        case .removeTags(let tags):
            statement +=
                ", tags = ARRAY(SELECT tag FROM unnest(tags) AS tag WHERE tag <> ALL (\(tags)::text[]))"
        }
        statement += " WHERE org_id = \(org) AND thread_id = \(thread)"
        if case .addTags(let tags) = change {
            statement += """
                 AND (SELECT count(DISTINCT tag) FROM unnest(tags || \(tags)::text[]) AS tag) <= \(ThreadTriage.tagsMax)
                """
        }
        return statement
    }
}
