// Attachments: upload, metadata, and links to their bytes.

import Blobs
import Foundation
import HTTPTypes
import Hummingbird
import Mail
import NIOCore
import Platform
import Store

enum AttachmentRoutes {
    /// 25 MiB in base64, and something beside it.
    static let jsonBodyMax = 34 << 20
    static let rawBodyMax = Store.attachmentSizeMax
    static let fileNameMax = 255

    /// An upload as it is answered.
    private struct Uploaded: Encodable {
        let id: String
        let filename: String
        let mimeType: String
        let size: Int

        enum CodingKeys: String, CodingKey {
            case filename, size
            case id = "attachment_id"
            case mimeType = "mime_type"
        }
    }

    /// An attachment as callers see it.
    struct View: Encodable, Sendable {
        let attachment: Attachment

        enum CodingKeys: String, CodingKey {
            case filename, size, source
            case id = "attachment_id"
            case mimeType = "mime_type"
            case storage = "storage_type"
            case message = "message_id"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(attachment.id.hexadecimal, forKey: .id)
            try container.encode(attachment.fileName, forKey: .filename)
            try container.encode(attachment.mimeType, forKey: .mimeType)
            try container.encode(attachment.size, forKey: .size)
            try container.encode(attachment.blob.place.rawValue, forKey: .storage)
            try container.encode(attachment.source.rawValue, forKey: .source)
            let message = attachment.message.map { MessageRoutes.idPrefix + $0.description }
            try container.encode(message ?? "", forKey: .message)
        }
    }

    static func show(_ call: Call) async throws -> Answer {
        try Answer(.ok, Envelope(data: View(attachment: try await call.attachment())))
    }

    // MARK: Upload

    /// What an upload says of itself.
    fileprivate struct Named {
        let fileName: String
        let mimeType: String
        var contentID: String?
    }

    static func upload(_ call: Call) async throws -> Answer {
        let org = try call.caller.org
        let attachment = try await call.backend.uploads.withSpool { spool in
            let named =
                try call.isRawUpload
                ? await readRaw(call, into: &spool) : await readJSON(call, into: &spool)
            guard spool.count > 0 else { throw call.invalid("content", "must not be empty.") }
            let attachment = NewAttachment(
                fileName: named.fileName,
                mimeType: named.mimeType,
                contentID: named.contentID,
                blob: try await spool.blob(org: org)
            )
            try await call.backend.uploads.store(attachment, org: org, in: call.store)
            return attachment
        }
        let view = Uploaded(
            id: attachment.id.hexadecimal,
            filename: attachment.fileName,
            mimeType: attachment.mimeType,
            size: attachment.blob.source.size
        )
        return try Answer(.created, Envelope(data: view))
    }

    private static func readRaw(_ call: Call, into spool: inout UploadSpool) async throws -> Named {
        let named = try call.rawUploadName()
        try await call.readBody(max: rawBodyMax) { piece in
            try await spool.append(Array(piece.readableBytesView)[...])
        }
        return named
    }

    private static func readJSON(_ call: Call, into spool: inout UploadSpool) async throws -> Named {
        var upload = JSONUpload()
        do {
            try await call.readBody(max: jsonBodyMax) { piece in
                try await upload.received(Array(piece.readableBytesView)) { try await spool.append($0) }
            }
            let fields = try upload.finished()
            guard upload.hasContent else { throw call.invalid("content", "is required.") }
            return try call.checked(fields)
        } catch let fault as JSONUpload.Fault {
            switch fault {
            case .brokenBase64:
                throw call.invalid("content", "is not base64 (RFC 4648 §4, padded, without line breaks).")
            case .repeatedContent: throw call.invalid("content", "is given twice.")
            case .tooMuchBesides:
                throw APIError(
                    .contentTooLarge,
                    "Besides content the body may take at most \(JSONUpload.besidesMax >> 10) KiB."
                )
            }
        }
    }

    // MARK: Link

    private struct Link: Encodable {
        let url: String
        let expiresIn: Int
        let filename: String
        let mimeType: String
        let size: Int

        enum CodingKeys: String, CodingKey {
            case url, filename, size
            case expiresIn = "expires_in"
            case mimeType = "mime_type"
        }
    }

    static func url(_ call: Call) async throws -> Answer {
        let seconds = try call.query("expires_in", in: 1...86_400, default: 3600)
        let attachment = try await call.attachment()
        let blob = attachment.blob
        let url =
            switch blob.place {
            case .database:
                DownloadLink(attachment.id, org: blob.org, expiresAt: .now + .seconds(seconds))
                    .url(base: call.backend.linkBase, secrets: call.store.secrets)
            case .s3:
                try call.store.blobs.temporaryURL(
                    of: blob,
                    expiresIn: seconds,
                    disposition: ContentDisposition.attachment(named: attachment.fileName),
                    mimeType: attachment.servedType
                )
            }
        let link = Link(
            url: url,
            expiresIn: seconds,
            filename: attachment.fileName,
            mimeType: attachment.mimeType,
            size: attachment.size
        )
        return try Answer(.ok, Envelope(data: link))
    }
}

extension Attachment {
    /// The type as a header may say it; what came by mail may be anything.
    var servedType: String { MediaType.isValid(mimeType) ? mimeType : MediaType.unknown }
}

extension Call {
    /// The attachment that the path names.
    fileprivate func attachment() async throws -> Attachment {
        guard let id = context.parameters.get("attachment_id").flatMap({ AttachmentID(hexadecimal: $0) }),
            let attachment = try await store.attachment(id, org: caller.org)
        else { throw APIError.notFound("Attachment") }
        return attachment
    }

    private var declaredType: String? { request.headers[.contentType].flatMap { $0.isEmpty ? nil : $0 } }

    /// Named by a header or of another type than JSON: the body itself is the content.
    ///
    /// Clients say JSON of every body, and curl says a form of any.
    fileprivate var isRawUpload: Bool {
        if request.headers[.other("X-Filename")] != nil { return true }
        guard let declaredType else { return false }
        return !Self.saysNothing(declaredType)
    }

    private static func saysNothing(_ type: String) -> Bool {
        let bare = type.prefix { $0 != ";" }.lowercased().filter { $0 != " " }
        return bare == "application/json" || bare == "application/x-www-form-urlencoded"
    }

    fileprivate func rawUploadName() throws -> AttachmentRoutes.Named {
        let type = declaredType.flatMap { Self.saysNothing($0) ? nil : $0 }
        if let type, type.lowercased().hasPrefix("multipart/") {
            throw APIError(
                .unsupportedMediaType,
                "Forms are not read: send the bytes themselves with X-Filename, or JSON with base64."
            )
        }
        if let type, !MediaType.isValid(type) { throw invalid("Content-Type", "must be type/subtype.") }
        let name = request.headers[.other("X-Filename")] ?? "attachment"
        try checkFileName(name, "X-Filename")
        return .init(fileName: name, mimeType: type ?? MediaType.ofFile(named: name) ?? MediaType.unknown)
    }

    fileprivate func checked(_ fields: JSONUpload.Fields) throws -> AttachmentRoutes.Named {
        try checkFileName(fields.filename, "filename")
        guard MediaType.isValid(fields.mimeType) else { throw invalid("mime_type", "must be type/subtype.") }
        if let id = fields.contentID {
            guard id.utf8.count <= 200, References.valid(["<\(id)>"]).count == 1 else {
                throw invalid(
                    "content_id",
                    "must be an identifier such as logo@example, without angle brackets."
                )
            }
        }
        return .init(fileName: fields.filename, mimeType: fields.mimeType, contentID: fields.contentID)
    }

    private func checkFileName(_ name: String, _ path: String) throws {
        guard !name.isEmpty, name.unicodeScalars.count <= AttachmentRoutes.fileNameMax,
            !name.unicodeScalars.contains(where: { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) })
        else {
            throw invalid(
                path,
                "must be 1 to \(AttachmentRoutes.fileNameMax) characters without control characters."
            )
        }
    }
}
