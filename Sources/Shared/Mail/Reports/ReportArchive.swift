// DMARC reports come as XML, gzip (RFC 1952) or ZIP; the type that the mail claims is often wrong, so the first bytes
// decide.

/// Unpacks what was attached as a report.
enum ReportArchive {
    /// More than this never comes out of an archive.
    static let sizeMax = 32 << 20
    private static let entriesMax = 20

    /// The XML in `file`.
    static func unpack(_ file: [UInt8]) throws(DMARCReportFault) -> [UInt8] {
        do {
            if file.starts(with: [0x1F, 0x8B]) { return try gunzip(file) }
            if file.starts(with: [0x50, 0x4B, 0x03, 0x04]) { return try unzip(file) }
        } catch {
            throw error == .tooLarge ? .tooLarge : .brokenArchive
        }
        guard file.count <= sizeMax else { throw .tooLarge }
        return file
    }

    /// RFC 1952 §2.3.
    private static func gunzip(_ file: [UInt8]) throws(InflateFault) -> [UInt8] {
        guard file.count >= 18, file[2] == 8 else { throw .broken }
        let flags = file[3]
        var position = 10
        if flags & 4 != 0 { position += 2 + number(file, at: position, bytes: 2) }
        for flag in [UInt8(8), 16] where flags & flag != 0 {
            guard let end = file.position(of: ASCII.nul, from: position) else { throw .broken }
            position = end + 1
        }
        if flags & 2 != 0 { position += 2 }
        let (bytes, end) = try Inflate.inflate(file, from: position, sizeMax: sizeMax)
        // RFC 1952 §2.3.1: the trailer tells whether anything was lost on the way.
        guard end + 8 <= file.count, number(file, at: end, bytes: 4) == Int(CRC32.of(bytes)),
            number(file, at: end + 4, bytes: 4) == bytes.count & 0xFFFF_FFFF
        else { throw .broken }
        return bytes
    }

    /// The first XML file, found by the central directory: local headers may leave sizes out.
    private static func unzip(_ file: [UInt8]) throws(InflateFault) -> [UInt8] {
        let tail = max(0, file.count - 66_000)..<file.count
        var directory: Int?
        var search = tail.lowerBound
        while let hit = file.position(of: [0x50, 0x4B, 0x05, 0x06], in: search..<file.count) {
            directory = hit
            search = hit + 1
        }
        guard let directory, directory + 22 <= file.count else { throw .broken }
        let entries = min(entriesMax, number(file, at: directory + 10, bytes: 2))
        var position = number(file, at: directory + 16, bytes: 4)
        var chosen: Int?
        for _ in 0..<entries {
            guard position + 46 <= file.count, number(file, at: position, bytes: 4) == 0x0201_4B50 else {
                break
            }
            let nameLength = number(file, at: position + 28, bytes: 2)
            let name = position + 46..<min(file.count, position + 46 + nameLength)
            let isXML = file[name].suffix(4).map(\.lowered) == Array(".xml".utf8)
            if chosen == nil || isXML { chosen = position }
            if isXML { break }
            position +=
                46 + nameLength + number(file, at: position + 30, bytes: 2)
                + number(file, at: position + 32, bytes: 2)
        }
        guard let chosen else { throw .broken }
        return try extract(file, entry: chosen)
    }

    private static func extract(_ file: [UInt8], entry: Int) throws(InflateFault) -> [UInt8] {
        let flags = number(file, at: entry + 8, bytes: 2)
        let method = number(file, at: entry + 10, bytes: 2)
        let checksum = number(file, at: entry + 16, bytes: 4)
        let packedSize = number(file, at: entry + 20, bytes: 4)
        let local = number(file, at: entry + 42, bytes: 4)
        // Encrypted files are nobody's report.
        guard flags & 1 == 0, local + 30 <= file.count else { throw .broken }
        let start =
            local + 30 + number(file, at: local + 26, bytes: 2) + number(file, at: local + 28, bytes: 2)
        guard start <= file.count else { throw .broken }
        let bytes: [UInt8]
        switch method {
        case 0:
            guard start + packedSize <= file.count else { throw .broken }
            guard packedSize <= sizeMax else { throw .tooLarge }
            bytes = Array(file[start..<(start + packedSize)])
        case 8: bytes = try Inflate.inflate(file, from: start, sizeMax: sizeMax).bytes
        default: throw .broken
        }
        guard Int(CRC32.of(bytes)) == checksum else { throw .broken }
        return bytes
    }

    /// A little-endian number; zero where the file ends before it.
    private static func number(_ file: [UInt8], at position: Int, bytes: Int) -> Int {
        guard position >= 0, position + bytes <= file.count else { return 0 }
        return (0..<bytes).reduce(0) { $0 | Int(file[position + $1]) << (8 * $1) }
    }
}

/// RFC 1952 §8.
enum CRC32 {
    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1 }
    }

    static func of(_ bytes: [UInt8]) -> UInt32 {
        ~bytes.reduce(~UInt32(0)) { table[Int(($0 ^ UInt32($1)) & 0xFF)] ^ ($0 >> 8) }
    }
}
