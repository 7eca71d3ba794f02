// How long failed jobs wait: a table where chance has no say, bounds where it has.

import Platform
import Queue
import Testing

@Suite("Backoff")
struct BackoffTests {
    @Test(
        "the ceiling doubles with each try up to the most",
        arguments: [
            (1, 2.0), (2, 4), (3, 8), (6, 64), (9, 512), (10, 600), (11, 600), (25, 600), (1000, 600),
            (.max, 600),
        ]
    )
    func ceilings(attempt: Int, seconds: Double) {
        let backoff = Backoff.exponential(base: .seconds(2), max: .seconds(600))
        var generator = Seeded(seed: 3)
        let waits = (0..<1000).map { _ in backoff.delay(attempt: attempt, using: &generator).inSeconds }
        #expect(waits.allSatisfy { $0 >= 0 && $0 <= seconds })
        #expect((waits.max() ?? 0) > seconds * 0.98 && (waits.min() ?? seconds) < seconds * 0.02)
    }

    @Test("chance spreads the waits over the whole of what is allowed, and never beyond")
    func jitter() {
        var generator = Seeded(seed: 4)
        let backoff = Backoff.exponential(base: .seconds(1), max: .seconds(3600))
        for attempt in 1...20 {
            let ceiling = min(3600, Double(1 << (attempt - 1)))
            let waits = (0..<500).map { _ in backoff.delay(attempt: attempt, using: &generator).inSeconds }
            #expect(waits.allSatisfy { $0 >= 0 && $0 <= ceiling })
            #expect(waits.contains { $0 < ceiling * 0.1 } && waits.contains { $0 > ceiling * 0.9 })
        }
    }

    @Test(
        "steps follow each other, and the last is repeated",
        arguments: [(0, 60), (1, 60), (2, 300), (3, 1800), (4, 1800), (100, 1800)]
    )
    func steps(attempt: Int, seconds: Int) {
        var generator = Seeded(seed: 5)
        let steps: [Duration] = [.seconds(60), .seconds(300), .seconds(1800)]
        #expect(
            Backoff.steps(steps, jitter: 0).delay(attempt: attempt, using: &generator) == .seconds(seconds)
        )
        for _ in 0..<200 {
            let wait = Backoff.steps(steps, jitter: 0.2).delay(attempt: attempt, using: &generator).inSeconds
            #expect(wait >= Double(seconds) * 0.8 && wait <= Double(seconds) * 1.2)
        }
    }

    @Test("no steps are no wait")
    func noSteps() {
        var generator = Seeded(seed: 6)
        #expect(Backoff.steps([], jitter: 0.5).delay(attempt: 1, using: &generator) == .zero)
    }
}

/// Chance that can be repeated: SplitMix64.
struct Seeded: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
