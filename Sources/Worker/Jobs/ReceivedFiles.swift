// The files of a received mail, as they are stored.

import Blobs
import Crypto
import Foundation
import Mail
import Platform
import Store

enum ReceivedFiles {
    /// Files of one mail that get a row of their own; those behind stay in the raw mail.
    static let countMax = 200
    private static let nameMax = 255

    /// Every file of a mail, decoded; together they are smaller than the mail.
    static func of(_ mail: ParsedMessage, org: OrgID) -> [NewAttachment] {
        mail.attachments.prefix(countMax).map { file in
            let bytes = mail.bytes(of: file.part)
            return NewAttachment(
                fileName: String(file.fileName.withoutNUL.prefix(nameMax)),
                mimeType: MediaType.isValid(file.mimeType) ? file.mimeType : MediaType.unknown,
                contentID: file.contentID.map { String($0.withoutNUL.prefix(nameMax)) },
                isInline: file.isInline,
                blob: NewBlob(
                    org: org,
                    source: BlobSource(bytes),
                    sha256: Array(SHA256.hash(data: bytes))
                )
            )
        }
    }
}
