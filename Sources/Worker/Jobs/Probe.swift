// The work of `probe`: nothing. `commune queues probe` measures with it what the queue itself takes.

import Platform
import Queue
import Store

struct Probe: Work {
    let queue = QueueName.probe
    let deadline = Duration.seconds(30)
    let backoff = Backoff.steps([.seconds(1)], jitter: 0)

    func attempt(_ job: ClaimedJob, _ progress: Progress) async throws -> Completion {
        let began = Timestamp.now
        let payload: ProbePayload
        do {
            payload = try job.decode(ProbePayload.self)
        } catch {
            throw WorkFault.undecodable("\(error)")
        }
        guard payload.keepsStart else { return Completion(outcome: .succeeded) }
        return Completion(
            outcome: .succeeded,
            effects: .statements([ProbeJobs.keepStart(of: job, at: began)])
        )
    }
}
