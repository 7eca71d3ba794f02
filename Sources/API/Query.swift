// Reading the query string: what is there must be right; what is wrong is said by name.

import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Mail
import Platform
import Store

extension Call {
    /// The text of a parameter; an empty one counts as absent.
    func query(_ name: String) -> String? {
        guard let value = formURI.queryParameters.get(name), !value.isEmpty else { return nil }
        return value
    }

    /// The URI with its query as URI reads it: clients that write as HTML forms do, the published
    /// ones among them, write `+` for a space.
    private var formURI: URI {
        guard let query = request.uri.query, query.utf8.contains(UInt8(ascii: "+")) else {
            return request.uri
        }
        return URI("/?" + query.replacing("+", with: "%20"))
    }

    /// An address or a date, which have no spaces: there a `+` is itself, encoded or not.
    func query(withoutSpaces name: String) throws -> String? {
        try query(text: name)?.replacing(" ", with: "+")
    }

    /// Text to compare rows with; none of them holds a NUL, and PostgreSQL does not take one.
    func query(text name: String) throws -> String? {
        guard let text = query(name) else { return nil }
        guard !text.utf8.contains(0) else { throw invalid(name, "must not contain NUL characters.") }
        return text
    }

    /// A whole number within a range.
    func query(_ name: String, in range: ClosedRange<Int>, default fallback: Int) throws -> Int {
        guard let text = query(name) else { return fallback }
        guard let number = Int(text), range.contains(number) else {
            throw invalid(name, "must be a whole number from \(range.lowerBound) to \(range.upperBound).")
        }
        return number
    }

    /// An identifier to filter by; one that cannot be ours filters everything out, and is said to be wrong instead.
    func query<Noun>(id name: String) throws -> ID<Noun>? {
        guard let text = query(name) else { return nil }
        guard let id = ID<Noun>(text) else { throw invalid(name, "is not an id.") }
        return id
    }

    /// An identifier to filter by, under either of two names; an answer's prefix may be left out.
    func query<Noun>(id name: String, or twin: String, prefix: String = "") throws -> ID<Noun>? {
        for name in [name, twin] {
            guard let text = query(name) else { continue }
            guard let id = ID<Noun>(text, prefix: prefix) ?? ID<Noun>(text) else {
                throw invalid(name, "is not an id.")
            }
            return id
        }
        return nil
    }

    /// `asc` or `desc`.
    func order(default fallback: Order) throws -> Order {
        guard let text = query("order") else { return fallback }
        guard let order = Order(rawValue: text) else { throw invalid("order", "must be asc or desc.") }
        return order
    }

    /// An ISO 8601 date.
    func date(_ name: String) throws -> Timestamp? {
        guard let text = try query(withoutSpaces: name) else { return nil }
        guard let time = Timestamp(iso8601: text) else { throw invalid(name, "must be an ISO 8601 date.") }
        return time
    }

    /// A cursor of the given list.
    func cursor(of list: String) throws -> Cursor? {
        guard let text = query("cursor") else { return nil }
        guard let cursor = Cursor(text, list: list, secrets: store.secrets) else {
            throw invalid("cursor", "is not one that this list gave out.")
        }
        return cursor
    }

    func invalid(_ path: String, _ message: String) -> APIError {
        .invalid([.init(path: path, message: message)])
    }

    /// An answer with a page.
    func answer<Element: Sendable, View: Encodable & Sendable>(
        _ page: Page<Element>,
        of list: String,
        _ view: (Element) -> View
    ) throws -> Answer {
        try Answer(
            .ok,
            PageEnvelope(
                data: page.elements.map(view),
                nextCursor: page.next?.text(list: list, secrets: store.secrets),
                hasMore: page.next != nil
            )
        )
    }
}
