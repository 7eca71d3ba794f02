// Which Message-IDs belong to which thread: every one we sent, received, or saw cited.

import Crypto
import Database
import Foundation
import Platform

enum MessageReferences {
    /// Notes that these Message-IDs belong to a thread of an inbox; one that has a thread keeps it.
    static func insert(_ ids: [String], inbox: InboxID, thread: ThreadID, org: OrgID) -> Statement {
        """
        INSERT INTO message_references (org_id, rfc_id_digest, inbox_id, thread_id)
        SELECT \(org), digest, \(inbox), \(thread) FROM unnest(\(digests(ids))::bytea[]) AS d (digest)
        ON CONFLICT (org_id, rfc_id_digest, inbox_id) DO NOTHING
        """
    }

    /// Notes one Message-ID each of messages that we write.
    static func insert(_ messages: [(id: String, inbox: InboxID, thread: ThreadID)], org: OrgID) -> Statement
    {
        """
        INSERT INTO message_references (org_id, rfc_id_digest, inbox_id, thread_id)
        SELECT \(org), digest, inbox_id, thread_id
        FROM unnest(\(messages.map { digest($0.id) })::bytea[], \(messages.map(\.inbox))::uuid[],
            \(messages.map(\.thread))::uuid[]) AS m (digest, inbox_id, thread_id)
        ON CONFLICT (org_id, rfc_id_digest, inbox_id) DO NOTHING
        """
    }

    /// The threads of an inbox that these Message-IDs belong to, in the order of the ids given.
    static func threads(of ids: [String], inbox: InboxID, org: OrgID) -> Statement {
        """
        SELECT r.thread_id FROM unnest(\(digests(ids))::bytea[]) WITH ORDINALITY AS d (digest, place)
        JOIN message_references r ON r.org_id = \(org) AND r.rfc_id_digest = d.digest AND r.inbox_id = \(inbox)
        ORDER BY d.place LIMIT 1
        """
    }

    /// Holds back, until the transaction ends, every other mail that cites one of these ids.
    ///
    /// So two mails of one conversation that arrive together do not open two threads. Sorted, so that they cannot
    /// deadlock.
    static func lock(_ ids: [String], org: OrgID) -> Statement {
        let keys = Set(ids.map { lockKey($0, org) }).sorted()
        return """
            SELECT count(pg_advisory_xact_lock(key)) FROM (SELECT key FROM unnest(\(keys)::bigint[]) AS key ORDER BY key) AS k
            """
    }

    private static func digests(_ ids: [String]) -> [[UInt8]] {
        var seen: Set<String> = []
        return ids.filter { seen.insert($0).inserted }.map(digest)
    }

    private static func digest(_ id: String) -> [UInt8] { Array(SHA256.hash(data: Data(id.utf8)).prefix(16)) }

    private static func lockKey(_ id: String, _ org: OrgID) -> Int64 {
        SHA256.hash(data: Data("\(org)\(id)".utf8)).prefix(8).reduce(0) { $0 << 8 | Int64($1) }
    }
}
