// Places where a test may kill a program, to see that what follows a crash there is as it was promised.
//
// They are compiled into debug builds alone (COMMUNE_FAIL_POINTS in Package.swift). In a release `reach` is empty, and
// neither the variable nor the names are in the program.

#if COMMUNE_FAIL_POINTS
    import Foundation
    import Synchronization
#endif

/// A named place in the life of a job.
package enum FailPoint: CaseIterable, Sendable {
    /// The API has committed a message and its jobs, and has told nobody.
    case afterAccept
    /// Redis has granted leases; PostgreSQL knows nothing of them.
    case afterLease
    /// PostgreSQL has the attempt; it has not begun.
    case afterClaim
    /// The attempt has had its effect; its end is not committed.
    case afterEffect
    /// The end is committed; Redis has not been told.
    case afterFinish

    #if COMMUNE_FAIL_POINTS
        /// Kills this process when `COMMUNE_FAIL_POINT` names this place, at the count it says: `after-claim:3`.
        package func reach() {
            guard let armed = Self.armed, armed.point == self else { return }
            if armed.left.subtract(1, ordering: .relaxed).newValue == 0 {
                kill(getpid(), SIGKILL)
            }
        }

        private final class Armed: Sendable {
            let point: FailPoint
            let left: Atomic<Int>

            init(_ point: FailPoint, count: Int) {
                self.point = point
                left = Atomic(count)
            }
        }

        private static let armed: Armed? = {
            guard let value = Settings().text("COMMUNE_FAIL_POINT") else { return nil }
            let parts = value.split(separator: ":", maxSplits: 1).map { String($0) }
            let point = allCases.first { $0.name == parts.first }
            let count = parts.count > 1 ? Int(parts[1]) : 1
            guard let point, let count, count > 0 else {
                FileHandle.standardError.write(
                    Data("COMMUNE_FAIL_POINT names no fail point: \(value)\n".utf8)
                )
                exit(78)
            }
            return Armed(point, count: count)
        }()

        private var name: String {
            switch self {
            case .afterAccept: "after-accept"
            case .afterLease: "after-lease"
            case .afterClaim: "after-claim"
            case .afterEffect: "after-effect"
            case .afterFinish: "after-finish"
            }
        }
    #else
        /// Nothing, in a release.
        @inline(__always)
        package func reach() {}
    #endif
}
