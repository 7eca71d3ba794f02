// Domains that hand out addresses to be thrown away. Mail to them is sent, with a warning: whom they belong to cannot
// be told tomorrow.

import Foundation
import Mail
package import Platform

/// The list of disposable domains: ours, or the operator's in its place.
package struct DisposableDomains: Sendable {
    private static let linesMax = 1_000_000

    private let names: Set<String>

    /// One name a line; `#` begins a comment.
    package init(_ text: String) {
        names = Set(
            text.split(whereSeparator: \.isNewline).prefix(Self.linesMax).compactMap { line in
                let name = line.prefix { $0 != "#" }.trimmingCharacters(in: .whitespaces)
                return name.isEmpty ? nil : (try? DomainName(name))?.ascii
            }
        )
    }

    /// The file that `COMMUNE_DISPOSABLE_DOMAINS` names, else the list that comes with the program.
    package init(reading settings: inout Settings) {
        guard let path = settings.text("COMMUNE_DISPOSABLE_DOMAINS") else {
            self.init(String(decoding: PackageResources.disposable_domains_txt, as: UTF8.self))
            return
        }
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            settings.fault("COMMUNE_DISPOSABLE_DOMAINS", "names a file that cannot be read as UTF-8 text.")
            self.init("")
            return
        }
        self.init(text)
    }

    /// How many names are known.
    package var count: Int { names.count }

    /// Whether the domain, or one above it, is on the list.
    package func contains(_ domain: String) -> Bool {
        var rest = Substring(domain)
        while true {
            if names.contains(String(rest)) { return true }
            guard let dot = rest.firstIndex(of: ".") else { return false }
            rest = rest[rest.index(after: dot)...]
        }
    }
}
