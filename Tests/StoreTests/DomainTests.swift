// Whose a domain is: the first to verify it has it, with its mail, its keys and its inboxes.

import Database
import Foundation
import Mail
import Platform
import Testing

@testable import Store

@Suite("Domains")
struct DomainTests {
    private func make(_ store: Store, _ name: String, _ org: OrgID) async throws -> Domain {
        try await store.createDomain(
            org: org,
            name: DomainName(name),
            givenName: name,
            region: .euWest1,
            hosts: Store.hosts
        )
    }

    @Test("a domain has keys of its own, sealed, whose public halves are its records")
    func keys() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let one = try await store.look(at: try await store.pendingDomain("one.com", org: org), org: org)
            let two = try await store.pendingDomain("two.com", org: org)
            #expect(one.records[0].value != two.records[0].value)
            let rows = try await store.database.query(
                .tenant(org),
                "SELECT algorithm, private_key, public_record FROM domain_keys WHERE domain_id = \(one.id)"
            )
            #expect(rows.count == 2)
            for row in rows {
                let algorithm: String = try row("algorithm")
                let record: String = try row("public_record")
                #expect(record == one.records[algorithm == "rsa" ? 0 : 1].value)
                // Sealed for this row alone.
                let sealed: [UInt8] = try row("private_key")
                let place = DomainKeys.place(algorithm, one.id, org)
                #expect(throws: Never.self) { try store.secrets.open(sealed, place: place) }
                let elsewhere = DomainKeys.place(algorithm, two.id, org)
                #expect(throws: SecretBox.Fault.self) { try store.secrets.open(sealed, place: elsewhere) }
            }
            let signers = try #require(try await store.signers(domain: "one.com", org: org))
            #expect(signers.map(\.selector) == ["commune", "commune-ed"])
            let message = Array("From: a@one.com\r\nSubject: s\r\n\r\nHi\r\n".utf8)
            let signed = try DKIM.sign(message, signers: signers, at: Date()) + message
            let verdicts = await DKIM.verify(signed, now: Date()) { name in
                try await store.ownDKIMRecord(
                    domain: "one.com",
                    selector: String(name.prefix { $0 != "." })
                ).map { [$0] } ?? []
            }
            #expect(verdicts.map(\.result) == [.pass, .pass])
        }
    }

    @Test("nobody signs for a domain that is not verified, or another organization's")
    func signers() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let other = try await store.createOrganization(named: "Other")
            let domain = try await store.pendingDomain("example.com", org: org)
            #expect(try await store.signers(domain: "example.com", org: org) == nil)
            #expect(try await store.ownDKIMRecord(domain: "example.com", selector: "commune") == nil)
            try await store.look(at: domain, org: org)
            #expect(try await store.signers(domain: "example.com", org: org) != nil)
            #expect(try await store.signers(domain: "example.com", org: other) == nil)
            #expect(try await store.ownDKIMRecord(domain: "example.com", selector: "unknown") == nil)
        }
    }

    @Test("the first to verify a name has it: the others fail, and nobody can add it any more")
    func first() async throws {
        try await withStore { store in
            let winner = try await store.createOrganization(named: "Winner")
            let loser = try await store.createOrganization(named: "Loser")
            let idle = try await store.createOrganization(named: "Idle")
            let late = try await store.createOrganization(named: "Late")
            let lost = try await store.pendingDomain("example.com", org: loser)
            let asleep = try await make(store, "example.com", idle)
            let won = try await store.look(
                at: try await store.pendingDomain("example.com", org: winner),
                org: winner
            )
            #expect(won.status == .verified)
            for (domain, org) in [(lost, loser), (asleep, idle)] {
                let failed = try await store.reread(domain, org: org)
                #expect(failed.status == .failed)
                #expect(failed.failure == "Another organization has verified this domain.")
            }
            await #expect(throws: StoreFault.taken("The domain example.com was verified by somebody else.")) {
                try await make(store, "example.com", late)
            }
            await #expect(throws: StoreFault.taken("You have the domain example.com already.")) {
                try await make(store, "example.com", winner)
            }
            // Even with its records in the DNS it fails again.
            _ = try await store.requestVerification(of: lost.id, org: loser, hosts: [:])
            let again = try await store.look(at: try await store.reread(lost, org: loser), org: loser)
            #expect(again.status == .failed)
            #expect(try await store.reread(won, org: winner).status == .verified)
        }
    }

    @Test("of several that verify a name at once exactly one has it", arguments: 0..<3)
    func race(_ round: Int) async throws {
        try await withStore { store in
            var domains: [(OrgID, Domain)] = []
            for number in 0..<4 {
                let org = try await store.createOrganization(named: "Org \(number)")
                domains.append((org, try await store.pendingDomain("example.com", org: org)))
            }
            let statuses = try await withThrowingTaskGroup(of: Domain.Status.self) { group in
                for (org, domain) in domains {
                    group.addTask { try await store.look(at: domain, org: org).status }
                }
                for try await _ in group {}
                var statuses: [Domain.Status] = []
                for (org, domain) in domains {
                    statuses.append(try await store.reread(domain, org: org).status)
                }
                return statuses
            }
            #expect(statuses.count { $0 == .verified } == 1)
            #expect(statuses.count { $0 == .failed } == 3)
        }
    }

    @Test("the platform's own domain can be added by nobody")
    func platform() async throws {
        try await withStore { store in
            _ = try await store.platformDomain(named: "agents.test")
            let org = try await store.createOrganization(named: "Acme")
            await #expect(throws: StoreFault.self) { try await make(store, "agents.test", org) }
            #expect(try await make(store, "sub.agents.test", org).status == .notStarted)
        }
    }

    @Test("mail to a domain is ours only when it is verified, and goes to the organization that verified it")
    func recipients() async throws {
        try await withStore { store in
            var inboxes: [(OrgID, Domain, Inbox)] = []
            for name in ["One", "Two"] {
                let org = try await store.createOrganization(named: name)
                let domain = try await store.pendingDomain("example.com", org: org)
                let home = try #require(try await store.inboxDomain(domain.id, org: org))
                #expect(!home.isShared)
                let inbox = try await store.createInbox(
                    org: org,
                    localPart: "support",
                    displayName: nil,
                    on: home
                )
                #expect(!inbox.mayUseDomain)
                inboxes.append((org, domain, inbox))
            }
            func found(_ text: String) async throws -> String {
                switch try await store.recipient(EmailAddress(text)) {
                case .found(.inbox(let recipient)): recipient.inbox.description
                case .found(.role), .inactive: "another"
                case .noSuchMailbox: "no mailbox"
                case .notOurDomain: "not ours"
                }
            }
            #expect(try await found("support@example.com") == "not ours")
            let (org, domain, inbox) = inboxes[1]
            try await store.look(at: domain, org: org)
            #expect(try await found("Support+tag@Example.com") == inbox.id.description)
            #expect(try await found("nobody@example.com") == "no mailbox")
            #expect(try await found("support@sub.example.com") == "not ours")
            #expect(try await store.inbox(inbox.id, org: org)?.mayUseDomain == true)
            try await store.deleteInbox(inbox.id, of: domain.id, org: org)
            #expect(try await found("support@example.com") == "no mailbox")
        }
    }

    @Test("an address of the shared domain stays its organization's when its inbox is renamed or deleted")
    func kept() async throws {
        try await withStore { store in
            let shared = try await store.platformDomain(named: "agents.test")
            let org = try await store.createOrganization(named: "Acme")
            let other = try await store.createOrganization(named: "Other")
            func make(_ name: String, _ org: OrgID) async throws -> Inbox {
                try await store.createInbox(org: org, localPart: name, displayName: nil, on: shared)
            }
            let inbox = try await make("help", org)
            var changes = InboxChanges()
            changes.localPart = .set("support")
            _ = try await store.updateInbox(inbox.id, org: org, changes)
            guard case .noSuchMailbox = try await store.recipient(EmailAddress("help@agents.test")) else {
                Issue.record("The former address still takes mail.")
                return
            }
            guard
                case .found(.inbox(let found)) = try await store.recipient(
                    EmailAddress("support@agents.test")
                )
            else {
                Issue.record("The new address takes no mail.")
                return
            }
            #expect(found.inbox == inbox.id)
            await #expect(throws: StoreFault.self) { try await make("help", other) }
            await #expect(throws: StoreFault.self) { try await make("support", org) }
            let again = try await make("help", org)
            #expect(again.address == "help@agents.test")
            await #expect(throws: StoreFault.self) { try await make("help", org) }
            try await store.deleteInbox(again.id, of: shared.id, org: org)
            await #expect(throws: StoreFault.self) { try await make("help", other) }
            guard case .noSuchMailbox = try await store.recipient(EmailAddress("help@agents.test")) else {
                Issue.record("A deleted inbox still takes mail.")
                return
            }
        }
    }
}
