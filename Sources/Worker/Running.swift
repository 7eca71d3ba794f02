// What this process runs at the moment: for heartbeats, shutdown, and the worker's row.

import Platform
import Queue
import Synchronization

/// One attempt in progress.
struct RunningJob: Sendable {
    let job: ClaimedJob
    /// nil when it was claimed straight from PostgreSQL, without a lease.
    var token: String?
    let progress: Progress
    let startedAt: ContinuousClock.Instant
    var task: Task<Void, Never>?
}

/// The attempts of one queue in progress.
final class Running: Sendable {
    private let jobs = Mutex<[JobID: RunningJob]>([:])

    var count: Int { jobs.withLock { $0.count } }

    var all: [RunningJob] { jobs.withLock { Array($0.values) } }

    func insert(_ job: RunningJob) { jobs.withLock { $0[job.job.id] = job } }

    /// Forgets an attempt, if it is the one that is known under its id.
    func remove(_ job: ClaimedJob) {
        jobs.withLock { jobs in
            if jobs[job.id]?.job.generation == job.generation { jobs[job.id] = nil }
        }
    }

    func token(of job: ClaimedJob) -> String? { jobs.withLock { $0[job.id]?.token } }

    func setTask(_ task: Task<Void, Never>, of job: ClaimedJob) { jobs.withLock { $0[job.id]?.task = task } }

    /// The lease token of a running job, made now for one that was claimed without a lease; nil when it runs no more.
    func tokenForAdoption(of job: ClaimedJob) -> String? {
        jobs.withLock { jobs in
            guard jobs[job.id]?.job.generation == job.generation else { return nil }
            if let token = jobs[job.id]?.token { return token }
            let token = [UInt8].random(count: 12).base64URL
            jobs[job.id]?.token = token
            return token
        }
    }

    /// How many jobs each organization runs here.
    var countByOrg: [OrgID: Int] {
        jobs.withLock { $0.values.reduce(into: [:]) { $0[$1.job.org, default: 0] += 1 } }
    }

    func contains(_ job: ClaimedJob) -> Bool {
        jobs.withLock { $0[job.id]?.job.generation == job.generation }
    }
}
