// Time as a delivery sees it, so that a test can let nine minutes pass at once.

import NIOCore

/// What tells the time of replies, turns and rests.
protocol DeliveryClock: Sendable {
    var now: NIODeadline { get }

    /// Calls `body` on the loop once `time` has come. What it returns takes the call back.
    func call(
        at time: NIODeadline,
        on loop: any EventLoop,
        _ body: @escaping @Sendable () -> Void
    ) -> @Sendable () -> Void
}

/// The machine's own time.
struct EventLoopClock: DeliveryClock {
    var now: NIODeadline { .now() }

    func call(
        at time: NIODeadline,
        on loop: any EventLoop,
        _ body: @escaping @Sendable () -> Void
    ) -> @Sendable () -> Void {
        let scheduled = loop.scheduleTask(deadline: time, body)
        return { scheduled.cancel() }
    }
}

extension NIODeadline {
    /// Time until `later`; zero when it has passed.
    func distance(to later: NIODeadline) -> Duration {
        later > self ? .nanoseconds((later - self).nanoseconds) : .zero
    }

    static func + (time: NIODeadline, duration: Duration) -> NIODeadline {
        time + TimeAmount(duration)
    }
}
