// How many sessions a site may have at once, as a value: no clock, no lock, no network.
//
//   begin() while `running < limit` ─► session ─► end(how it went)
//
//   succeeded    one more at once
//   slowedDown   half as many: the site said 421 or 4.7.x, or broke off
//   unreachable  none for a while (5 s, doubled up to 10 min), then one, and from there up again
//   answered     nothing learnt: a refusal of this message says nothing about our pace

import NIOCore

/// The pace of one site.
struct Pace: Sendable {
    /// How a turn ended.
    enum End: Sendable, Equatable {
        case succeeded, answered, slowedDown, unreachable
        /// Nothing was asked of the site.
        case unused
    }

    /// Whether another session may begin.
    enum Verdict: Sendable, Equatable {
        case go, wait
        case rest(until: NIODeadline)
    }

    /// What a turn remembers of its beginning.
    struct Mark: Sendable {
        fileprivate let epoch: Int
        fileprivate let answers: Int
    }

    static let restFirst = Duration.seconds(5)
    static let restMax = Duration.seconds(600)

    /// Sessions that may be under way at once.
    private(set) var limit: Int
    private(set) var running = 0
    private let limitMax: Int
    private var restsUntil: NIODeadline?
    private var failuresInARow = 0
    /// Raised by each cut, so that sessions begun before it, which meet the same trouble, do not cut again.
    private var epoch = 0
    private var answers = 0

    init(limit: Int, limitMax: Int) {
        self.limit = limit
        self.limitMax = max(limit, limitMax)
    }

    func verdict(at now: NIODeadline) -> Verdict {
        if let restsUntil, now < restsUntil { return .rest(until: restsUntil) }
        return running < limit ? .go : .wait
    }

    mutating func begin() -> Mark {
        running += 1
        return Mark(epoch: epoch, answers: answers)
    }

    mutating func end(_ mark: Mark, _ end: End, at now: NIODeadline) {
        running -= 1
        switch end {
        case .unused:
            break
        case .succeeded, .answered:
            answers += 1
            failuresInARow = 0
            restsUntil = nil
            // A limit that nobody reaches says nothing about what the site bears.
            if end == .succeeded, limit < limitMax, running + 1 >= limit / 2 { limit += 1 }
        case .slowedDown:
            cut(mark, to: limit / 2)
        case .unreachable where mark.answers != answers:
            // The site answers others: too many at once, not away.
            cut(mark, to: limit / 2)
        case .unreachable:
            guard mark.epoch == epoch else { return }
            cut(mark, to: 1)
            let doublings = min(failuresInARow, 10)
            failuresInARow += 1
            restsUntil = now + min(Self.restFirst * (1 << doublings), Self.restMax)
        }
    }

    private mutating func cut(_ mark: Mark, to limit: Int) {
        guard mark.epoch == epoch else { return }
        epoch += 1
        self.limit = max(1, limit)
    }
}
