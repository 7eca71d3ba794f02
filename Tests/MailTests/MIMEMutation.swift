// Seeded randomness for tests that feed parsers with damaged input: the same run every time.

import Foundation
import Glibc
import TestSupport

/// Time that this thread has spent on a processor: other tests and other processes do not count.
enum ThreadTime {
    static func of(_ work: () throws -> Void) rethrows -> Duration {
        let start = now
        try work()
        return now - start
    }

    private static var now: Duration {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}

/// What the whole process takes of memory.
enum ProcessMemory {
    /// By how much the process grew at most while `work` ran, in bytes.
    static func peak(_ work: () throws -> Void) throws -> Int {
        let before = try size("VmRSS:")
        // proc(5): 5 sets the peak back to the size of now.
        try Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs"))
        try work()
        return try size("VmHWM:") - before
    }

    private static func size(_ name: String) throws -> Int {
        let status = try String(contentsOf: URL(filePath: "/proc/self/status"), encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix(name) }
        return (line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0) << 10
    }
}

enum Mutation {
    private static let interesting: [UInt8] =
        Array("\0\r\n\t \"\\<>()[],;:@=?.-_%&'/*#ä".utf8) + [0x80, 0xFF, 0x1B]

    /// Damages a few places: bytes change, go, come, or a stretch is doubled.
    static func apply(to bytes: inout [UInt8], using generator: inout SeededGenerator) {
        for _ in 0..<Int.random(in: 1...6, using: &generator) {
            guard !bytes.isEmpty else { return }
            let position = Int.random(in: 0..<bytes.count, using: &generator)
            let byte = interesting[Int.random(in: 0..<interesting.count, using: &generator)]
            switch Int.random(in: 0..<5, using: &generator) {
            case 0: bytes[position] = byte
            case 1: bytes.remove(at: position)
            case 2: bytes.insert(byte, at: position)
            case 3:
                let end = min(bytes.count, position + Int.random(in: 1...40, using: &generator))
                bytes.insert(contentsOf: bytes[position..<end], at: position)
            default:
                bytes.removeSubrange(
                    position..<min(bytes.count, position + Int.random(in: 1...20, using: &generator))
                )
            }
        }
    }
}
