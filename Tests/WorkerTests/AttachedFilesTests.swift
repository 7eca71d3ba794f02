// Messages with files in the hands of a worker: what is gone cannot be sent, and what finds no room waits.

import Blobs
import Database
import Mail
import Platform
import Queue
import Store
import Testing

@testable import Worker

@Suite("A send job with attachments", .timeLimit(.minutes(2)))
struct AttachedFilesTests {
    private func upload(_ fixture: SendFixture, _ size: Int) async throws -> AttachmentID {
        let file = NewAttachment(
            fileName: "a.bin",
            mimeType: "application/octet-stream",
            blob: NewBlob(
                org: fixture.org,
                source: BlobSource([UInt8](repeating: 1, count: size)),
                sha256: []
            )
        )
        try await fixture.store.add(file, org: fixture.org)
        return file.id
    }

    @Test(
        "gives its recipients up when a file is gone, and says so",
        arguments: [
            "DELETE FROM attachments", "DELETE FROM blob_chunks", "UPDATE blobs SET state = 'removing'",
        ]
    )
    func missing(_ loss: String) async throws {
        try await SendFixture.with { fixture in
            let file = try await upload(fixture, 10)
            try await fixture.send(["one@x.test"]) { $0.attachments = [file] }
            try await fixture.store.database.query(.worker, "\(raw: loss)")
            try await fixture.run(fixture.work(to: nil))
            #expect(try await fixture.recipients == ["one@x.test failed"])
            let replies = try await fixture.lines("SELECT last_reply AS line FROM recipients")
            #expect(replies == ["An attachment of the message is not there any more."])
        }
    }

    @Test(
        "that finds no room goes back without losing a try, and is sent when there is room; others pass meanwhile"
    )
    func noRoom() async throws {
        try await SendFixture.with { fixture in
            let peer = try await SMTPPeer([
                SMTPPeer.session(["250 2.1.5 Ok"]), SMTPPeer.session(["250 2.1.5 Ok"]),
            ])
            let file = try await upload(fixture, 1000)
            try await fixture.send(["large@x.test"]) { $0.attachments = [file] }
            try await fixture.send(["small@y.test"])
            var files = AttachedFiles(fixture.store, bytesMax: 1500)
            files.patience = .zero
            let held = files
            #expect(await held.budget.take(600, within: .zero))
            let first = try await fixture.run(fixture.work(to: peer) { $0.files = held })
            #expect(first.contains { if case .snooze = $0 { true } else { false } })
            #expect(try await fixture.recipients == ["large@x.test queued", "small@y.test delivered"])
            #expect(
                try await fixture.lines("SELECT attempt::text AS line FROM jobs WHERE state = 'queued'") == [
                    "0"
                ]
            )
            held.budget.give(600)
            try await fixture.makeDue()
            try await fixture.run(fixture.work(to: peer) { $0.files = held })
            await peer.finish()
            #expect(peer.faults == [])
            #expect(try await fixture.recipients == ["large@x.test delivered", "small@y.test delivered"])
            #expect(held.budget.left == 1500)
        }
    }
}
