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
    package let time: Timestamp
    package let id: UUID

    /// As a caller sees it: opaque, signed, good only for the list it came from.
    package func text(list: String, secrets: SecretBox) -> String {
        let payload = "\(time.microseconds).\(id.text)"
        let mac = secrets.sign(payload, purpose: "cursor/\(list)", length: 12)
        return (Array(payload.utf8) + mac).base64URL
    }

    /// The place of a row.
    package init(time: Timestamp, id: UUID) {
        self.time = time
        self.id = id
    }

    /// Reads a cursor of that list; nil when it is not ours.
    package init?(_ text: String, list: String, secrets: SecretBox) {
        guard text.utf8.count <= 256, let bytes = [UInt8](base64URL: text), bytes.count > 12 else {
            return nil
        }
        let payload = String(decoding: bytes.dropLast(12), as: UTF8.self)
        guard
            secrets.verifies(Array(bytes.suffix(12)), of: payload, purpose: "cursor/\(list)", length: 12),
            let dot = payload.firstIndex(of: "."),
            let microseconds = Int64(payload[..<dot]),
            let id = UUID(text: payload[payload.index(after: dot)...])
        else { return nil }
        self.init(time: Timestamp(microseconds: microseconds), id: id)
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
}
