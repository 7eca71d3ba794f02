// Tokens of return paths and unsubscribe links: stable, short, and nobody's to make.

import Database
import Foundation
import Mail
import Platform
import Store
import Testing

@Suite("Recipient tokens")
struct RecipientTokenTests {
    private let secrets = SecretBox(masterKey: [UInt8](repeating: 7, count: 32))
    private let token = RecipientToken(org: OrgID(), message: MessageID(), ordinal: 49)

    @Test("a token is 53 letters and digits, the same each time, and fits into a return path")
    func form() throws {
        let text = token.text(.returnPath, secrets: secrets)
        #expect(text.wholeMatch(of: /[a-z2-7]{53}/) != nil)
        #expect(token.text(.returnPath, secrets: secrets) == text)
        #expect(text.utf8.count <= ReturnPath.tokenOctetsMax)
        #expect(RecipientToken(text, .returnPath, secrets: secrets) == token)
        #expect(RecipientToken(text.uppercased(), .returnPath, secrets: secrets) == token)
    }

    @Test(
        "each recipient, message, organization and purpose has another",
        arguments: [0, 1, 255, 256, 32_767]
    )
    func distinct(_ ordinal: Int) {
        let (org, message) = (OrgID(), MessageID())
        let one = RecipientToken(org: org, message: message, ordinal: ordinal)
        let text = one.text(.returnPath, secrets: secrets)
        #expect(RecipientToken(text, .returnPath, secrets: secrets)?.ordinal == ordinal)
        let others = [
            RecipientToken(org: org, message: message, ordinal: ordinal + 1).text(
                .returnPath,
                secrets: secrets
            ),
            RecipientToken(org: org, message: MessageID(), ordinal: ordinal).text(
                .returnPath,
                secrets: secrets
            ),
            RecipientToken(org: OrgID(), message: message, ordinal: ordinal).text(
                .returnPath,
                secrets: secrets
            ),
            one.text(.unsubscribe, secrets: secrets),
        ]
        #expect(Set(others + [text]).count == 5)
        // What one purpose allows, the other does not.
        #expect(RecipientToken(text, .unsubscribe, secrets: secrets) == nil)
    }

    @Test("a token that was altered in any place is refused")
    func altered() {
        let text = Array(token.text(.returnPath, secrets: secrets).utf8)
        for place in text.indices {
            var changed = text
            changed[place] = changed[place] == UInt8(ascii: "a") ? UInt8(ascii: "b") : UInt8(ascii: "a")
            let forged = String(decoding: changed, as: UTF8.self)
            #expect(RecipientToken(forged, .returnPath, secrets: secrets) == nil, "place \(place)")
        }
    }

    @Test("a token of another installation, cut, lengthened or empty is refused")
    func foreign() {
        let text = token.text(.returnPath, secrets: secrets)
        let other = SecretBox(masterKey: [UInt8](repeating: 8, count: 32))
        #expect(RecipientToken(text, .returnPath, secrets: other) == nil)
        for forged in [
            "", String(text.dropLast()), text + "a", String(repeating: "a", count: 53), "é\(text)",
        ] {
            #expect(RecipientToken(forged, .returnPath, secrets: secrets) == nil, "\(forged)")
        }
    }

    @Test("a token leads to its recipient and to no other organization's")
    func subject() async throws {
        try await withStore { store in
            let (a, b) = (try await Sender("A", store), try await Sender("B", store))
            let sent = try await a.send(["one@x.test", "two@x.test", "Three@Y.test"])
            for (ordinal, address) in ["one@x.test", "two@x.test", "Three@y.test"].enumerated() {
                let token = RecipientToken(org: a.org, message: sent.message, ordinal: ordinal)
                let subject = try #require(try await store.subject(of: token))
                #expect(subject.org == a.org)
                #expect(subject.inbox == a.inbox.id)
                #expect(subject.message == sent.message)
                #expect(subject.address == address)
            }
            // A recipient that there is not, and A's message under B's name: only who has our key could sign these.
            for token in [
                RecipientToken(org: a.org, message: sent.message, ordinal: 3),
                RecipientToken(org: b.org, message: sent.message, ordinal: 0),
                RecipientToken(org: OrgID(), message: sent.message, ordinal: 0),
            ] {
                #expect(try await store.subject(of: token) == nil)
            }
        }
    }

    @Test("a bounce comes to the inbox that sent; a forged one to nobody")
    func bounce() async throws {
        try await withStore { store in
            let sender = try await Sender("A", store)
            let sent = try await sender.send(["one@x.test"])
            let token = RecipientToken(org: sender.org, message: sent.message, ordinal: 0)
            let text = token.text(.returnPath, secrets: store.secrets)
            func lookup(_ token: String, _ domain: String = "agents.test") async throws -> RecipientLookup {
                try await store.recipient(EmailAddress(ReturnPath(token: token, domain: domain).address))
            }
            guard case .found(.inbox(let found)) = try await lookup(text.uppercased()) else {
                Issue.record("the bounce was refused")
                return
            }
            #expect(found.inbox == sender.inbox.id)
            #expect(found.org == sender.org)
            guard case .noSuchMailbox = try await lookup(String(text.reversed())),
                case .noSuchMailbox = try await lookup(token.text(.unsubscribe, secrets: store.secrets)),
                case .notOurDomain = try await lookup("x", "elsewhere.test")
            else {
                Issue.record("a forged bounce was taken")
                return
            }
        }
    }
}

/// An organization with an inbox that sends.
struct Sender: Sendable {
    let store: Store
    let org: OrgID
    let inbox: Inbox

    init(_ name: String, _ store: Store, listUnsubscribe: Bool = false) async throws {
        self.store = store
        org = try await store.createOrganization(named: name)
        inbox = try await store.createInbox(
            org: org,
            localPart: name.lowercased(),
            displayName: nil,
            listUnsubscribe: listUnsubscribe,
            on: store.platformDomain(named: "agents.test")
        )
    }

    /// Accepts a message to these addresses.
    func send(
        _ to: [String],
        _ change: (inout Submission) -> Void = { _ in }
    ) async throws -> AcceptedSubmission {
        var submission = Submission(to: try to.map { try Mailbox($0) }, subject: "Hello")
        submission.inbox = inbox.id
        submission.text = "Hi"
        change(&submission)
        return try await store.accept(submission, org: org)
    }
}
