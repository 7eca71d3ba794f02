// First come, first served.

/// A queue of requests that is cheap at both ends.
struct WaitingLine {
    /// Emptied places are nil, so that what has been served is not kept in memory.
    private var requests: [Request?] = []
    private var head = 0

    var count: Int { requests.count - head }
    var isEmpty: Bool { count == 0 }

    mutating func append(_ request: Request) { requests.append(request) }

    /// Puts back what was taken too early.
    mutating func prepend(_ request: Request) { requests.insert(request, at: head) }

    mutating func removeFirst() -> Request? {
        guard head < requests.count else { return nil }
        let request = requests[head]
        requests[head] = nil
        head += 1
        if head == requests.count {
            requests.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 1024 {
            requests.removeFirst(head)
            head = 0
        }
        return request
    }

    /// Takes out what has waited too long, and forgets what nobody waits for any more.
    mutating func removeLate(_ now: ContinuousClock.Instant) -> [Request] {
        let standing = requests[head...].compactMap(\.self).filter(\.isWaiting)
        head = 0
        requests = standing.filter { $0.deadline > now }
        return standing.filter { $0.deadline <= now }
    }
}
