// commune queues cancel: takes waiting jobs out, for good.

import ArgumentParser
import Database
import Platform
import Queue
import Store

struct QueueCancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cancel",
        abstract: "Cancels a job that waits, or all that wait of one organization.",
        discussion: """
            A cancelled job never runs. Recipients of a cancelled send are failed, with an event each, as if its last try \
            had failed; a cancelled process-inbound leaves its mail unread. A job that runs is not cancelled: it ends by \
            itself, and if it waits for another try then, it can be cancelled.

            Example: commune queues cancel send 01980a3c-0000-7000-8000-000000000000
            Example: commune queues cancel send --org acme
            """
    )

    private static let reason = "Cancelled by the operator."

    @Argument(help: "The queue.")
    var queue: String

    @Argument(help: "The job's id.")
    var job: String?

    @Option(help: "All jobs of this organization that wait (its name).")
    var org: String?

    func validate() throws {
        try Queues.check(queue)
        guard (job == nil) != (org == nil) else { throw ValidationError("Give a job's id, or --org.") }
        if let job, JobID(job) == nil { throw ValidationError("\(job) is not a job's id.") }
    }

    func run() async throws {
        try await Installation.open { installation in
            try await installation.withControl { _, schedule in
                if let job = job.flatMap({ JobID($0) }) {
                    try await cancel(job, installation, schedule)
                } else if let org = try await installation.organization(named: org) {
                    try await cancelAll(of: org, installation, schedule)
                }
            }
        }
    }

    private func cancel(_ id: JobID, _ installation: Installation, _ schedule: Schedule) async throws {
        guard let row = try await installation.database.query(.worker, Jobs.find(id)).first,
            try row("queue") == queue
        else { throw Failure("There is no job \(id) in \(queue).") }
        let key = JobKey(org: try row("org_id"), id: id)
        let state: JobState = try row("state")
        let cancelled =
            state == .queued
            ? try await installation.store().cancel([key], queue: queue, reason: Self.reason) : []
        guard cancelled.isEmpty else {
            await withdraw(cancelled, schedule)
            print("Cancelled \(id).")
            return
        }
        switch state {
        case .queued, .running:
            let host: String? = try row("host")
            throw Failure(
                """
                Job \(id) runs\(host.map { " on \($0)" } ?? "") and was not cancelled. It ends by itself within its \
                deadline; if it waits for another try then, cancel it again.
                """
            )
        case .succeeded: throw Failure("Job \(id) has succeeded already.")
        case .cancelled: throw Failure("Job \(id) was cancelled already.")
        case .dead:
            throw Failure(
                "Job \(id) is a dead letter; delete it with: commune queues dead drop \(queue) --id \(id)"
            )
        }
    }

    private func cancelAll(of org: OrgID, _ installation: Installation, _ schedule: Schedule) async throws {
        var sofar = 0
        let total = try await installation.store().cancelWaiting(of: org, queue: queue, reason: Self.reason) {
            await withdraw($0, schedule)
            sofar += $0.count
            print("\(Timestamp.now.iso8601) Cancelled \(sofar) so far.")
            flush()
        }
        print("Cancelled \(total).")
    }

    /// Best effort: what Redis still knows of them is refused by the claim.
    private func withdraw(_ jobs: [JobKey], _ schedule: Schedule) async {
        _ = try? await schedule.withdraw(jobs.map(\.id), queue: queue)
    }
}
