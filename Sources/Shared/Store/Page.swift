// Pages of a list: by the place of the last row seen (keyset), never by an offset, so that the last page costs what
// the first one does and nothing is missed or repeated while rows arrive.

package import Foundation
package import Platform

/// Which way a list runs.
package enum Order: String, Sendable, Codable {
    case ascending = "asc"
    case descending = "desc"
}

/// The place of a row in its list.
package struct Cursor: Sendable, Equatable {
    /// Bytes of a cursor: a snapshot names the transactions that were running, as many as the server has connections.
    static let textMax = 16_384

    package let time: Timestamp
    package let id: UUID
    /// When the walk began, where a row's place can change under it.
    package let walk: Walk?

    /// The moment a walk began.
    package struct Walk: Sendable, Equatable {
        /// By the database's clock.
        package let time: Timestamp
        /// PostgreSQL's `pg_snapshot` as text: which transactions were over.
        package let snapshot: String
    }

    /// As a caller sees it: opaque, signed, good only for the list it came from.
    package func text(list: String, secrets: SecretBox) -> String {
        let payload =
            "\(time.microseconds).\(id.text)"
            + (walk.map { ".\($0.time.microseconds).\($0.snapshot)" } ?? "")
        let mac = secrets.sign(payload, purpose: "cursor/\(list)", length: 12)
        return (Array(payload.utf8) + mac).base64URL
    }

    /// The place of a row.
    package init(time: Timestamp, id: UUID, walk: Walk? = nil) {
        self.time = time
        self.id = id
        self.walk = walk
    }

    /// Reads a cursor of that list; nil when it is not ours.
    package init?(_ text: String, list: String, secrets: SecretBox) {
        guard text.utf8.count <= Self.textMax, let bytes = [UInt8](base64URL: text), bytes.count > 12 else {
            return nil
        }
        let payload = String(decoding: bytes.dropLast(12), as: UTF8.self)
        guard secrets.verifies(Array(bytes.suffix(12)), of: payload, purpose: "cursor/\(list)", length: 12)
        else { return nil }
        let parts = payload.split(separator: ".")
        guard [2, 4].contains(parts.count), let microseconds = Int64(parts[0]),
            let id = UUID(text: parts[1])
        else { return nil }
        var walk: Walk?
        if parts.count == 4 {
            guard let began = Int64(parts[2]) else { return nil }
            walk = Walk(time: Timestamp(microseconds: began), snapshot: String(parts[3]))
        }
        self.init(time: Timestamp(microseconds: microseconds), id: id, walk: walk)
    }
}

/// One page, and where the next begins.
package struct Page<Element: Sendable>: Sendable {
    package let elements: [Element]
    /// nil when this was the last.
    package let next: Cursor?

    /// Takes rows of which one more than `limit` was asked for.
    package init(_ elements: [Element], limit: Int, cursor: (Element) -> Cursor) {
        self.elements = Array(elements.prefix(limit))
        next = elements.count > limit ? self.elements.last.map(cursor) : nil
    }

    /// Takes the rows of a page and where the next begins.
    package init(_ elements: [Element], next: Cursor?) {
        self.elements = elements
        self.next = next
    }
}
