// The life of a failing job.
//
// An attempt is spent when the work was tried and failed. The next try waits longer than the one before: the delays
// of its kind in turn, the last one for ever after, each moved by chance so that jobs that failed together do not come
// back together. When the attempts of a job are spent it is a dead letter, which an operator can see and replay.
//
// Not spent is an attempt that the other side put off (greylisting, a rate limit, `Retry-After`), or that a worker
// handed back at shutdown: those are snoozed or released. A crash is counted by itself; after three of them a job
// is held to be poison and is a dead letter too.

import Platform

/// How long a failed job waits.
package enum Backoff: Sendable {
    /// Doubles from `base` up to `max`, anywhere between nothing and that (full jitter).
    case exponential(base: Duration, max: Duration)
    /// The given delays in turn, the last repeated, ± `jitter` of each.
    case steps([Duration], jitter: Double)

    /// The wait after failed try `attempt`, from 1.
    package func delay(attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration {
        switch self {
        case .exponential(let base, let max):
            let ceiling = min(
                max.inSeconds,
                base.inSeconds * Double(sign: .plus, exponent: min(attempt - 1, 40), significand: 1)
            )
            return .microseconds(Int64(Double.random(in: 0...ceiling, using: &generator) * 1_000_000))
        case .steps(let steps, let jitter):
            guard let last = steps.last else { return .zero }
            let step = attempt <= steps.count ? steps[Swift.max(0, attempt - 1)] : last
            let factor = Double.random(in: (1 - jitter)...(1 + jitter), using: &generator)
            return .microseconds(Int64(step.inSeconds * factor * 1_000_000))
        }
    }
}
