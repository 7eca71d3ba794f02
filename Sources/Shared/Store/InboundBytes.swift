// The bytes of a mail on its way in: in memory while they are few, then in a file without a name. So memory does not
// grow with the size of the messages times the number of connections.

package import Blobs
import Crypto
import Foundation

/// Our trace and the message behind it, growing.
package struct InboundBytes: Sendable {
    /// Most bytes of one message that are held in memory.
    package static let memoryMax = 64 * 1024

    private let folder: String
    private var bytes: [UInt8]
    private var file: SpoolFile?
    private var fileSize = 0
    private var hash = SHA256()

    /// Begins with the trace, which takes no part in telling whether a mail is here already: it differs at every try.
    ///
    /// `folder` must be on a disk.
    package init(trace: [UInt8], folder: String) {
        bytes = trace
        self.folder = folder
    }

    /// Bytes so far.
    package var size: Int { fileSize + bytes.count }

    /// Takes the next bytes of the message; throws when the disk does not take them.
    package mutating func append(_ chunk: [UInt8]) async throws(SpoolFault) {
        hash.update(data: chunk)
        bytes += chunk
        if bytes.count > Self.memoryMax { try await spill() }
    }

    /// The whole, when the message has ended.
    package mutating func finished() async throws(SpoolFault) -> InboundContentBytes {
        // What comes last goes to the file too, so that there is one place to read from.
        if file != nil, !bytes.isEmpty { try await spill() }
        return InboundContentBytes(
            size: size,
            digest: Array(hash.finalize()),
            place: file.map { .file($0.source(size: fileSize)) } ?? .memory(bytes)
        )
    }

    private mutating func spill() async throws(SpoolFault) {
        let file: SpoolFile
        if let open = self.file { file = open } else { file = try SpoolFile(in: folder) }
        self.file = file
        do {
            try await file.write(bytes, at: fileSize)
        } catch {
            throw error as? SpoolFault ?? .failed("\(error)")
        }
        fileSize += bytes.count
        bytes = []
    }
}

/// A whole mail as it came, with our trace in front.
package struct InboundContentBytes: Sendable {
    enum Place: Sendable {
        case memory([UInt8])
        case file(BlobSource)
    }

    /// Bytes in all.
    package let size: Int
    /// SHA-256 of the message without our trace.
    let digest: [UInt8]
    let place: Place

    init(size: Int, digest: [UInt8], place: Place) {
        (self.size, self.digest, self.place) = (size, digest, place)
    }

    /// What is small and in memory already.
    package init(trace: [UInt8], message: [UInt8]) {
        self.init(
            size: trace.count + message.count,
            digest: Array(SHA256.hash(data: message)),
            place: .memory(trace + message)
        )
    }

    /// In a file, and to be stored piece by piece.
    var isSpooled: Bool {
        if case .file = place { true } else { false }
    }
}
