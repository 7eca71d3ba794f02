// A job as it is written, and as it is run.

import Foundation
package import Platform

/// The states of a job's row; PostgreSQL alone decides them.
package enum JobState: String, Sendable, CaseIterable {
    case queued, running, succeeded, dead, cancelled
}

/// Which of a lane's jobs go first.
package enum Priority: Int, Sendable, CaseIterable {
    case first = 0
    case normal = 1
    /// Replays and bulk work: after everything fresh.
    case last = 2
}

/// A job to be inserted, in the transaction of the act that starts it: the jobs table is the outbox.
package struct NewJob: Sendable {
    /// Stable over retries; effects outside (SMTP, HTTP) carry it or what it leads to.
    package var id = JobID()
    package var org: OrgID
    package var queue: String
    /// Who is served in turn inside the organization; the organization itself unless said otherwise.
    package var lane: String
    package var priority: Priority
    /// JSON; opaque to the queue.
    package var payload: String
    /// Not before this time; nil is now.
    package var runAt: Timestamp?
    /// Tries until it is a dead letter; crashes are counted apart.
    package var attemptsMax: Int
    /// While a job with this key waits or runs in the queue, another one is not inserted.
    package var uniqueKey: String?

    /// Describes a job; `payload` is encoded as JSON.
    package init(
        org: OrgID,
        queue: String,
        lane: String? = nil,
        priority: Priority = .normal,
        payload: some Encodable & Sendable,
        runAt: Timestamp? = nil,
        attemptsMax: Int = 25,
        uniqueKey: String? = nil
    ) throws {
        self.org = org
        self.queue = queue
        self.lane = lane ?? org.description
        self.priority = priority
        self.payload = String(decoding: try JSONEncoder().encode(payload), as: UTF8.self)
        self.runAt = runAt
        self.attemptsMax = attemptsMax
        self.uniqueKey = uniqueKey
    }

    /// What the schedule needs to know of it after the commit.
    package var ticket: Ticket {
        Ticket(id: id, org: org, queue: queue, lane: lane, priority: priority, generation: 0, due: runAt)
    }
}

/// What Redis knows of a job.
package struct Ticket: Sendable, Hashable {
    package let id: JobID
    package let org: OrgID
    package let queue: String
    package let lane: String
    package let priority: Priority
    /// The fence as of this ticket; a claim adds one.
    package let generation: Int
    /// Not before this time; nil is now.
    package let due: Timestamp?
}

/// A job that this process has claimed: an attempt has started, and PostgreSQL knows it.
package struct ClaimedJob: Sendable {
    package let id: JobID
    package let org: OrgID
    package let queue: String
    package let kind: String
    package let lane: String
    package let priority: Priority
    /// JSON, as the act wrote it.
    package let payload: String
    /// This try, from 1.
    package let attempt: Int
    package let attemptsMax: Int
    /// Earlier tries whose process died.
    package let crashCount: Int
    /// The fence of this attempt.
    package let generation: Int
    package let createdAt: Timestamp

    /// Reads the payload.
    package func decode<P: Decodable>(_ type: P.Type) throws -> P {
        try JSONDecoder().decode(type, from: Data(payload.utf8))
    }
}

/// How an attempt ended.
package enum Outcome: Sendable {
    /// The work is done.
    case succeeded
    /// This try failed; the next follows after `delay`, unless it was the last.
    case retry(after: Duration, error: String)
    /// Nothing was tried, or the other side asked to wait: no attempt is spent.
    case snooze(after: Duration, reason: String)
    /// No further try can help.
    case dead(reason: String)
    /// Handed back as it was, without costing an attempt (shutdown, unknown kind).
    case released
}
