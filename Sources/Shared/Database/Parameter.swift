// Swift values on their way into a statement. Numbers, UUIDs, times, bytes and arrays carry their type and go
// in binary; text goes untyped, so that PostgreSQL reads it as what the place asks for (text, an enum, inet …).

package import Foundation
package import Platform

/// A Swift value that can be bound to `$n`.
package protocol Parameter {
    /// The type it is declared as.
    static var postgresType: PostgresType { get }
    /// What is sent.
    var postgresValue: BoundParameter.Value { get }
    /// The type of an array of it.
    static var postgresArrayType: PostgresType { get }
    /// What is sent for an array of it.
    static func postgresValue(ofArray elements: [Self]) -> BoundParameter.Value
}

/// One value ready to be sent.
package struct BoundParameter: Sendable {
    /// The forms in which a value travels.
    package enum Value: Sendable {
        case null
        case text(String)
        case bool(Bool)
        case int16(Int16)
        case int32(Int32)
        case int64(Int64)
        case double(Double)
        case uuid(UUID)
        case bytes([UInt8])
        /// Cannot be sent; the text says why, without the value.
        case invalid(String)
    }

    let type: PostgresType
    let value: Value

    init(type: PostgresType, value: Value) {
        self.type = type
        self.value = value
    }

    init<Source: Parameter>(_ source: Source) {
        self.init(type: Source.postgresType, value: source.postgresValue)
    }

    var fault: DatabaseError? {
        switch value {
        case .text(let text) where text.utf8.contains(0):
            // Text goes as a C string: PostgreSQL would see it cut, and refuses NUL in binary text too.
            .failed(sqlstate: "22021", message: "a text parameter holds a NUL character")
        case .invalid(let reason): .failed(sqlstate: "22000", message: reason)
        default: nil
        }
    }
}

/// A type's object identifier in PostgreSQL's catalogue.
package struct PostgresType: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt32

    /// Takes the object identifier.
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The server decides by the place where the value stands.
    package static let inferred = PostgresType(rawValue: 0)
    static let bool = PostgresType(rawValue: 16)
    static let bytea = PostgresType(rawValue: 17)
    static let int8 = PostgresType(rawValue: 20)
    static let int2 = PostgresType(rawValue: 21)
    static let int4 = PostgresType(rawValue: 23)
    static let text = PostgresType(rawValue: 25)
    static let json = PostgresType(rawValue: 114)
    static let float8 = PostgresType(rawValue: 701)
    static let boolArray = PostgresType(rawValue: 1000)
    static let byteaArray = PostgresType(rawValue: 1001)
    static let int2Array = PostgresType(rawValue: 1005)
    static let int4Array = PostgresType(rawValue: 1007)
    static let textArray = PostgresType(rawValue: 1009)
    static let int8Array = PostgresType(rawValue: 1016)
    static let float8Array = PostgresType(rawValue: 1022)
    static let timestamptz = PostgresType(rawValue: 1184)
    static let timestamptzArray = PostgresType(rawValue: 1185)
    static let uuid = PostgresType(rawValue: 2950)
    static let uuidArray = PostgresType(rawValue: 2951)
    static let jsonb = PostgresType(rawValue: 3802)
}

extension Parameter {
    package static func postgresValue(ofArray elements: [Self]) -> BoundParameter.Value {
        ArrayEncoding.encode(elements)
    }
}

extension String: Parameter {
    package static var postgresType: PostgresType { .inferred }
    package static var postgresArrayType: PostgresType { .textArray }
    package var postgresValue: BoundParameter.Value { .text(self) }
}

extension Bool: Parameter {
    package static var postgresType: PostgresType { .bool }
    package static var postgresArrayType: PostgresType { .boolArray }
    package var postgresValue: BoundParameter.Value { .bool(self) }
}

extension Int: Parameter {
    package static var postgresType: PostgresType { .int8 }
    package static var postgresArrayType: PostgresType { .int8Array }
    package var postgresValue: BoundParameter.Value { .int64(Int64(self)) }
}

extension Int64: Parameter {
    package static var postgresType: PostgresType { .int8 }
    package static var postgresArrayType: PostgresType { .int8Array }
    package var postgresValue: BoundParameter.Value { .int64(self) }
}

extension Int32: Parameter {
    package static var postgresType: PostgresType { .int4 }
    package static var postgresArrayType: PostgresType { .int4Array }
    package var postgresValue: BoundParameter.Value { .int32(self) }
}

extension Int16: Parameter {
    package static var postgresType: PostgresType { .int2 }
    package static var postgresArrayType: PostgresType { .int2Array }
    package var postgresValue: BoundParameter.Value { .int16(self) }
}

extension Double: Parameter {
    package static var postgresType: PostgresType { .float8 }
    package static var postgresArrayType: PostgresType { .float8Array }
    package var postgresValue: BoundParameter.Value { .double(self) }
}

extension UUID: Parameter {
    package static var postgresType: PostgresType { .uuid }
    package static var postgresArrayType: PostgresType { .uuidArray }
    package var postgresValue: BoundParameter.Value { .uuid(self) }
}

extension ID: Parameter {
    package static var postgresType: PostgresType { .uuid }
    package static var postgresArrayType: PostgresType { .uuidArray }
    package var postgresValue: BoundParameter.Value { .uuid(uuid) }
}

extension Timestamp: Parameter {
    /// 2000-01-01T00:00:00Z, from which PostgreSQL counts, in microseconds since 1970.
    static let postgresEpoch: Int64 = 946_684_800_000_000

    package static var postgresType: PostgresType { .timestamptz }
    package static var postgresArrayType: PostgresType { .timestamptzArray }
    package var postgresValue: BoundParameter.Value {
        let (sincePostgresEpoch, overflow) = microseconds.subtractingReportingOverflow(Self.postgresEpoch)
        return overflow ? .invalid("a time is out of range") : .int64(sincePostgresEpoch)
    }
}

extension Data: Parameter {
    package static var postgresType: PostgresType { .bytea }
    package static var postgresArrayType: PostgresType { .byteaArray }
    package var postgresValue: BoundParameter.Value { .bytes([UInt8](self)) }
}

/// A lone byte is a `smallint`; an array of them is what matters: `bytea`.
extension UInt8: Parameter {
    package static var postgresType: PostgresType { .int2 }
    package static var postgresArrayType: PostgresType { .bytea }
    package var postgresValue: BoundParameter.Value { .int16(Int16(self)) }
    package static func postgresValue(ofArray elements: [UInt8]) -> BoundParameter.Value { .bytes(elements) }
}

extension Optional: Parameter where Wrapped: Parameter {
    package static var postgresType: PostgresType { Wrapped.postgresType }
    package static var postgresArrayType: PostgresType { Wrapped.postgresArrayType }
    package var postgresValue: BoundParameter.Value { self?.postgresValue ?? .null }
}

extension Array: Parameter where Element: Parameter {
    package static var postgresType: PostgresType { Element.postgresArrayType }
    // `[[UInt8]]` is `bytea[]`; deeper arrays are not made here.
    package static var postgresArrayType: PostgresType {
        Element.postgresArrayType == .bytea ? .byteaArray : .inferred
    }
    package var postgresValue: BoundParameter.Value { Element.postgresValue(ofArray: self) }
}

extension Parameter where Self: RawRepresentable, RawValue: Parameter {
    package static var postgresType: PostgresType { RawValue.postgresType }
    package static var postgresArrayType: PostgresType { RawValue.postgresArrayType }
    package var postgresValue: BoundParameter.Value { rawValue.postgresValue }
}
