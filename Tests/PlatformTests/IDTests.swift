// Identifiers: version 7, in the order in which they were made.

import Foundation
import Testing

@testable import Platform

@Suite("ID")
struct IDTests {
    @Test("an id is a UUID of version 7 with the variant of RFC 9562")
    func version() {
        for _ in 0..<100 {
            let bytes = MessageID().uuid.uuid
            #expect(bytes.6 >> 4 == 7)
            #expect(bytes.8 >> 6 == 0b10)
        }
    }

    @Test("ids made at later microseconds sort later, across milliseconds and seconds")
    func order() {
        let start: Int64 = 1_742_027_191_998_990
        let ids = (0..<3_000).map { UUID.version7(at: Timestamp(microseconds: start + Int64($0))).uuidString }
        #expect(ids == ids.sorted())
        #expect(Set(ids).count == ids.count)
    }

    @Test("the first 48 bits are the milliseconds")
    func milliseconds() {
        let id = UUID.version7(at: Timestamp(microseconds: 0x0123_4567_89ab * 1000)).uuidString.lowercased()
        #expect(id.hasPrefix("01234567-89ab-7000-"))
    }

    @Test("ids of one moment differ")
    func unique() {
        let ids = (0..<10_000).map { _ in UUID.version7(at: Timestamp(microseconds: 0)) }
        #expect(Set(ids).count == ids.count)
    }

    @Test("an id reads its own text, with its prefix and in either case, and no other")
    func text() {
        let id = ThreadID()
        #expect(ThreadID(id.description) == id)
        #expect(id.description == id.description.lowercased())
        #expect(ThreadID("thread_\(id)", prefix: "thread_") == id)
        #expect(ThreadID(id.description.uppercased()) == id)
        for wrong in ["", "thread_", "x", "thread_\(id)x", "\(id)", "{\(id)}", "Thread_\(id)"] {
            #expect(ThreadID(wrong, prefix: "thread_") == nil, "\(wrong)")
        }
    }

    @Test("the text of any UUID is Foundation's, and no other text is read")
    func foundation() {
        for _ in 0..<1_000 {
            let uuid = UUID()
            #expect(uuid.text == uuid.uuidString.lowercased())
            #expect(UUID(text: uuid.text) == uuid && UUID(text: uuid.uuidString) == uuid)
        }
        let text = Array(UUID().text)
        for place in text.indices {
            for wrong in ["g", "-", " ", "é", "", "00"] where !(wrong == "-" && text[place] == "-") {
                let changed = String(text[..<place]) + wrong + String(text[(place + 1)...])
                #expect(UUID(text: changed) == nil, "\(changed)")
            }
        }
    }

    @Test("an id reads its 32 hexadecimal digits and sixteen bytes, in either case, and nothing else")
    func hexadecimal() {
        let id = AttachmentID()
        #expect(id.hexadecimal == id.description.replacing("-", with: ""))
        #expect(AttachmentID(hexadecimal: id.hexadecimal) == id)
        #expect(AttachmentID(hexadecimal: id.hexadecimal.uppercased()) == id)
        #expect(AttachmentID(bytes: id.bytes) == id)
        #expect(AttachmentID(bytes: id.bytes.dropLast()) == nil)
        for wrong in [
            "", id.description, id.hexadecimal + "0", String(id.hexadecimal.dropLast()),
            "g" + id.hexadecimal.dropFirst(),
        ] {
            #expect(AttachmentID(hexadecimal: wrong) == nil, "\(wrong)")
        }
    }

    @Test("in JSON an id is its text")
    func json() throws {
        let id = InboxID()
        let encoded = try JSONEncoder().encode([id])
        #expect(String(decoding: encoded, as: UTF8.self) == "[\"\(id)\"]")
        #expect(try JSONDecoder().decode([InboxID].self, from: encoded) == [id])
    }
}
