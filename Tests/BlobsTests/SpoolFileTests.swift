// Temporary files: read as written, never with a name, and gone when nobody has them open.

import Foundation
import Testing

@testable import Blobs

@Suite("A spool file")
struct SpoolFileTests {
    private func folder() throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "spool-\(UUID().uuidString)"
        )
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder
    }

    @Test("is read as it was written, and its folder stays empty meanwhile")
    func contents() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = try SpoolFile(in: folder.path)
        let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        try await file.write(Array(bytes[..<60_000]), at: 0)
        try await file.write(Array(bytes[60_000...]), at: 60_000)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
        #expect(try await file.read(0..<100_000) == bytes)
        #expect(try await file.source(size: 100_000).read(59_990..<60_010) == Array(bytes[59_990..<60_010]))
    }

    @Test("a range that was never written is a fault, not zeros")
    func past() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = try SpoolFile(in: folder.path)
        try await file.write([1, 2, 3], at: 0)
        await #expect(throws: SpoolFault.failed("it ends early")) { _ = try await file.read(0..<4) }
    }

    @Test("a folder that is not there is a fault with the system's reason")
    func noFolder() {
        #expect(throws: SpoolFault.failed("No such file or directory")) {
            _ = try SpoolFile(in: "/nonexistent/folder")
        }
    }
}
