// The load of `commune queues probe`: inserts its jobs as the API does, commit first and push after, and waits for them.

import Database
import Platform
import Queue
import Store

/// The jobs of one probe.
struct ProbeLoad {
    private static let insertMax = 1000
    private static let pushMax = 200

    let database: Database
    /// Made up; no tenant has these ids.
    let orgs: [OrgID]
    let deadline: ContinuousClock.Instant

    /// Inserts all jobs, while the queue is held if `control` is given, and measures until the last has ended.
    func burst(_ count: Int, _ schedule: Schedule, holding control: QueueControl?) async throws -> ProbeRate {
        if let control {
            let state = try await control.state(of: QueueName.probe)
            guard state == .running else { throw Failure("The queue “probe” is \(state.rawValue).") }
            try await hold(control, .paused)
        }
        do {
            for start in stride(from: 0, to: count, by: Self.insertMax) {
                try await insert(start..<min(start + Self.insertMax, count), schedule)
            }
        } catch {
            if let control { try? await hold(control, .running) }
            throw error
        }
        if let control { try await hold(control, .running) }
        try await waitForAll()
        let row = try await database.query(.worker, ProbeJobs.result(orgs, queue: QueueName.probe)).first
        let succeeded: Int = try row?("succeeded") ?? 0
        guard succeeded == count else {
            throw Failure("Of \(count) jobs \(succeeded) succeeded. See: commune queues dead list probe")
        }
        let seconds: Double = try row?("seconds") ?? 0
        return ProbeRate(jobs: count, seconds: seconds, perSecond: seconds > 0 ? Double(count) / seconds : 0)
    }

    /// Inserts a job, waits for its end, leaves the queue alone for a moment, and again.
    func oneAtATime(_ count: Int, _ schedule: Schedule) async throws -> ProbePickup {
        var waits: [Duration] = []
        for index in 0..<count {
            let job = try job(index, keepsStart: true)
            try await database.query(.worker, Jobs.insert([job]))
            let committed = Timestamp.now
            try await schedule.push([job.ticket], queue: QueueName.probe)
            waits.append(try await start(of: job) - committed)
            // Long enough for the worker to have settled the job and to wait again.
            try await Task.sleep(for: .milliseconds(10))
        }
        return ProbePickup(waits)
    }

    /// Removes the jobs, as far as they were inserted.
    func remove() async throws {
        while try await database.query(
            .worker,
            ProbeJobs.remove(orgs, queue: QueueName.probe, limit: 10_000)
        ).affected > 0 {}
    }

    private func job(_ index: Int, keepsStart: Bool) throws -> NewJob {
        try NewJob(
            org: orgs[index % orgs.count],
            queue: QueueName.probe,
            payload: ProbePayload(keepsStart: keepsStart)
        )
    }

    private func insert(_ range: Range<Int>, _ schedule: Schedule) async throws {
        let jobs = try range.map { try job($0, keepsStart: false) }
        try await database.query(.worker, Jobs.insert(jobs))
        for start in stride(from: 0, to: jobs.count, by: Self.pushMax) {
            let tickets = jobs[start..<min(start + Self.pushMax, jobs.count)].map(\.ticket)
            try await schedule.push(tickets, queue: QueueName.probe)
        }
    }

    private func hold(_ control: QueueControl, _ state: QueueControl.State) async throws {
        try await control.set(state, QueueName.probe, .queue, defaults: .of(QueueName.probe))
    }

    private func waitForAll() async throws {
        while try await !database.query(.worker, ProbeJobs.unfinished(queue: QueueName.probe)).isEmpty {
            try checkDeadline()
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    private func start(of job: NewJob) async throws -> Timestamp {
        while true {
            if let row = try await database.query(.worker, ProbeJobs.ended(job)).first {
                guard let began: Int64 = try row("began") else {
                    throw Failure(
                        "A job ended as \(try row("state") as String) and did not tell when it began."
                    )
                }
                return Timestamp(microseconds: began)
            }
            try checkDeadline()
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    private func checkDeadline() throws {
        guard ContinuousClock.now < deadline else {
            throw Failure("The jobs did not end in time. See: commune queues status")
        }
    }
}
