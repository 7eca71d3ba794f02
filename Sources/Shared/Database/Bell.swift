// Wakes a thread that waits in poll(2), so that it can wait for its mailbox and its socket at once.

import Glibc

/// A pipe whose readable end means: look at your mailbox.
final class Bell: Sendable {
    /// The end to poll for POLLIN.
    let descriptor: Int32
    private let writable: Int32

    /// Nil when the process has no file descriptor left.
    init?() {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return nil }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        descriptor = ends[0]
        writable = ends[1]
    }

    deinit {
        close(descriptor)
        close(writable)
    }

    func ring() {
        var byte: UInt8 = 1
        // A full pipe has rung already.
        _ = write(writable, &byte, 1)
    }

    func silence() {
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { buffer in
            _ = read(descriptor, buffer.baseAddress, buffer.count)
        }
    }

    /// Waits for the bell, `socket` (-1 for none) or the end of `duration` (nil: no end).
    func wait(orReadable socket: Int32 = -1, atMost duration: Duration?) -> (rang: Bool, readable: Bool) {
        withUnsafeTemporaryAllocation(of: pollfd.self, capacity: 2) { descriptors in
            descriptors[0] = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            descriptors[1] = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            let ready = poll(descriptors.baseAddress, 2, pollMilliseconds(duration))
            guard ready > 0 else { return (false, false) }
            let rang = descriptors[0].revents != 0
            if rang { silence() }
            return (rang, descriptors[1].revents != 0)
        }
    }
}

/// What poll(2) takes: milliseconds rounded up, so that a wait never ends before its time; -1 for no end.
func pollMilliseconds(_ duration: Duration?) -> Int32 {
    guard let duration else { return -1 }
    guard duration > .zero else { return 0 }
    let (seconds, attoseconds) = duration.components
    guard seconds < 1_000_000 else { return 1_000_000_000 }
    return Int32(seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
}
