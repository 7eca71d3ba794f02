// PostgreSQL's binary form of a one-dimensional array (src/backend/utils/adt/arrayfuncs.c, array_recv):
// dimensions, has-null flag, element type; length and lower bound of the dimension; each element's length and
// bytes, -1 for NULL. No quoting, so nothing inside an element can end it.

import Foundation

enum ArrayEncoding {
    static func encode<Element: Parameter>(_ elements: [Element]) -> BoundParameter.Value {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(20 + elements.count * 20)
        let values = elements.map(\.postgresValue)
        let holdsNull = values.contains { if case .null = $0 { true } else { false } }
        // Elements of the inferred type are text.
        let type = Element.postgresType == .inferred ? PostgresType.text : Element.postgresType
        bytes.append(bigEndian: elements.isEmpty ? 0 : 1 as Int32)
        bytes.append(bigEndian: holdsNull ? 1 : 0 as Int32)
        bytes.append(bigEndian: type.rawValue)
        guard !elements.isEmpty else { return .bytes(bytes) }
        bytes.append(bigEndian: Int32(clamping: elements.count))
        bytes.append(bigEndian: 1 as Int32)
        for value in values {
            let lengthAt = bytes.count
            bytes.append(bigEndian: -1 as Int32)
            if case .invalid(let reason) = value { return .invalid(reason) }
            guard bytes.append(binary: value) else { continue }
            bytes.write(bigEndian: Int32(clamping: bytes.count - lengthAt - 4), at: lengthAt)
        }
        return .bytes(bytes)
    }

    /// The elements' cells, nil for NULL.
    static func decode(_ cell: Cell) throws(DatabaseError) -> [Cell] {
        let bytes = cell.bytes
        guard bytes.count >= 12 else { throw cell.mismatch("an array") }
        let dimensions = bytes.int32(at: 0)
        let type = PostgresType(rawValue: UInt32(bitPattern: bytes.int32(at: 8)))
        if dimensions == 0 { return [] }
        guard dimensions == 1, bytes.count >= 20 else { throw cell.mismatch("an array of one dimension") }
        var elements: [Cell] = []
        var offset = 20
        for _ in 0..<bytes.int32(at: 12) {
            guard offset + 4 <= bytes.count else { throw cell.mismatch("a whole array") }
            let length = Int(bytes.int32(at: offset))
            offset += 4
            guard length >= 0 else {
                elements.append(Cell(column: cell.column, type: type, content: nil))
                continue
            }
            guard offset + length <= bytes.count else { throw cell.mismatch("a whole array") }
            let content = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length])
            elements.append(Cell(column: cell.column, type: type, content: content))
            offset += length
        }
        return elements
    }
}

extension [UInt8] {
    mutating func append(bigEndian value: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }

    mutating func write(bigEndian value: Int32, at offset: Int) {
        Swift.withUnsafeBytes(of: value.bigEndian) { source in
            for index in source.indices { self[offset + index] = source[index] }
        }
    }

    /// Appends the binary form; false when the value is NULL or cannot be sent.
    mutating func append(binary value: BoundParameter.Value) -> Bool {
        switch value {
        case .null, .invalid: return false
        case .text(let text): append(contentsOf: text.utf8)
        case .bool(let flag): append(flag ? 1 : 0)
        case .int16(let number): append(bigEndian: number)
        case .int32(let number): append(bigEndian: number)
        case .int64(let number): append(bigEndian: number)
        case .double(let number): append(bigEndian: number.bitPattern)
        case .uuid(let uuid): Swift.withUnsafeBytes(of: uuid.uuid) { append(contentsOf: $0) }
        case .bytes(let bytes): append(contentsOf: bytes)
        }
        return true
    }
}

extension UnsafeRawBufferPointer {
    func int32(at offset: Int) -> Int32 {
        Int32(bigEndian: loadUnaligned(fromByteOffset: offset, as: Int32.self))
    }
}
