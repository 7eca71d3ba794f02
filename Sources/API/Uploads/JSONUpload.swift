// The JSON of an upload, read as it comes in. Its one large member, `content`, is decoded on the way and never held;
// everything else is small, is kept, and goes through the ordinary decoder at the end, which judges the form of all.

import Foundation
import HTTPTypes
import Platform

/// Reads `{"content": "<base64>", "filename": …, "mime_type": …}` in pieces of any size.
struct JSONUpload {
    /// Why the body is no upload.
    enum Fault: Error, Equatable {
        case brokenBase64
        /// `content` stands there twice.
        case repeatedContent
        /// What is not content takes too much.
        case tooMuchBesides
    }

    /// What stands beside the content.
    struct Fields: Decodable {
        let content: String
        let filename: String
        let mimeType: String
        let contentID: String?

        enum CodingKeys: String, CodingKey {
            case content, filename
            case mimeType = "mime_type"
            case contentID = "content_id"
        }
    }

    static let besidesMax = 64 << 10

    private enum State {
        /// Between strings.
        case structure
        case string(isKey: Bool)
        case escape(isKey: Bool)
        /// In the string that is decoded.
        case content
        case contentEscape
        case contentUnicode([UInt8])
    }

    /// The document with nothing in its `content`.
    private(set) var besides: [UInt8] = []
    private var state = State.structure
    private var depth = 0
    private var isObject = false
    /// At the top level, behind a colon.
    private var expectsValue = false
    private var key: [UInt8] = []
    private(set) var hasContent = false
    private var base64 = Base64Stream()

    /// Takes a piece; what it decodes of the content goes to `output`.
    mutating func received(_ piece: [UInt8], _ output: (ArraySlice<UInt8>) async throws -> Void) async throws
    {
        var index = 0
        while index < piece.count {
            if case .content = state {
                let end = Self.endOfRun(piece, from: index)
                try await output(try decode(piece[index..<end])[...])
                guard end < piece.count else { return }
                index = end + 1
                if piece[end] == quote {
                    state = .structure
                    try keep(quote)
                } else {
                    state = .contentEscape
                }
                continue
            }
            if let digit = try take(piece[index]) { try await output(try decode([digit])[...]) }
            index += 1
        }
    }

    /// The fields, once all has come in.
    func finished() throws -> Fields {
        do {
            try base64.finish()
        } catch {
            throw Fault.brokenBase64
        }
        // The decoder guesses at UTF-16, and overlooks broken UTF-8 in members it is not asked for (RFC 8259 §8.1).
        guard !besides.contains(0), String(validating: besides, as: UTF8.self) != nil else {
            throw APIError(.badRequest, "The request body is not valid JSON.")
        }
        do {
            return try JSONDecoder().decode(Fields.self, from: Data(besides))
        } catch let error as DecodingError {
            throw APIError(error, hasBody: !besides.isEmpty)
        }
    }

    private mutating func decode(_ digits: ArraySlice<UInt8>) throws -> [UInt8] {
        do {
            return try base64.decode(digits)
        } catch {
            throw Fault.brokenBase64
        }
    }

    private mutating func keep(_ byte: UInt8) throws {
        guard besides.count < Self.besidesMax else { throw Fault.tooMuchBesides }
        besides.append(byte)
    }

    /// Takes one byte outside of the content; a digit of the content that was written as an escape is returned.
    private mutating func take(_ byte: UInt8) throws -> UInt8? {
        switch state {
        case .contentEscape:
            switch byte {
            case UInt8(ascii: "/"): state = .content
            case UInt8(ascii: "u"): state = .contentUnicode([])
            default: throw Fault.brokenBase64
            }
            return byte == UInt8(ascii: "/") ? byte : nil
        case .contentUnicode(let digits):
            return try takeUnicode(digits + [byte])
        case .content: break  // taken in runs
        case .string(let isKey):
            try keep(byte)
            if byte == backslash {
                state = .escape(isKey: isKey)
            } else if byte == quote {
                state = .structure
            }
            if isKey, byte != quote { key.append(byte) }
        case .escape(let isKey):
            try keep(byte)
            if isKey { key.append(byte) }
            state = .string(isKey: isKey)
        case .structure: try takeStructure(byte)
        }
        return nil
    }

    private mutating func takeUnicode(_ digits: [UInt8]) throws -> UInt8? {
        guard digits.count == 4 else {
            state = .contentUnicode(digits)
            return nil
        }
        state = .content
        guard let bytes = [UInt8](hexadecimal: String(decoding: digits, as: UTF8.self)), bytes[0] == 0 else {
            throw Fault.brokenBase64
        }
        return bytes[1]
    }

    private mutating func takeStructure(_ byte: UInt8) throws {
        try keep(byte)
        let isTop = depth == 1 && isObject
        switch byte {
        case quote where isTop && expectsValue && isContentKey:
            guard !hasContent else { throw Fault.repeatedContent }
            hasContent = true
            state = .content
        case quote:
            let isKey = isTop && !expectsValue
            if isKey { key = [] }
            state = .string(isKey: isKey)
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            if depth == 0 { isObject = byte == UInt8(ascii: "{") }
            depth += 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
        case UInt8(ascii: ":") where isTop: expectsValue = true
        case UInt8(ascii: ",") where isTop: expectsValue = false
        default: break
        }
    }

    private var isContentKey: Bool {
        if key == Array("content".utf8) { return true }
        guard key.contains(backslash) else { return false }
        let name = try? JSONDecoder().decode(String.self, from: Data([quote] + key + [quote]))
        return name == "content"
    }

    /// Where a quote or backslash ends the digits.
    private static func endOfRun(_ bytes: [UInt8], from start: Int) -> Int {
        bytes.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return start }
            var count = buffer.count - start
            for byte in [quote, backslash] {
                if let found = memchr(base + start, Int32(byte), count) {
                    count = UnsafeRawPointer(found) - (base + start)
                }
            }
            return start + count
        }
    }
}

private let quote = UInt8(ascii: "\"")
private let backslash = UInt8(ascii: "\\")
