// An attachment's bytes by a signed link: whoever has the link may read, until it expires.

import Blobs
import Database
import Foundation
import HTTPTypes
import Hummingbird
import Mail
import NIOCore
import Platform
import Store

/// A link to one attachment that needs no key.
struct DownloadLink {
    private static let purpose = "attachment/download"
    private static let macBytes = 32

    let id: AttachmentID
    let org: OrgID
    /// Whole seconds since 1970.
    let expires: Int64

    init(_ id: AttachmentID, org: OrgID, expiresAt time: Timestamp) {
        self.id = id
        self.org = org
        expires = time.microseconds / 1_000_000
    }

    /// Reads what `url` wrote; nil when any of it is not ours.
    init?(_ id: AttachmentID, expires: String?, signature: String?, secrets: SecretBox) {
        guard let expires = expires.flatMap(Int64.init), let signature, signature.utf8.count <= 128,
            let bytes = [UInt8](base64URL: signature), bytes.count == 16 + Self.macBytes,
            let org = OrgID(bytes: bytes.prefix(16))
        else { return nil }
        self.id = id
        self.org = org
        self.expires = expires
        guard secrets.verifies(Array(bytes.dropFirst(16)), of: signed, purpose: Self.purpose) else {
            return nil
        }
    }

    var hasExpired: Bool { Timestamp.now.microseconds >= expires * 1_000_000 }

    func url(base: String, secrets: SecretBox) -> String {
        // The organization is in it because the row is found by it; nobody can name another one.
        let signature = (org.bytes + secrets.sign(signed, purpose: Self.purpose)).base64URL
        return "\(base)/v1/attachments/\(id.hexadecimal)/download?expires=\(expires)&signature=\(signature)"
    }

    private var signed: String { "\(org)/\(id)/\(expires)" }
}

enum AttachmentDownload {
    /// A client that does not take a chunk in this time has gone, or is too slow to serve.
    private static let stallMax: TimeAmount = .seconds(60)

    static func get(_ call: Call) async throws -> Answer {
        guard
            let id = call.context.parameters.get("attachment_id").flatMap({ AttachmentID(hexadecimal: $0) }),
            let link = DownloadLink(
                id,
                expires: call.query("expires"),
                signature: call.query("signature"),
                secrets: call.store.secrets
            )
        else {
            throw APIError(.notFound, "Nothing is behind this link: it is incomplete or was altered.")
        }
        guard !link.hasExpired else { throw APIError(.gone, "This link has expired; ask for a new one.") }
        guard let attachment = try await call.store.attachment(id, org: link.org) else {
            throw APIError.notFound("Attachment")
        }
        return Answer(.ok, headers(of: attachment), body(of: attachment, call))
    }

    /// A file from anybody must not act as a page of ours.
    private static func headers(of attachment: Attachment) -> HTTPFields {
        [
            .contentType: attachment.servedType,
            .contentDisposition: ContentDisposition.attachment(named: attachment.fileName),
            .xContentTypeOptions: "nosniff",
            .contentSecurityPolicy: "sandbox; default-src 'none'",
            .cacheControl: "private, no-store",
            .acceptRanges: "none",
        ]
    }

    /// A chunk at a time: between two of them nothing of the database is held, however slowly they are taken.
    private static func body(of attachment: Attachment, _ call: Call) -> ResponseBody {
        let blob = attachment.blob
        let access = Access.tenant(blob.org)
        let blobs = call.store.blobs
        let channel = call.context.channel
        return ResponseBody(contentLength: blob.size) { writer in
            var position = 0
            while position < blob.size {
                let end = min(position + DatabaseBlobs.chunkBytes, blob.size)
                let chunk = try await blobs.read(position..<end, of: blob, as: access)
                let alarm = channel.eventLoop.scheduleTask(in: stallMax) { channel.close(promise: nil) }
                defer { alarm.cancel() }
                try await writer.write(ByteBuffer(bytes: chunk))
                position = end
            }
            try await writer.finish(nil)
        }
    }
}
