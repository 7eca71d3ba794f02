// The incremental reader of uploads: however the bytes are cut, it reads what a whole reader would, and refuses the rest.

import Foundation
import Testing

@testable import API

@Suite("The reader of a JSON upload")
struct UploadReaderTests {
    private func read(
        _ text: String,
        pieces size: Int
    ) async throws -> (fields: JSONUpload.Fields, content: [UInt8]?) {
        let bytes = Array(text.utf8)
        var upload = JSONUpload()
        var content: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: size) {
            try await upload.received(Array(bytes[start..<min(start + size, bytes.count)])) { content += $0 }
        }
        let fields = try upload.finished()
        return (fields, upload.hasContent ? content : nil)
    }

    private static let hello = Array("Hello, world!".utf8)

    @Test(
        "reads the content wherever it stands and however JSON writes it",
        arguments: [
            #"{"content":"SGVsbG8sIHdvcmxkIQ==","filename":"f","mime_type":"a/b"}"#,
            #" { "filename" : "f" , "mime_type" : "a/b" , "content" : "SGVsbG8sIHdvcmxkIQ==" } "#,
            #"{"x":{"content":"no!","y":[{"content":"?"}]},"filename":"f","mime_type":"a/b","content":"SGVsbG8sIHdvcmxkIQ=="}"#,
            #"{"\u0063ontent":"SGVsbG8sIHdvcmxkIQ\u003d\u003D","filename":"f","mime_type":"a\/b"}"#,
            #"{"filename":"f","content":"SGVsbG8s\u0049HdvcmxkIQ==","mime_type":"a/b","z":"content","y":null}"#,
            #"{"filename":"f","mime_type":"a/b","note":"\"content\":\"","content":"SGVsbG8sIHdvcmxkIQ=="}"#,
        ]
    )
    func reads(_ text: String) async throws {
        for size in [1, 2, 3, 5, 7, 16, 1000] {
            let (fields, content) = try await read(text, pieces: size)
            #expect(content == Self.hello, "in pieces of \(size)")
            #expect(fields.filename == "f")
            #expect(fields.mimeType == "a/b")
            #expect(fields.content.isEmpty)
        }
    }

    @Test("decodes every length and every byte, in pieces of any size, with the slash escaped or not")
    func bytes() async throws {
        var random = SystemRandomNumberGenerator()
        for count in Array(0..<40) + [1000, 4095, 4096, 70_001] {
            let content = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            let plain = Data(content).base64EncodedString()
            for encoded in [plain, plain.replacing("/", with: "\\/")] {
                let text = "{\"content\":\"\(encoded)\",\"filename\":\"f\",\"mime_type\":\"a/b\"}"
                let size = Int.random(in: 1...max(1, min(text.utf8.count, 5000)), using: &random)
                let read = try await read(text, pieces: size)
                #expect(read.content == content, "\(count) bytes in pieces of \(size)")
            }
        }
    }

    @Test(
        "refuses broken base64",
        arguments: [
            "A", "AA", "AAA", "AAAAA", "AA=", "=", "====", "A===", "AAAA=", "AA==AAAA", "AA=A", "AAA=AAA=",
            "AAAA====", "AA AA", "AAAA\\n", "AAAA\\r\\n", "AA-_", "AAAä", "AAAA\\\"", "\\u00e4AAA",
            "\\u2603AAA", "AB==", "AAB=", "\\x41", "data:a/b;base64,AAAA", "AAA\u{0}",
        ]
    )
    func broken(_ digits: String) async {
        let text = "{\"content\":\"\(digits)\",\"filename\":\"f\",\"mime_type\":\"a/b\"}"
        for size in [1, 2, 3, 1000] {
            await #expect(throws: JSONUpload.Fault.brokenBase64, "\(digits) in pieces of \(size)") {
                _ = try await read(text, pieces: size)
            }
        }
    }

    @Test("refuses a second content, and more besides it than there is room for")
    func faults() async {
        await #expect(throws: JSONUpload.Fault.repeatedContent) {
            _ = try await read(#"{"content":"AAAA","content":"AAAA"}"#, pieces: 7)
        }
        let long = String(repeating: "x", count: JSONUpload.besidesMax)
        await #expect(throws: JSONUpload.Fault.tooMuchBesides) {
            _ = try await read("{\"filename\":\"\(long)\",\"content\":\"AAAA\"}", pieces: 1000)
        }
    }

    @Test(
        "refuses what is no JSON object with these members",
        arguments: [
            "", "{", "[]", "null", "\"content\"", #"{"content":"AAAA","filename":"f"}"#,
            #"{"content":"AAAA" "filename":"f","mime_type":"a/b"}"#,
            #"{"content":"AAAA","filename":"f","mime_type":"a/b"}}"#,
            #"{"content":"AAAA","filename":"f","mime_type":"a/b""#,
            #"{"content":"AAAA,"filename":"f","mime_type":"a/b"}"#,
            #"{"content":1 "AAAA","filename":"f","mime_type":"a/b"}"#,
            #"{"content":["AAAA"],"filename":"f","mime_type":"a/b"}"#,
            #"{"content":null,"filename":"f","mime_type":"a/b"}"#,
            #"{"content":"AAAA","filename":1,"mime_type":"a/b"}"#,
            #"["content",{"content":"AAAA","filename":"f","mime_type":"a/b"}]"#,
        ]
    )
    func malformed(_ text: String) async {
        for size in [1, 1000] {
            await #expect(throws: (any Error).self, "\(text)") { _ = try await read(text, pieces: size) }
        }
    }

    @Test("bytes that are no UTF-8, and UTF-16, are no JSON")
    func encodings() async throws {
        let text = #"{"content":"AAAA","filename":"f","mime_type":"a/b","x":"?"}"#
        var bytes = Array(text.utf8)
        let mark = try #require(bytes.firstIndex(of: UInt8(ascii: "?")))
        bytes[mark] = 0xff
        for whole: [UInt8] in [bytes, Array(text.utf16).flatMap { [UInt8(truncatingIfNeeded: $0), 0] }] {
            await #expect(throws: (any Error).self) {
                var upload = JSONUpload()
                try await upload.received(whole) { _ in }
                _ = try upload.finished()
            }
        }
    }

    /// Texts near a right one, changed at random: what Foundation reads, this reads alike, and nothing else.
    @Test("agrees with a whole reader on mutated bodies")
    func mutations() async throws {
        struct Whole: Decodable {
            let content: String
            let filename: String
            let mime_type: String
        }
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = Seeded(state: seed)
        let start = Array(
            #"{"a":[1,{"content":"x"}],"content":"SGVs\/G8s","filename":"f","mime_type":"a/b"}"#.utf8
        )
        let alphabet = Array("\"\\{}[]:,=Au0/ x\u{0}".utf8)
        for _ in 0..<3000 {
            var bytes = start
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                let byte = alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
                switch Int.random(in: 0...2, using: &random) {
                case 0: bytes[at] = byte
                case 1: bytes.insert(byte, at: at)
                default: bytes.remove(at: at)
                }
            }
            var content: [UInt8] = []
            var upload = JSONUpload()
            var ours: JSONUpload.Fields?
            do {
                try await upload.received(bytes) { content += $0 }
                ours = try upload.finished()
            } catch {
                ours = nil
            }
            let whole = bytes.contains(0) ? nil : try? JSONDecoder().decode(Whole.self, from: Data(bytes))
            let decoded = whole.flatMap { Data(base64Encoded: $0.content) }
            if let ours, upload.hasContent {
                #expect(
                    decoded.map { [UInt8]($0) } == content,
                    "seed \(seed): \(String(decoding: bytes, as: UTF8.self))"
                )
                #expect(ours.filename == whole?.filename, "seed \(seed)")
            }
        }
    }

    private struct Seeded: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ (state >> 29)
        }
    }
}
