// Where the shared corpora lie: beside the checkout, or where COMMUNE_CORPORA says. They are read in place.

import Foundation
import TestSupport

enum OutboundCorpora {
    static let root: URL? = {
        let beside = URL(filePath: #filePath).appending(path: "../../../../shared/corpora")
            .standardizedFileURL
        let named = ProcessInfo.processInfo.environment["COMMUNE_CORPORA"].map { URL(filePath: $0) }
        return [named, beside].compactMap { $0 }.first { FileManager.default.fileExists(atPath: $0.path()) }
    }()

    static var isPresent: Bool { root != nil }

    static func bytes(_ path: String) throws -> [UInt8] {
        guard let root else { throw CocoaError(.fileNoSuchFile) }
        return Array(try Data(contentsOf: root.appending(path: path)))
    }

    static func text(_ path: String) throws -> String { String(decoding: try bytes(path), as: UTF8.self) }

    /// Corpora are stored with LF; mail has CRLF.
    static func withCRLF(_ text: String) -> [UInt8] {
        Array(text.replacing("\r\n", with: "\n").replacing("\n", with: "\r\n").utf8)
    }
}

extension SeededGenerator {
    /// A few random insertions, deletions, replacements and repetitions.
    mutating func mutate(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...4, using: &self) {
            let index = Int.random(in: 0...bytes.count, using: &self)
            switch Int.random(in: 0..<4, using: &self) {
            case 0: bytes.insert(UInt8.random(in: 0...255, using: &self), at: index)
            case 1 where index < bytes.count: bytes.remove(at: index)
            case 2 where index < bytes.count: bytes[index] = UInt8.random(in: 0...255, using: &self)
            default:
                let end = Int.random(in: index...bytes.count, using: &self)
                bytes.insert(contentsOf: bytes[index..<end].prefix(40), at: index)
            }
        }
        return bytes
    }
}
