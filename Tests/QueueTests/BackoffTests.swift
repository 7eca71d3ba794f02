// How long failed jobs wait: a table where chance has no say, bounds where it has.

import Platform
import Queue
import TestSupport
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
        var generator = SeededGenerator(seed: 3)
        let waits = (0..<1000).map { _ in backoff.delay(attempt: attempt, using: &generator).inSeconds }
        #expect(waits.allSatisfy { $0 >= 0 && $0 <= seconds })
        #expect((waits.max() ?? 0) > seconds * 0.98 && (waits.min() ?? seconds) < seconds * 0.02)
    }

    @Test("chance spreads the waits over the whole of what is allowed, and never beyond")
    func jitter() {
        var generator = SeededGenerator(seed: 4)
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
        var generator = SeededGenerator(seed: 5)
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
        var generator = SeededGenerator(seed: 6)
        #expect(Backoff.steps([], jitter: 0.5).delay(attempt: 1, using: &generator) == .zero)
    }
}
