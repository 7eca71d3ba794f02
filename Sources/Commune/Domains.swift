// commune domains: what the DNS says about a domain, and what it should say.

import ArgumentParser
import DNS
import Logging
import Mail
import Platform
import Store

struct Domains: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Domains of organizations.",
        discussion: "Example: commune domains check example.com",
        subcommands: [Check.self]
    )

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Looks at a domain's DNS records now, and prints what is expected and what is found.",
            discussion: """
                Changes nothing: verification is started by POST /v1/domains/ID/verify. Asks the domain's own nameservers \
                where it can, and as the worker does else: COMMUNE_DNS_SERVER and its like count here too. Ends with \
                status 1 when a record that the domain needs is not as expected.

                Example: commune domains check example.com --org acme
                """
        )

        @Argument(help: "The domain's name.")
        var name: String

        @Option(help: "The organization's name, should several have claimed the domain.")
        var org: String?

        func run() async throws {
            guard let wanted = try? DomainName(name) else {
                throw ValidationError("“\(name)” is not a domain name.")
            }
            let readings = { (settings: inout Settings) in
                _ = SecretBox(reading: &settings)
                _ = UnboundResolver.Configuration(reading: &settings)
            }
            try await Installation.open(checking: readings) { installation in
                let claims = try await claims(of: wanted, installation)
                var settings = Settings()
                let configuration = UnboundResolver.Configuration(reading: &settings)
                let resolver = try UnboundResolver(configuration, logger: installation.logger)
                let fresh = try await resolver.fresh(for: wanted.ascii)
                var isLacking = false
                for claim in claims {
                    let answers = await fresh.answers(to: claim.domain.records)
                    isLacking = Self.report(claim.org, claim.domain, answers) || isLacking
                }
                if isLacking { throw ExitCode(1) }
            }
        }

        private func claims(
            of name: DomainName,
            _ installation: Installation
        ) async throws -> [(org: OrgID, domain: Domain)] {
            let store = installation.store()
            var claims = try await store.domains(named: name)
            if let org {
                guard let id = try await store.organization(named: org) else {
                    throw Failure("There is no organization named “\(org)”.")
                }
                claims = claims.filter { $0.org == id }
            }
            guard !claims.isEmpty else {
                throw Failure("No organization has the domain \(name). Make it with POST /v1/domains.")
            }
            return claims
        }

        /// Prints one claim's records; true when one that is needed is not as expected.
        private static func report(_ org: OrgID, _ domain: Domain, _ answers: [RecordAnswer]) -> Bool {
            print("\(domain.name)  \(domain.status.rawValue)  \(domain.region)  id \(domain.id)  org \(org)")
            if let failure = domain.failure { print("  \(failure)") }
            var isLacking = false
            for (record, answer) in zip(domain.records, answers) {
                let judgement = record.judge(answer)
                let isGood = judgement.verdict == .matches
                let verdict =
                    isGood ? "ok" : judgement.verdict == .unknown ? "no answer" : "not as expected"
                let need = record.kind.isNeeded ? "needed" : "advised"
                let priority = record.priority.map { "\($0) " } ?? ""
                print(
                    """

                      \(record.type.rawValue) \(record.fqdn)  [\(need)]  \(verdict)
                        expected  \(priority)\(record.value)
                        found     \(judgement.found)
                    """
                )
                if let detail = judgement.detail { print("    why       \(detail)") }
                if record.kind.isNeeded, !isGood { isLacking = true }
            }
            print("")
            return isLacking
        }
    }
}
