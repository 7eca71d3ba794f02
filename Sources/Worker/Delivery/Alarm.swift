// One deadline that moves with every reply, for the price of a timer every few seconds.

import NIOCore

/// Rings when a deadline passes.
///
/// Belongs to one event loop, and is used there only.
final class Alarm {
    /// The timer goes off at least this often, so that deadlines beyond it never cost a new one.
    private static let every = Duration.seconds(5)

    private let clock: any DeliveryClock
    private let loop: any EventLoop
    private let ring: () -> Void
    private var deadline: NIODeadline?
    private var timerAt: NIODeadline?
    private var takeTimerBack: (@Sendable () -> Void)?

    init(clock: any DeliveryClock, loop: any EventLoop, ring: @escaping () -> Void) {
        self.clock = clock
        self.loop = loop
        self.ring = ring
    }

    /// Rings after this time, unless it is set again before; nil is never.
    func set(_ timeout: Duration?) {
        guard let timeout else {
            deadline = nil
            return
        }
        let now = clock.now
        let deadline = now + timeout
        self.deadline = deadline
        if let timerAt, timerAt <= deadline { return }
        setTimer(at: min(deadline, now + Self.every))
    }

    /// Takes everything back.
    func stop() {
        deadline = nil
        timerAt = nil
        takeTimerBack?()
        takeTimerBack = nil
    }

    private func setTimer(at time: NIODeadline) {
        takeTimerBack?()
        timerAt = time
        let bound = NIOLoopBound(self, eventLoop: loop)
        takeTimerBack = clock.call(at: time, on: loop) { bound.value.look() }
    }

    private func look() {
        timerAt = nil
        takeTimerBack = nil
        guard let deadline else { return }
        let now = clock.now
        if now < deadline {
            setTimer(at: min(deadline, now + Self.every))
        } else {
            self.deadline = nil
            ring()
        }
    }
}
