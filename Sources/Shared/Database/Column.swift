// Swift values on their way out of a result, from PostgreSQL's binary forms.

package import Foundation
package import Platform

/// A Swift value that can be read from a column.
package protocol Column {
    /// Reads one value.
    static func decode(_ cell: Cell) throws(DatabaseError) -> Self
    /// Reads an array of them.
    static func decodeArray(_ cell: Cell) throws(DatabaseError) -> [Self]
}

/// The bytes of one value of a result; valid only while its row is.
package struct Cell {
    let column: String
    let type: PostgresType
    let content: UnsafeRawBufferPointer?

    var bytes: UnsafeRawBufferPointer { content ?? UnsafeRawBufferPointer(start: nil, count: 0) }

    /// The content, or an error when it is NULL or not one of the expected types.
    func content(
        _ expected: String,
        _ types: PostgresType...,
        size: Int? = nil
    ) throws(DatabaseError) -> UnsafeRawBufferPointer {
        guard let content else { throw .decoding("The column \(column) is NULL, expected \(expected).") }
        guard types.contains(type), size.map({ $0 == content.count }) ?? true else {
            throw mismatch(expected)
        }
        return content
    }

    func mismatch(_ expected: String) -> DatabaseError {
        .decoding("The column \(column) has the type \(type.rawValue), expected \(expected).")
    }
}

extension Column {
    package static func decodeArray(_ cell: Cell) throws(DatabaseError) -> [Self] {
        guard cell.content != nil else {
            throw .decoding("The column \(cell.column) is NULL, expected an array.")
        }
        var elements: [Self] = []
        for element in try ArrayEncoding.decode(cell) { elements.append(try decode(element)) }
        return elements
    }
}

extension String: Column {
    /// text, varchar, char(n), name, "char", json, xml, unknown; and every type made by CREATE TYPE, as enums
    /// and citext travel as text.
    private static let texts: Set<UInt32> = [25, 1043, 1042, 19, 18, 114, 142, 705]
    private static let firstUserType: UInt32 = 16_384

    package static func decode(_ cell: Cell) throws(DatabaseError) -> String {
        guard let content = cell.content else {
            throw .decoding("The column \(cell.column) is NULL, expected text.")
        }
        if cell.type == .jsonb {
            // jsonb's binary form is the text behind a version byte.
            return String(decoding: content.dropFirst(), as: UTF8.self)
        }
        guard texts.contains(cell.type.rawValue) || cell.type.rawValue >= firstUserType else {
            throw cell.mismatch("text")
        }
        return String(decoding: content, as: UTF8.self)
    }
}

extension Bool: Column {
    package static func decode(_ cell: Cell) throws(DatabaseError) -> Bool {
        try cell.content("a boolean", .bool, size: 1)[0] != 0
    }
}

extension Column where Self: FixedWidthInteger {
    /// Reads smallint, integer and bigint alike, as long as the number fits.
    package static func decode(_ cell: Cell) throws(DatabaseError) -> Self {
        let content = try cell.content("a whole number (cast numeric to bigint)", .int8, .int4, .int2)
        let number: Int64
        switch content.count {
        case 8: number = Int64(bigEndian: content.loadUnaligned(as: Int64.self))
        case 4: number = Int64(content.int32(at: 0))
        case 2: number = Int64(Int16(bigEndian: content.loadUnaligned(as: Int16.self)))
        default: throw cell.mismatch("a whole number")
        }
        guard let fitting = Self(exactly: number) else {
            throw .decoding("The number in the column \(cell.column) does not fit \(Self.self).")
        }
        return fitting
    }
}

extension Int: Column {}
extension Int64: Column {}
extension Int32: Column {}
extension Int16: Column {}

extension UInt8: Column {
    /// An array of bytes is `bytea`.
    package static func decodeArray(_ cell: Cell) throws(DatabaseError) -> [UInt8] {
        [UInt8](try cell.content("bytea", .bytea))
    }
}

extension Double: Column {
    private static let float4 = PostgresType(rawValue: 700)

    package static func decode(_ cell: Cell) throws(DatabaseError) -> Double {
        let content = try cell.content("a floating-point number", .float8, float4)
        switch content.count {
        case 8: return Double(bitPattern: UInt64(bigEndian: content.loadUnaligned(as: UInt64.self)))
        case 4: return Double(Float(bitPattern: UInt32(bitPattern: content.int32(at: 0))))
        default: throw cell.mismatch("a floating-point number")
        }
    }
}

extension UUID: Column {
    package static func decode(_ cell: Cell) throws(DatabaseError) -> UUID {
        UUID(uuid: try cell.content("a UUID", .uuid, size: 16).loadUnaligned(as: uuid_t.self))
    }
}

extension ID: Column {
    package static func decode(_ cell: Cell) throws(DatabaseError) -> ID { ID(try UUID.decode(cell)) }
}

extension Timestamp: Column {
    package static func decode(_ cell: Cell) throws(DatabaseError) -> Timestamp {
        let content = try cell.content("timestamptz", .timestamptz, size: 8)
        let sincePostgresEpoch = Int64(bigEndian: content.loadUnaligned(as: Int64.self))
        // PostgreSQL writes infinity as the largest number; that is no point in time.
        let (microseconds, overflow) = sincePostgresEpoch.addingReportingOverflow(postgresEpoch)
        guard !overflow, sincePostgresEpoch != .min else {
            throw .decoding("The column \(cell.column) holds an infinite time.")
        }
        return Timestamp(microseconds: microseconds)
    }
}

extension Data: Column {
    package static func decode(_ cell: Cell) throws(DatabaseError) -> Data {
        Data(try cell.content("bytea", .bytea))
    }
}

extension Optional: Column where Wrapped: Column {
    package static func decode(_ cell: Cell) throws(DatabaseError) -> Wrapped? {
        cell.content == nil ? nil : .some(try Wrapped.decode(cell))
    }
}

extension Array: Column where Element: Column {
    package static func decode(_ cell: Cell) throws(DatabaseError) -> [Element] {
        try Element.decodeArray(cell)
    }
}

extension Column where Self: RawRepresentable, RawValue: Column {
    package static func decode(_ cell: Cell) throws(DatabaseError) -> Self {
        guard let value = Self(rawValue: try RawValue.decode(cell)) else {
            throw .decoding("The column \(cell.column) holds no known \(Self.self).")
        }
        return value
    }
}
