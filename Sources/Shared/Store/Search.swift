// Full-text search: the words of each message, written with it, and threads found by them, the newest match first.
//
// Words are runs of letters and digits, without accents; PostgreSQL reduces English ones to their stems. How the index is
// asked is told in the migration V0007, and why in docs/decisions/0015-search-by-stretches-of-time.md.

import Database
import Foundation
package import Platform

/// What of a message is searched.
struct SearchText {
    /// Bytes of the body, and of all else together, whose words are kept: a tsvector holds at most a mebibyte.
    static let bodyMax = 64 << 10
    static let headMax = 16 << 10

    var subject: String
    var participants: [String]
    var attachmentNames: [String] = []
    var body: String

    /// The rows that make messages findable, for the transaction that writes the messages.
    static func insert(_ messages: [(text: SearchText, of: MessageID, inbox: Inbox)], org: OrgID) -> Statement
    {
        """
        INSERT INTO message_search (org_id, message_id, inbox_id, domain_id, words)
        SELECT \(org), message, inbox, domain,
            to_tsvector('english', words) || search_tags(\(org), inbox, domain, message)
        FROM unnest(\(messages.map(\.of))::uuid[], \(messages.map(\.inbox.id))::uuid[],
            \(messages.map(\.inbox.domain))::uuid[], \(messages.map(\.text.words))::text[])
            AS m (message, inbox, domain, words)
        """
    }

    private var words: String {
        let head = ([subject] + participants + attachmentNames).joined(separator: " ")
        return Self.words(of: head, bytesMax: Self.headMax) + " "
            + Self.words(of: body, bytesMax: Self.bodyMax)
    }

    /// The text's words with single spaces between them, of at most so many bytes of the text.
    ///
    /// Everything that is neither letter nor digit parts words, so that an address or a file name is found by its
    /// parts too; PostgreSQL's own reading of them as one word would hide these.
    static func words(of text: String, bytesMax: Int) -> String {
        let start = String(decoding: text.utf8.prefix(bytesMax), as: UTF8.self)
        let isASCII = start.utf8.allSatisfy { $0 < 0x80 }
        // The same letter may come composed or not, full-width or not, and is often typed without its accent.
        let letters = isASCII ? start : start.decomposedStringWithCompatibilityMapping
        var words = String.UnicodeScalarView()
        var isBetween = true
        for scalar in letters.unicodeScalars {
            if scalar.isOfWord {
                words.append(scalar)
                isBetween = false
            } else if !scalar.isMark, !isBetween {
                words.append(" ")
                isBetween = true
            }
        }
        return String(words)
    }
}

extension Unicode.Scalar {
    fileprivate var isOfWord: Bool {
        if isASCII {
            return (0x30...0x39).contains(value) || (0x41...0x5A).contains(value)
                || (0x61...0x7A).contains(value)
        }
        return properties.isAlphabetic && !isMark || properties.numericType != nil
    }

    fileprivate var isMark: Bool { !isASCII && properties.generalCategory == .nonspacingMark }
}

/// What is searched for: words that must all occur, `"phrases"`, `-words` that must not.
package struct SearchQuery: Sendable, Equatable {
    /// Bytes of a query.
    package static let textMax = 1000

    /// In the form of websearch_to_tsquery.
    let text: String

    /// Reads a query; nil when there is no word in it that must occur.
    package init?(_ query: String) {
        var terms: [String] = []
        var hasWanted = false
        for term in Self.terms(query) {
            let words = SearchText.words(of: term.text, bytesMax: Self.textMax).split(separator: " ")
            guard !words.isEmpty else { continue }
            // Quoted in any case, so that a word "or" is a word, and an address is its parts in a row.
            terms.append((term.isUnwanted ? "-" : "") + "\"\(words.joined(separator: " "))\"")
            if !term.isUnwanted { hasWanted = true }
        }
        guard hasWanted else { return nil }
        text = terms.joined(separator: " ")
    }

    private static func terms(_ query: String) -> [(text: String, isUnwanted: Bool)] {
        var terms: [(String, Bool)] = []
        for (place, part) in query.split(separator: "\"", omittingEmptySubsequences: false).enumerated() {
            if place % 2 == 1 {
                terms.append((String(part), false))
            } else {
                for word in part.split(whereSeparator: \.isWhitespace) {
                    terms.append((String(word), word.hasPrefix("-")))
                }
            }
        }
        return terms
    }
}

extension Store {
    /// Messages that one search looks at: a thread whose newest match lies behind that many others is not found.
    package static let searchCandidatesMax = 10_000
    private static let searchBatch = 200

    /// A page of threads with a message that matches, the newest match first.
    package func searchThreads(
        _ query: SearchQuery,
        org: OrgID,
        inbox: InboxID?,
        domain: DomainID?,
        after cursor: Cursor?,
        limit: Int
    ) async throws -> Page<MailThread> {
        var hits: [(thread: ThreadID, message: MessageID)] = []
        var seen: Set<ThreadID> = []
        var before =
            cursor?.id
            ?? UUID(uuid: (255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255))
        var candidates = 0
        while hits.count <= limit, candidates < Self.searchCandidatesMax {
            let rows = try await database.query(
                .tenant(org),
                candidatesStatement(
                    query,
                    org: org,
                    inbox: inbox,
                    domain: domain,
                    before: before,
                    after: cursor
                )
            )
            for row in rows {
                let message: MessageID = try row("id")
                before = message.uuid
                // The first of a thread is its newest match, unless a page before had that.
                guard let thread: ThreadID = try row("thread_id"), seen.insert(thread).inserted,
                    try !row("is_known")
                else { continue }
                hits.append((thread, message))
            }
            candidates += rows.count
            if rows.count < Self.searchBatch { break }
        }
        let page = Page(hits, limit: limit) { Cursor(time: Timestamp(microseconds: 0), id: $0.message.uuid) }
        let threads = try await threads(page.elements.map(\.thread), org: org)
        return Page(threads, next: page.next)
    }

    /// The next messages that match, with their threads; a message that is gone, or that the key may not see, without.
    private func candidatesStatement(
        _ query: SearchQuery,
        org: OrgID,
        inbox: InboxID?,
        domain: DomainID?,
        before: UUID,
        after cursor: Cursor?
    ) -> Statement {
        let wanted: Statement = "websearch_to_tsquery('english', \(query.text))"
        var known: Statement = "false"
        if let cursor {
            known = """
                EXISTS (SELECT FROM messages o JOIN message_search s ON s.org_id = o.org_id AND s.message_id = o.id
                    WHERE o.org_id = \(org) AND o.thread_id = m.thread_id AND o.id >= \(cursor.id)
                        AND s.words @@ \(fragment: wanted))
                """
        }
        return """
            SELECT f.id, m.thread_id, \(fragment: known) AS is_known
            FROM search_messages(\(fragment: wanted), \(inbox), \(domain), \(before), \(Self.searchBatch)::integer)
                WITH ORDINALITY AS f (id, place)
            LEFT JOIN messages m ON m.org_id = \(org) AND m.id = f.id
            ORDER BY f.place
            """
    }

    /// These threads in this order, without those that are gone.
    private func threads(_ ids: [ThreadID], org: OrgID) async throws -> [MailThread] {
        guard !ids.isEmpty else { return [] }
        return try await database.query(
            .tenant(org),
            """
            SELECT \(fragment: MailThread.columns) FROM unnest(\(ids.map(\.uuid))::uuid[]) WITH ORDINALITY AS w (id, place)
            JOIN threads t ON t.org_id = \(org) AND t.id = w.id \(fragment: ThreadTriage.join)
            ORDER BY w.place
            """
        ).map(MailThread.init)
    }
}
