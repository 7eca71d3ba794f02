// The files of a message on its way out. They are the largest thing that a worker holds, so what all messages of this
// process hold together is bounded; a message that finds no room comes again a little later.

import Blobs
import Database
import Mail
import Platform
import Store

/// Loads attachments within a bound.
struct AttachedFiles: Sendable {
    /// Bytes of attachments in memory at a time.
    ///
    /// Composed, signed and on its way to the socket a message takes about four times as much.
    static let bytesMax = 64 << 20
    /// How long a message waits for room before it gives its place in the queue to others.
    static let patience: Duration = .seconds(5)

    private static let missing = MessageComposer.Unsendable(
        reason: "An attachment of the message is not there any more."
    )

    let store: Store
    let budget: Budget
    var patience = Self.patience

    init(_ store: Store, bytesMax: Int = Self.bytesMax) {
        self.store = store
        budget = Budget(bytesMax)
    }

    /// Runs `body` with the message's files in memory; nil when there was no room.
    ///
    /// The room is held until `body` returns.
    func with<Value>(
        filesOf message: OutboundMessage,
        _ body: ([DraftAttachment]) async throws -> Value
    ) async throws -> Value? {
        guard !message.attachments.isEmpty else { return try await body([]) }
        let attachments = try await store.attachments(message.attachments, as: .worker, org: message.org)
        guard attachments.count == message.attachments.count else { throw Self.missing }
        let size = attachments.reduce(0) { $0 + $1.size }
        guard await budget.take(size, within: patience) else { return nil }
        defer { budget.give(size) }
        return try await body(load(attachments))
    }

    private func load(_ attachments: [Attachment]) async throws -> [DraftAttachment] {
        var files: [DraftAttachment] = []
        for attachment in attachments {
            let content: [UInt8]
            do {
                content = try await store.blobs.readAll(attachment.blob, as: .worker)
            } catch BlobFault.missing {
                throw Self.missing
            }
            files.append(attachment.draft(content: content))
        }
        return files
    }
}
