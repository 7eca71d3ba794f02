// Blobs: bytes as rows, what is given up, and the files of received mail.

import Blobs
import Database
import Foundation
import Mail
import Platform
import Testing

@testable import Store

@Suite("Blobs")
struct BlobTests {
    private func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 13) } }

    private func keep(_ bytes: [UInt8], _ store: Store, _ org: OrgID) async throws -> BlobID {
        let blob = NewBlob(org: org, source: BlobSource(bytes), sha256: [])
        try await store.blobs.storage.stage(blob, as: .tenant(org))
        try await store.database.transaction(.tenant(org)) { transaction in
            try await store.blobs.storage.keep(blob, in: transaction)
        }
        return blob.id
    }

    private func count(_ store: Store, _ table: String) async throws -> Int {
        try only(try await store.database.query(.worker, "SELECT count(*) AS n FROM \(raw: table)"))("n")
    }

    @Test(
        "are read back in whole and in ranges across chunks",
        arguments: [0, 1, 262_143, 262_144, 262_145, 700_000]
    )
    func ranges(_ size: Int) async throws {
        try await withStore { store in
            let org = OrgID()
            let content = bytes(size)
            let id = try await keep(content, store, org)
            let blob = try #require(try await store.blobs.find(id, as: .tenant(org), org: org))
            #expect(blob.size == size)
            #expect(try await store.blobs.readAll(blob, as: .tenant(org)) == content)
            for range in [0..<min(10, size), size / 2..<size, max(0, size - 1)..<size, 262_140..<262_150]
            where range.upperBound <= size {
                #expect(
                    try await store.blobs.read(range, of: blob, as: .tenant(org)) == Array(content[range])
                )
            }
            #expect(try await store.blobs.find(id, as: .tenant(OrgID()), org: org) == nil)
        }
    }

    @Test("bytes that are missing are a fault, never fewer bytes")
    func missing() async throws {
        try await withStore { store in
            let org = OrgID()
            let id = try await keep(bytes(600_000), store, org)
            let blob = try #require(try await store.blobs.find(id, as: .worker, org: org))
            try await store.database.query(.worker, "DELETE FROM blob_chunks WHERE position = 1")
            await #expect(throws: BlobFault.missing) { _ = try await store.blobs.readAll(blob, as: .worker) }
        }
    }

    @Test("that are given up vanish from readers with the transaction, and from the tables with the sweep")
    func release() async throws {
        try await withStore { store in
            let org = OrgID()
            let gone = try await keep(bytes(600_000), store, org)
            let stays = try await keep([1], store, org)
            try await store.database.query(.tenant(org), Blobs.release([gone], org: org))
            #expect(try await store.blobs.find(gone, as: .tenant(org), org: org) == nil)
            #expect(try await store.blobs.sweep() == 1)
            #expect(try await store.blobs.sweep() == 0)
            #expect(try await count(store, "blobs") == 1)
            #expect(try await count(store, "blob_chunks") == 1)
            #expect(try await store.blobs.find(stays, as: .tenant(org), org: org) != nil)
        }
    }

    @Test("that were staged and never committed are removed after their time, a few at each sweep")
    func abandoned() async throws {
        try await withStore { store in
            let org = OrgID()
            for age in [0, 10, 20, 30] {
                try await store.database.query(
                    .tenant(org),
                    """
                    INSERT INTO blobs (org_id, id, size_bytes, state, created_at)
                    VALUES (\(org), \(BlobID()), 1, 'pending', now() - \(age) * interval '1 minute')
                    """
                )
            }
            #expect(try await store.blobs.sweep() == 0)
            #expect(try await store.blobs.sweep(pendingMax: .seconds(300), limit: 2) == 2)
            #expect(try await store.blobs.sweep(pendingMax: .seconds(300), limit: 2) == 1)
            #expect(try await store.blobs.sweep(pendingMax: .seconds(300)) == 0)
            #expect(try await count(store, "blobs") == 1)
        }
    }

    @Test("in a bucket that this program does not know are refused with the variable's name")
    func unknownStorage() async throws {
        try await withStore { store in
            let blob = StoredBlob(id: BlobID(), org: OrgID(), size: 1, place: .s3)
            await #expect {
                _ = try await store.blobs.readAll(blob, as: .worker)
            } throws: { error in
                "\(error)".contains("COMMUNE_BLOBS")
            }
        }
    }
}

@Suite("Files of received mail")
struct InboundFileTests {
    private func mail(_ inboxes: [Inbox], _ org: OrgID) -> ReceivedMail {
        ReceivedMail(
            id: ReceivedMailID(),
            sender: "a@elsewhere.test",
            recipients: inboxes.map { InboundRecipient(address: $0.address, org: org, inbox: $0.id) },
            clientAddress: "192.0.2.1",
            clientName: "elsewhere.test",
            tls: nil,
            receivedAt: .now,
            bytes: []
        )
    }

    private func place(_ store: Store, in inboxes: [Inbox], _ org: OrgID) async throws {
        var content = InboundContent(rfcMessageID: "<\(UUID().uuidString)@elsewhere.test>")
        content.files = try await store.stage([
            NewAttachment(
                fileName: "a.pdf",
                mimeType: "application/pdf",
                blob: NewBlob(org: org, source: BlobSource([1, 2, 3]), sha256: [9])
            ),
            NewAttachment(
                fileName: "b.png",
                mimeType: "image/png",
                contentID: "b@x",
                isInline: true,
                blob: NewBlob(org: org, source: BlobSource([4]), sha256: [9])
            ),
        ])
        let filled = content
        let mail = mail(inboxes, org)
        try await store.database.transaction(.worker) { transaction in
            try await store.place(filled, of: mail, org: org, in: transaction)
        }
    }

    private func inbox(_ store: Store, _ name: String, _ org: OrgID) async throws -> Inbox {
        let domain = PlatformDomain(id: DomainID(), name: "agents.test")
        return try await store.createInbox(org: org, localPart: name, displayName: nil, on: domain)
    }

    @Test("are attachments of each inbox's message, and their bytes are kept once")
    func twoInboxes() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let inboxes = [try await inbox(store, "one", org), try await inbox(store, "two", org)]
            try await place(store, in: inboxes, org)
            #expect(try await store.database.query(.worker, "SELECT FROM blobs").count == 2)
            var seen: Set<AttachmentID> = []
            for inbox in inboxes {
                var filter = MessageFilter()
                filter.inbox = inbox.id
                let page = try await store.messages(org: org, filter, order: .ascending, after: nil, limit: 5)
                let message = try #require(page.elements.first)
                let ids = message.attachments.compactMap { AttachmentID(hexadecimal: $0) }
                let found = try await store.attachments(ids, as: .tenant(org), org: org)
                #expect(found.map(\.fileName) == ["a.pdf", "b.png"])
                #expect(found.map(\.contentID) == [nil, "b@x"])
                #expect(found.allSatisfy { $0.message == message.id && $0.source == .email })
                let first = try #require(found.first)
                #expect(try await store.blobs.readAll(first.blob, as: .tenant(org)) == [1, 2, 3])
                seen.formUnion(ids)
                let threads = try await store.threads(
                    org: org,
                    inbox: inbox.id,
                    domain: nil,
                    order: .ascending,
                    after: nil,
                    limit: 5
                )
                #expect(threads.elements.map(\.hasAttachments) == [true])
            }
            #expect(seen.count == 4)
        }
    }

    @Test("leave nothing when the mail's inbox is gone")
    func noInbox() async throws {
        try await withStore { store in
            let org = try await store.createOrganization(named: "Acme")
            let inbox = try await inbox(store, "one", org)
            try await store.database.query(.tenant(org), "UPDATE inboxes SET deleted_at = now()")
            try await place(store, in: [inbox], org)
            #expect(try await store.database.query(.worker, "SELECT FROM blobs").isEmpty)
            #expect(try await store.database.query(.worker, "SELECT FROM attachments").isEmpty)
        }
    }
}
