// Hears the schedule's announcements and wakes those they are for.

import Queue
import Redis
import ServiceLifecycle

/// One subscription for all queues of this process.
struct Waker: Service {
    let redis: Redis
    let schedule: Schedule
    let processors: [Processor]
    let feeders: [String: Feeder]

    func run() async throws {
        let wakes = Dictionary(processors.map { (schedule.channels(of: $0.work.queue).wake, $0.wake) }) {
            first,
            _ in first
        }
        let feeds = Dictionary(feeders.map { (schedule.channels(of: $0.key).feed, $0.value) }) { first, _ in
            first
        }
        await cancelWhenGracefulShutdown {
            for await event in redis.subscribe(Array(wakes.keys) + Array(feeds.keys)) {
                switch event {
                case .message(let channel, _):
                    wakes[channel]?.notify()
                    feeds[channel]?.hungry.notify()
                case .subscribed, .lost:
                    // Something may have been announced while nobody listened.
                    for wake in wakes.values { wake.notify() }
                }
            }
        }
    }
}
