// A temporary file without a name: what is on its way from a slow client to a storage. It is gone when its descriptor
// is closed, also after `kill -9`.

import Glibc
import NIOPosix

/// Why a temporary file could not be made, written or read.
package enum SpoolFault: Error, Sendable, Equatable, CustomStringConvertible {
    /// The disk, or what we may use of it, is full.
    case full
    case failed(String)

    package var description: String {
        switch self {
        case .full: "The disk for temporary files is full."
        case .failed(let reason): "A temporary file cannot be used: \(reason)."
        }
    }

    init(_ number: Int32) {
        self =
            [ENOSPC, EDQUOT, EFBIG].contains(number) ? .full : .failed(String(cString: strerror(number)))
    }
}

/// A nameless file that grows at its end.
///
/// One task at a time writes; reads may come from any.
package final class SpoolFile: Sendable {
    private let descriptor: Int32

    /// Opens a file in a folder, which must be on a disk and not in memory.
    package init(in folder: String) throws(SpoolFault) {
        var opened = open(folder, Self.temporary | O_RDWR | O_CLOEXEC, 0o600)
        // Some file systems (NFS, some overlays) have no O_TMPFILE.
        if opened < 0, [EOPNOTSUPP, EISDIR, EINVAL].contains(errno) { opened = Self.openUnlinked(folder) }
        guard opened >= 0 else { throw SpoolFault(errno) }
        descriptor = opened
    }

    deinit { close(descriptor) }

    /// O_TMPFILE of Linux, which the C library shows to GNU programs only.
    private static let temporary = 0o20_000_000 | O_DIRECTORY

    private static func openUnlinked(_ folder: String) -> Int32 {
        var path = Array("\(folder)/commune-XXXXXX".utf8CString)
        let opened = mkstemp(&path)
        guard opened >= 0 else { return opened }
        unlink(path)
        _ = fcntl(opened, F_SETFD, FD_CLOEXEC)
        return opened
    }

    /// Writes all of the bytes at a position.
    package func write(_ bytes: [UInt8], at position: Int) async throws {
        try await Self.offPool { [descriptor] in
            try bytes.withUnsafeBytes { buffer in
                var done = 0
                while done < buffer.count {
                    let count = pwrite(
                        descriptor,
                        buffer.baseAddress?.advanced(by: done),
                        buffer.count - done,
                        position + done
                    )
                    if count < 0, errno == EINTR { continue }
                    guard count > 0 else { throw SpoolFault(count == 0 ? ENOSPC : errno) }
                    done += count
                }
            }
        }
    }

    /// Reads a range that was written before.
    package func read(_ range: Range<Int>) async throws -> [UInt8] {
        try await Self.offPool { [descriptor] in
            try [UInt8](unsafeUninitializedCapacity: range.count) { buffer, filled in
                while filled < range.count {
                    let count = pread(
                        descriptor,
                        buffer.baseAddress?.advanced(by: filled),
                        range.count - filled,
                        range.lowerBound + filled
                    )
                    if count < 0, errno == EINTR { continue }
                    guard count > 0 else {
                        throw count == 0 ? SpoolFault.failed("it ends early") : SpoolFault(errno)
                    }
                    filled += count
                }
            }
        }
    }

    /// The first `size` bytes as a source; it keeps the file open.
    package func source(size: Int) -> BlobSource {
        BlobSource(size: size) { [self] range in try await read(range) }
    }

    /// Calls that wait for a disk stay off Swift's threads (docs/decisions/0001).
    private static func offPool<Value: Sendable>(
        _ work: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await NIOThreadPool.singleton.runIfActive(work)
    }
}
