// Domains whose mail goes by the operator's word (COMMUNE_SMTP_ROUTES): what the DNS says of them does not matter.

import Foundation
import Mail
package import Platform

/// The domains that have a configured route.
package struct RoutedDomains: Sendable {
    private let names: Set<String>
    private let isEverything: Bool

    /// Exactly these names; `*` stands for all.
    package init(_ names: Set<String>) {
        self.names = names
        isEverything = names.contains("*")
    }

    /// Reads the names before the equals signs of `COMMUNE_SMTP_ROUTES`; the worker says what is wrong with the rest.
    package init(reading settings: Settings) {
        let routed = settings.list("COMMUNE_SMTP_ROUTES").map { entry in
            let name = entry.prefix { $0 != "=" }.trimmingCharacters(in: .whitespaces)
            return (try? DomainName(name))?.ascii ?? name
        }
        self.init(Set(routed))
    }

    /// Whether mail to this domain needs no DNS.
    package func contains(_ domain: String) -> Bool { isEverything || names.contains(domain) }
}
