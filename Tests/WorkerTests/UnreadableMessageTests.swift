// A stored message that cannot be read any more: its job dies with a reason, its recipients have failed, and nobody else
// suffers from it.

import Database
import Foundation
import Logging
import Platform
import Queue
import Redis
import Store
import TestSupport
import Testing

@testable import Worker

private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

@Suite("A stored message that cannot be read", .serialized)
struct UnreadableMessageTests {
    private func spoil(_ message: MessageID, _ fixture: SendFixture) async throws {
        try await fixture.store.database.query(
            .worker,
            "UPDATE message_bodies SET composition = '{\"from\": 7}' WHERE message_id = \(message)"
        )
    }

    @Test("is no reason to try again: the attempt says so, and the burial gives its recipients up")
    func dies() async throws {
        try await SendFixture.with { fixture in
            let sent = try await fixture.send(["one@x.test", "two@x.test", "three@y.test"])
            try await spoil(sent.message, fixture)
            let work = fixture.work(to: nil)
            let rows = try await fixture.store.database.query(
                .worker,
                Jobs.claimWithoutSchedule(queue: QueueName.send, limit: 10, worker: WorkerID())
            )
            let job = try #require(
                try rows.map(Jobs.claimed).first { $0.payload.contains("x.test") }
            )
            do {
                _ = try await work.attempt(job, Progress())
                Issue.record("It was sent.")
            } catch WorkFault.hopeless(let reason) {
                #expect(reason.hasPrefix("The stored message cannot be read: "))
                let effects = try await work.burial(payload: job.payload, org: job.org, reason: reason)
                try await fixture.store.database.batch(.worker, effects)
            }
            #expect(
                try await fixture.recipients == [
                    "one@x.test failed", "two@x.test failed", "three@y.test queued",
                ]
            )
            let events = try await fixture.lines(
                "SELECT event_type || ' ' || recipient || ' ' || left(detail, 26) AS line FROM delivery_events ORDER BY 1"
            )
            #expect(
                events == [
                    "email.failed one@x.test The stored message cannot ",
                    "email.failed two@x.test The stored message cannot ",
                ]
            )
        }
    }

    @Test("after its third crash is reaped with the others, and so is one whose end the database refuses")
    func reaped() async throws {
        try await SendFixture.with { fixture in
            let database = fixture.store.database
            let spoilt = try await fixture.send(["spoilt@x.test"])
            try await fixture.send(["refused@x.test"])
            try await fixture.send(["third@x.test"])
            try await fixture.send(["first@x.test"])
            try await spoil(spoilt.message, fixture)
            try await database.query(
                .owner,
                "ALTER TABLE delivery_events ADD CONSTRAINT never CHECK (recipient <> 'refused@x.test')"
            )
            // Left behind by workers that are no more, all but one for the third time.
            try await database.query(
                .worker,
                """
                UPDATE jobs SET state = 'running', gen = 5, started_at = now() - interval '1 hour',
                    worker_id = gen_random_uuid(), crash_count = CASE WHEN EXISTS (SELECT FROM recipients r
                        WHERE r.message_id = (payload ->> 'message')::uuid AND r.address = 'first@x.test') THEN 0 ELSE 2 END
                """
            )
            let redis = Redis(try await .patient(RedisServer.sharedURL()), logger: quiet)
            let reaper = Reaper(
                work: fixture.work(to: nil),
                database: database,
                schedule: Schedule(redis, namespace: "test-\(UUID().uuidString)"),
                leaseLength: .seconds(2),
                freshHeartbeat: .zero,
                logger: quiet
            )
            try await reaper.reapOrphans(heartbeatMax: .seconds(2))
            await redis.close()
            #expect(
                try await fixture.recipients == [
                    "spoilt@x.test failed", "refused@x.test queued", "third@x.test failed",
                    "first@x.test queued",
                ]
            )
            let states = try await fixture.lines("SELECT state::text AS line FROM jobs ORDER BY state")
            #expect(states == ["queued", "dead", "dead", "dead"])
        }
    }

    @Test("does not hold up an operator who cancels its job among others")
    func cancelled() async throws {
        try await SendFixture.with { fixture in
            let spoilt = try await fixture.send(["spoilt@x.test"])
            try await fixture.send(["fine@x.test"])
            try await spoil(spoilt.message, fixture)
            let count = try await fixture.store.cancelWaiting(
                of: fixture.org,
                queue: QueueName.send,
                reason: "Cancelled.",
                batch: { _ in }
            )
            #expect(count == 2)
            #expect(try await fixture.recipients == ["spoilt@x.test failed", "fine@x.test failed"])
        }
    }
}
