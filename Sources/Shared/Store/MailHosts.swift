// The platform's mail servers as customers' DNS records must name them, by region.

import Foundation
import Mail
package import Platform

/// A region that a domain may ask for.
package enum Region: String, Sendable, Codable, CaseIterable {
    case usEast1 = "us-east-1"
    case euWest1 = "eu-west-1"

    /// The ending of the variables that are this region's alone.
    fileprivate var variableEnding: String { rawValue.uppercased().replacing("-", with: "_") }
}

/// The names that records of one region hold.
package struct MailHosts: Sendable, Hashable {
    /// Takes mail for inboxes.
    package let receiving: String
    /// Takes bounces.
    package let bounce: String
    /// Has the SPF record with the addresses that we send from.
    package let spfInclude: String

    /// Takes the names as they are.
    package init(receiving: String, bounce: String, spfInclude: String) {
        (self.receiving, self.bounce, self.spfInclude) = (receiving, bounce, spfInclude)
    }

    /// The hosts of every region.
    ///
    /// Reads `COMMUNE_MAIL_HOST`, `COMMUNE_BOUNCE_HOST` and `COMMUNE_SPF_INCLUDE`, and the same with `_US_EAST_1` or
    /// `_EU_WEST_1` behind, which come first for that region. Without any the machine's name and `spfDefault` stand in.
    package static func byRegion(
        reading settings: inout Settings,
        spfDefault: String
    ) -> [Region: MailHosts] {
        let receiving =
            name("COMMUNE_MAIL_HOST", &settings)
            ?? (try? DomainName(ProcessInfo.processInfo.hostName))?.ascii ?? "localhost"
        let bounce = name("COMMUNE_BOUNCE_HOST", &settings)
        let include = name("COMMUNE_SPF_INCLUDE", &settings) ?? spfDefault
        var hosts: [Region: MailHosts] = [:]
        for region in Region.allCases {
            let own = name("COMMUNE_MAIL_HOST_\(region.variableEnding)", &settings)
            hosts[region] = MailHosts(
                receiving: own ?? receiving,
                bounce: name("COMMUNE_BOUNCE_HOST_\(region.variableEnding)", &settings) ?? bounce ?? own
                    ?? receiving,
                spfInclude: name("COMMUNE_SPF_INCLUDE_\(region.variableEnding)", &settings) ?? include
            )
        }
        return hosts
    }

    private static func name(_ variable: String, _ settings: inout Settings) -> String? {
        guard let text = settings.text(variable) else { return nil }
        guard let name = try? DomainName(text) else {
            settings.fault(variable, "must be a host name such as mail.example.com.")
            return nil
        }
        return name.ascii
    }
}
