// Send jobs on a database of their own, run as a worker runs them, against a live peer.

import DNS
import Database
import Foundation
import Logging
import Mail
import Platform
import Queue
import Redis
import Store
import TestSupport
import Testing

@testable import Worker

private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// An organization with an inbox, and what runs its send jobs.
struct SendFixture: Sendable {
    let store: Store
    let org: OrgID
    let inbox: Inbox
    let secrets: SecretBox
    let finisher: Finisher

    /// Runs `body` with one on a migrated database, and closes everything.
    static func with(_ body: (SendFixture) async throws -> Void) async throws {
        try await TestDatabase.with(template: "worker_\(Migrator.fingerprint)", migrating: migrate) { made in
            let database = Database(Database.Configuration(url: made.url), logger: quiet)
            let redis = Redis(try await .patient(RedisServer.sharedURL()), logger: quiet)
            let result: Result<Void, any Error>
            do {
                try await body(SendFixture(database, redis))
                result = .success(())
            } catch {
                result = .failure(error)
            }
            await database.close()
            await redis.close()
            try result.get()
        }
    }

    private static let secrets = SecretBox(masterKey: [UInt8](repeating: 9, count: 32))

    private static func migrate(_ url: String) async throws {
        let database = Database(Database.Configuration(url: url), logger: quiet)
        try await Migrator(database, logger: quiet).run()
        // Its keys take a moment to make, so the template has them.
        _ = try await Store(database, secrets: secrets).platformDomain(named: "agents.test")
        await database.close()
    }

    private init(_ database: Database, _ redis: Redis) async throws {
        secrets = Self.secrets
        store = Store(database, secrets: secrets)
        org = try await store.createOrganization(named: "A")
        inbox = try await store.createInbox(
            org: org,
            localPart: "sender",
            displayName: nil,
            on: store.platformDomain(named: "agents.test")
        )
        let schedule = Schedule(redis, namespace: "test-\(UUID().uuidString)")
        finisher = Finisher(
            queue: QueueName.send,
            database: database,
            schedule: schedule,
            pusher: Pusher(schedule, logger: quiet),
            logger: quiet
        )
    }

    /// Accepts a message to these addresses.
    @discardableResult
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

    /// The work of `send` with all mail going to that peer, or by the DNS.
    func work(
        to peer: SMTPPeer?,
        resolver: any DNS.Resolver = NoDNS(),
        variables: [String: String] = [:],
        _ change: (inout SendMessage) -> Void = { _ in }
    ) -> SendMessage {
        let route = peer.map { ["COMMUNE_SMTP_ROUTES": "*=localhost:\($0.port)"] } ?? [:]
        var settings = Settings(route.merging(variables) { $1 })
        let configuration = Delivery.Configuration(reading: &settings)
        var work = SendMessage(
            store: store,
            loader: MessageLoader(store),
            composer: MessageComposer(signers: SignerCache(store), secrets: secrets),
            files: AttachedFiles(store),
            delivery: Delivery(configuration, resolver: resolver),
            logger: quiet
        )
        change(&work)
        return work
    }

    /// Runs every job that is due, one after the other, as a worker does; says how each ended.
    @discardableResult
    func run(_ work: SendMessage) async throws -> [Outcome] {
        // One job an organization at a time is what this claim gives.
        var outcomes: [Outcome] = []
        while true {
            let rows = try await store.database.query(
                .worker,
                Jobs.claimWithoutSchedule(queue: QueueName.send, limit: 1, worker: WorkerID())
            )
            guard let row = rows.first else { break }
            let job = try Jobs.claimed(row)
            let completion = try await work.attempt(job, Progress())
            await finisher.finish(job, token: nil, completion)
            outcomes.append(completion.outcome)
        }
        await work.delivery.close()
        return outcomes
    }

    /// Lets every waiting job be due now.
    func makeDue() async throws {
        try await store.database.query(.worker, "UPDATE jobs SET run_at = now() WHERE state = 'queued'")
    }

    /// One column of text of a query.
    func lines(_ query: Statement) async throws -> [String] {
        try await store.database.query(.worker, query).map { try $0("line") }
    }

    /// `address state` of each recipient, in order.
    var recipients: [String] {
        get async throws {
            try await lines(
                "SELECT address || ' ' || state AS line FROM recipients ORDER BY message_id, ordinal"
            )
        }
    }

    /// `address reason` of each suppression.
    var suppressions: [String] {
        get async throws {
            try await lines("SELECT address_key || ' ' || reason AS line FROM suppressions ORDER BY 1")
        }
    }
}

extension SMTPPeer {
    /// A session without extensions in which these replies follow MAIL and each RCPT, and this the message.
    static func session(
        mail: String = "250 2.1.0 Ok",
        _ recipients: [String],
        dot: String = "250 2.0.0 Queued"
    ) -> [Step] {
        func say(_ text: String) -> Step { .send(Array("\(text)\r\n".utf8)) }
        var steps = [
            say("220 mail.example.test"), .expectLine("EHLO"), say("250 mail.example.test"),
            .expectLine("MAIL FROM:"), say(mail),
        ]
        if mail.hasPrefix("2") {
            for reply in recipients { steps += [.expectLine("RCPT"), say(reply)] }
            if recipients.contains(where: { $0.hasPrefix("2") }) {
                steps += [.expectLine("DATA"), say("354 Go on"), .takeMessage, say(dot)]
            }
        }
        return steps + [.expectEnd]
    }
}
