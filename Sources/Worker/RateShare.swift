// Rates while Redis is away: each process takes an eighth of what all may take together, and asks nobody.

import Platform
import Queue

/// What this process may still start of organizations and lanes whose rate is limited.
struct RateShare {
    /// As many processes together keep the rate; more exceed it, fewer stay below.
    private static let processes = 8.0
    /// Subjects that are remembered; when there are more, those that may run anyway are forgotten.
    private static let subjectsMax = 10_000

    private struct Rate {
        /// Between two jobs; nil when none may start.
        let interval: Duration?
    }

    private var rates: [ControlScope: Rate] = [:]
    private var ofEveryOrg: Rate?
    /// From when on a subject may start its next job.
    private var next: [ControlScope: ContinuousClock.Instant] = [:]

    /// The rates as they are now; `queue` is the rate of every organization without one of its own.
    mutating func setRates(_ found: [ControlScope: Double], defaults: QueueControl.Defaults) {
        rates = found.mapValues { Self.share(of: $0) }
        ofEveryOrg = rates.removeValue(forKey: .queue) ?? defaults.orgRatePerSecond.map { Self.share(of: $0) }
    }

    private static func share(of perSecond: Double) -> Rate {
        Rate(interval: perSecond > 0 ? .seconds(min(processes / perSecond, 86_400)) : nil)
    }

    /// Who may start nothing at this moment.
    mutating func exhausted(at now: ContinuousClock.Instant = .now) -> Set<ControlScope> {
        if next.count > Self.subjectsMax { next = next.filter { $0.value > now } }
        let waiting = next.filter { $0.value > now && rate(of: $0.key) != nil }.keys
        return Set(waiting).union(rates.filter { $0.value.interval == nil }.keys)
    }

    /// How long until one of them may start something; nil when nobody waits.
    func nextOpening(at now: ContinuousClock.Instant = .now) -> Duration? {
        next.values.filter { $0 > now }.min().map { $0 - now }
    }

    /// A job of these starts.
    mutating func take(org: OrgID, lane: String, at now: ContinuousClock.Instant = .now) {
        for subject in [ControlScope.org(org), .lane(lane)] {
            guard let interval = rate(of: subject)?.interval else { continue }
            // A little may be made up for, as nobody looks at exactly the right moment.
            let earliest = max(next[subject] ?? now, now - .milliseconds(500))
            next[subject] = earliest + interval
        }
    }

    private func rate(of subject: ControlScope) -> Rate? {
        if let own = rates[subject] { return own }
        if case .org = subject { return ofEveryOrg }
        return nil
    }
}
