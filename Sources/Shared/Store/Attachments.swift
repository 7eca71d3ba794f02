// Attachments: files that were uploaded to be sent, and files that came with mail.

package import Blobs
package import Database
package import Mail
package import Platform

/// A file of an organization, without its bytes.
package struct Attachment: Sendable {
    package enum Source: String, Sendable, Column {
        case upload, email
    }

    package let id: AttachmentID
    package let fileName: String
    package let mimeType: String
    package let size: Int
    package let source: Source
    /// The first message that carried it; nil until then.
    package let message: MessageID?
    package let blob: StoredBlob
    /// Without angle brackets.
    package let contentID: String?

    init(_ row: Row, org: OrgID) throws {
        id = try row("id")
        fileName = try row("filename")
        mimeType = try row("mime_type")
        size = try row("size_bytes")
        source = try row("source")
        message = try row("message_id")
        contentID = try row("content_id")
        blob = StoredBlob(id: try row("blob_id"), org: org, size: size, place: try row("storage"))
    }
}

/// A file that is about to be stored.
package struct NewAttachment: Sendable {
    package let id = AttachmentID()
    package let fileName: String
    package let mimeType: String
    package let contentID: String?
    package let isInline: Bool
    package let blob: NewBlob

    /// A file with its bytes; the texts hold no NUL.
    package init(
        fileName: String,
        mimeType: String,
        contentID: String? = nil,
        isInline: Bool = false,
        blob: NewBlob
    ) {
        self.fileName = fileName
        self.mimeType = mimeType
        self.contentID = contentID
        self.isInline = isInline
        self.blob = blob
    }
}

extension Store {
    /// Most bytes of one uploaded attachment.
    package static let attachmentSizeMax = 25 << 20
    /// Most bytes of a message with everything in it, as it is handed to SMTP.
    package static let messageSizeMax = 40 << 20

    /// Stores an upload; when this returns, it is there.
    ///
    /// Bytes that go outside the database go first; the transaction after that is short.
    package func add(_ upload: NewAttachment, org: OrgID) async throws {
        let storage = blobs.storage
        try await storage.stage(upload.blob, as: .tenant(org))
        try await database.transaction(.tenant(org)) { transaction in
            try await storage.keep(upload.blob, in: transaction)
            try await transaction.query(
                Self.insert(upload, as: upload.id, source: .upload, message: nil, org: org)
            )
        }
    }

    /// One attachment; nil when the organization has none of this id.
    package func attachment(_ id: AttachmentID, org: OrgID) async throws -> Attachment? {
        try await attachments([id], as: .tenant(org), org: org).first
    }

    /// What is known of these attachments, in their order; those that are not there are left out.
    package func attachments(
        _ ids: [AttachmentID],
        as access: Access,
        org: OrgID
    ) async throws -> [Attachment] {
        guard !ids.isEmpty else { return [] }
        let rows = try await database.query(
            access,
            """
            SELECT a.id, a.filename, a.mime_type, a.size_bytes, a.source, a.message_id, a.content_id, a.blob_id,
                b.storage
            FROM attachments a JOIN blobs b ON b.org_id = a.org_id AND b.id = a.blob_id
            WHERE a.org_id = \(org) AND a.id = ANY (\(ids)) AND b.state = 'stored'
            """
        )
        let found = try rows.map { try Attachment($0, org: org) }
        return ids.compactMap { id in found.first { $0.id == id } }
    }

    static func insert(
        _ file: NewAttachment,
        as id: AttachmentID,
        source: Attachment.Source,
        message: MessageID?,
        org: OrgID
    ) -> Statement {
        """
        INSERT INTO attachments (org_id, id, filename, mime_type, size_bytes, sha256, source, message_id, blob_id,
            content_id, is_inline)
        VALUES (\(org), \(id), \(file.fileName), \(file.mimeType), \(file.blob.source.size), \(file.blob.sha256),
            \(source), \(message), \(file.blob.id), \(file.contentID), \(file.isInline))
        """
    }
}

// MARK: Sending

extension Store {
    /// The attachments of a submission, in its order; refuses the submission when one is not there.
    func attachments(of submission: Submission, org: OrgID) async throws -> [Attachment] {
        let found = try await attachments(submission.attachments, as: .tenant(org), org: org)
        guard found.count == submission.attachments.count else {
            throw StoreFault.unknown("Attachment not found")
        }
        return found
    }

    /// The statements that make attachments part of a message that carries them.
    static func attach(
        _ attachments: [Attachment],
        to message: MessageID,
        thread: ThreadID,
        org: OrgID
    ) -> [Statement] {
        guard !attachments.isEmpty else { return [] }
        return [
            """
            UPDATE messages SET attachments = \(attachments.map(\.id.hexadecimal))
            WHERE org_id = \(org) AND id = \(message)
            """,
            "UPDATE threads SET has_attachments = true WHERE org_id = \(org) AND id = \(thread)",
            """
            UPDATE attachments SET message_id = \(message)
            WHERE org_id = \(org) AND id = ANY (\(attachments.map(\.id))) AND message_id IS NULL
            """,
        ]
    }

    /// Refuses what would be too large when it is composed; a message without attachments never is.
    static func checkSize(of draft: @autoclosure () -> Draft, with attachments: [Attachment]) throws {
        guard !attachments.isEmpty else { return }
        var draft = draft()
        draft.attachments = attachments.map { $0.draft(content: []) }
        guard draft.composedSize(withContents: attachments.map(\.size)) <= messageSizeMax else {
            throw StoreFault.tooLarge(
                "The message with its attachments is larger than \(messageSizeMax >> 20) MiB as it is sent (attachments grow by a third)."
            )
        }
    }
}

extension Attachment {
    /// As composing takes it.
    package func draft(content: [UInt8]) -> DraftAttachment {
        DraftAttachment(fileName: fileName, mimeType: mimeType, content: content, contentID: contentID)
    }
}

// MARK: Receiving

/// A file of a received mail, its bytes staged: each inbox that gets the mail gets a row for it.
package struct InboundFiles: Sendable {
    fileprivate let files: [NewAttachment]

    var names: [String] { files.map(\.fileName) }

    /// A mail without files.
    package static let none = InboundFiles(files: [])
}

extension Store {
    /// Brings the files of a received mail to where its transaction can take them up.
    package func stage(_ files: [NewAttachment]) async throws -> InboundFiles {
        for file in files { try await blobs.storage.stage(file.blob, as: .worker) }
        return InboundFiles(files: files)
    }

    /// Takes staged bytes up, once for all inboxes.
    func keep(_ files: InboundFiles, in transaction: Transaction) async throws {
        for file in files.files { try await blobs.storage.keep(file.blob, in: transaction) }
    }

    /// A row for each file in one message: the ids as the message lists them, and the statements.
    static func attach(
        _ files: InboundFiles,
        to message: MessageID,
        thread: ThreadID,
        org: OrgID
    ) -> (ids: [String], statements: [Statement]) {
        guard !files.files.isEmpty else { return ([], []) }
        var ids: [String] = []
        var statements: [Statement] = [
            "UPDATE threads SET has_attachments = true WHERE org_id = \(org) AND id = \(thread)"
        ]
        for file in files.files {
            let id = AttachmentID()
            ids.append(id.hexadecimal)
            statements.append(insert(file, as: id, source: .email, message: message, org: org))
        }
        return (ids, statements)
    }
}
