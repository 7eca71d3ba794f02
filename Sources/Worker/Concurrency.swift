// How many jobs run at a time: a number for every queue, and others for some.

import ArgumentParser
import Store

/// The slots of each queue in this process.
struct Concurrency: Sendable, Equatable, CustomStringConvertible {
    static let slotsMax = 10_000

    private var overall = 64
    private var byQueue: [String: Int] = [:]

    /// 64 in each queue.
    init() {}

    /// Reads `32`, `send=128,process-inbound=16`, or `32,send=128`; throws what an operator can act on.
    init(parsing text: String) throws {
        var hasOverall = false
        for item in text.split(separator: ",", omittingEmptySubsequences: false) {
            let parts = item.split(separator: "=", omittingEmptySubsequences: false)
                .map { $0.trimmingPrefix(while: \.isWhitespace) }
                .map { String($0.reversed().trimmingPrefix(while: \.isWhitespace).reversed()) }
            guard parts.count <= 2, let last = parts.last, let slots = Int(last),
                (1...Self.slotsMax).contains(slots)
            else {
                throw ValidationError(
                    "--concurrency: “\(item)” is neither a number from 1 to \(Self.slotsMax) nor QUEUE=NUMBER."
                )
            }
            if parts.count == 1 {
                guard !hasOverall else {
                    throw ValidationError("--concurrency has two numbers for all queues: “\(text)”.")
                }
                hasOverall = true
                overall = slots
                continue
            }
            guard QueueName.all.contains(parts[0]) || parts[0] == QueueName.probe else {
                throw ValidationError(
                    "--concurrency: unknown queue \(parts[0]). Queues are: \(QueueName.all.joined(separator: ", "))."
                )
            }
            guard byQueue.updateValue(slots, forKey: parts[0]) == nil else {
                throw ValidationError("--concurrency names \(parts[0]) twice.")
            }
        }
    }

    /// Attempts at a time in one queue.
    func slots(of queue: String) -> Int { byQueue[queue] ?? overall }

    /// Queues that are named.
    var queues: [String] { byQueue.keys.sorted() }

    var description: String {
        ([String(overall)] + queues.map { "\($0)=\(slots(of: $0))" }).joined(separator: ",")
    }
}
