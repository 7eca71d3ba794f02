// How busy this process is: what it takes on depends on it, and how long it waits for the silent.

import Store
import Synchronization

/// Counts connections; written by whoever admits, read by every connection.
final class Load: Sendable {
    private let connections = Atomic<Int>(0)
    private let connectionsMax: Int
    private let intake: InboundIntake

    init(connectionsMax: Int, _ intake: InboundIntake) {
        self.connectionsMax = connectionsMax
        self.intake = intake
    }

    /// Counts a connection; false when there are too many.
    func admit() -> Bool {
        connections.add(1, ordering: .relaxed).newValue <= connectionsMax
    }

    func release() { connections.subtract(1, ordering: .relaxed) }

    /// From nine tenths of the connections on, or when mail comes faster than it can be stored.
    var isOverloaded: Bool {
        connections.load(ordering: .relaxed) * 10 >= connectionsMax * 9 || intake.isCrowded
    }
}
