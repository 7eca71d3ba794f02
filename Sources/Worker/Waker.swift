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
        let processors = Dictionary(processors.map { (schedule.channels(of: $0.work.queue).wake, $0) }) {
            first,
            _ in first
        }
        let feeds = Dictionary(feeders.map { (schedule.channels(of: $0.key).feed, $0.value) }) { first, _ in
            first
        }
        await cancelWhenGracefulShutdown {
            for await event in redis.subscribe(Array(processors.keys) + Array(feeds.keys)) {
                switch event {
                case .message(let channel, let payload):
                    // A new epoch: what runs here is to be registered, also where no slot is free to look for more.
                    if payload == Array("epoch".utf8) { processors[channel]?.mustRegister() }
                    processors[channel]?.wake.notify()
                    feeds[channel]?.hungry.notify()
                case .subscribed:
                    // Something may have been announced while nobody listened.
                    for processor in processors.values { processor.mustRegister() }
                case .lost:
                    for processor in processors.values { processor.wake.notify() }
                }
            }
        }
    }
}
