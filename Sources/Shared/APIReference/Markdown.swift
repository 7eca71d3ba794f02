// The little Markdown that the document's descriptions use: paragraphs, **strong** and `code`.

import Foundation

enum Markdown {
    /// HTML of a description; what is no markup is escaped.
    static func html(_ text: String) -> String {
        let paragraphs = text.split(separator: "\n\n", omittingEmptySubsequences: true)
        return paragraphs.map { "<p>\(inline(escaped(String($0))))</p>" }.joined(separator: "\n")
    }

    private static func inline(_ text: String) -> String {
        let code = text.split(separator: "`", omittingEmptySubsequences: false).enumerated()
        return code.map { index, part in
            index.isMultiple(of: 2) ? strong(String(part)) : "<code>\(part)</code>"
        }.joined()
    }

    private static func strong(_ text: String) -> String {
        let parts = text.components(separatedBy: "**").enumerated()
        return parts.map { index, part in index.isMultiple(of: 2) ? part : "<strong>\(part)</strong>" }
            .joined()
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }
}
