// The data of one message as it comes: kept, and looked at on its way.

import Blobs
import Mail
import Store

/// A message that is being read.
struct IncomingMessage: Sendable {
    private var bytes: InboundBytes
    private var counter = ReceivedCounter()
    private var fault: SpoolFault?

    init(trace: [UInt8], folder: String) { bytes = InboundBytes(trace: trace, folder: folder) }

    /// How many Received fields it has.
    var receivedFields: Int { counter.count }

    /// Takes some more of it; after a fault it is read to its end and dropped.
    mutating func append(_ chunk: [UInt8]) async {
        counter.append(chunk)
        guard fault == nil else { return }
        do throws(SpoolFault) {
            try await bytes.append(chunk)
        } catch {
            fault = error
        }
    }

    /// The whole message; throws what went wrong on the way.
    mutating func finished() async throws(SpoolFault) -> InboundContentBytes {
        if let fault { throw fault }
        return try await bytes.finished()
    }

    /// What the client hears when a message cannot be kept: never that it is at fault.
    static func refusal(of error: any Error) -> Reply {
        error is SpoolFault ? Reply.insufficientStorage : Reply.temporaryFailure
    }
}
