// A clock that stands still until a test lets time pass.

import NIOCore
import Synchronization

@testable import Worker

/// Time for deliveries under test.
final class ManualClock: DeliveryClock {
    private struct Call: Sendable {
        let id: Int
        let time: NIODeadline
        let loop: any EventLoop
        let body: @Sendable () -> Void
    }

    private struct State {
        var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
        var calls: [Call] = []
        var nextID = 0
    }

    private let state = Mutex(State())

    var now: NIODeadline { state.withLock { $0.now } }

    func call(
        at time: NIODeadline,
        on loop: any EventLoop,
        _ body: @escaping @Sendable () -> Void
    ) -> @Sendable () -> Void {
        let id = state.withLock { state in
            state.nextID += 1
            state.calls.append(Call(id: state.nextID, time: time, loop: loop, body: body))
            return state.nextID
        }
        return { self.state.withLock { state in state.calls.removeAll { $0.id == id } } }
    }

    /// Waits until somebody waits for time to pass, lets it pass, and returns when all that was due is done.
    func advance(by time: Duration) async {
        for _ in 0..<6_000 where state.withLock({ $0.calls.isEmpty }) {
            // The client registers its deadline on its own thread, and nobody is told.
            try? await Task.sleep(for: .milliseconds(5))
        }
        state.withLock { $0.now = $0.now + TimeAmount(time) }
        while let call = due() {
            try? await call.loop.submit(call.body).get()
        }
    }

    private func due() -> Call? {
        state.withLock { state in
            guard let index = state.calls.firstIndex(where: { $0.time <= state.now }) else { return nil }
            return state.calls.remove(at: index)
        }
    }
}
