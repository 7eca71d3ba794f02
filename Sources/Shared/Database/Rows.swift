// What a statement returned. Rows read straight from libpq's result; nothing is copied before it is asked for.

import CPostgres
import Foundation

/// The rows of one statement, in order.
package struct Rows: RandomAccessCollection, Sendable {
    private let result: StatementResult?
    /// How many rows were returned, inserted, updated or deleted, as PostgreSQL counts them.
    package let affected: Int

    init(_ result: StatementResult) {
        self.result = result
        affected = result.affected
    }

    /// No rows.
    package init() {
        result = nil
        affected = 0
    }

    package var startIndex: Int { 0 }
    package var endIndex: Int { result?.count ?? 0 }

    package subscript(position: Int) -> Row {
        // Also what keeps a stale index from reading past libpq's memory.
        guard let result, indices.contains(position) else {
            preconditionFailure("no row \(position) among \(count)")
        }
        return Row(result: result, index: Int32(position))
    }
}

/// One row; `try row("id")` reads a column as the type that is asked for.
package struct Row: Sendable {
    fileprivate let result: StatementResult
    fileprivate let index: Int32

    /// Reads a column by its name.
    package func callAsFunction<Value: Column>(_ name: String) throws(DatabaseError) -> Value {
        try result.read(name, row: index) { (cell) throws(DatabaseError) in try Value.decode(cell) }
    }

    /// Reads an enumeration by its raw value.
    @_disfavoredOverload
    package func callAsFunction<Value: RawRepresentable>(_ name: String) throws(DatabaseError) -> Value
    where Value.RawValue: Column {
        try result.read(name, row: index) { (cell) throws(DatabaseError) in try Self.known(cell) }
    }

    /// Reads an enumeration by its raw value, or nil for NULL.
    @_disfavoredOverload
    package func callAsFunction<Value: RawRepresentable>(_ name: String) throws(DatabaseError) -> Value?
    where Value.RawValue: Column {
        try result.read(name, row: index) { (cell) throws(DatabaseError) in
            cell.content == nil ? nil : try Self.known(cell)
        }
    }

    /// Reads a `json` or `jsonb` column as a decodable type; NULL is nil where the type is optional.
    package func json<Value: Decodable>(
        _ name: String,
        as type: Value.Type = Value.self
    ) throws(DatabaseError) -> Value {
        let document = try result.read(name, row: index) { (cell) throws(DatabaseError) in
            guard cell.content != nil else { return Data("null".utf8) }
            let isJSON = cell.type == .json || cell.type == .jsonb
            guard isJSON else { throw cell.mismatch("json or jsonb") }
            // jsonb's binary form is the text behind a version byte.
            return Data(cell.type == .jsonb ? cell.bytes.dropFirst() : cell.bytes[...])
        }
        do {
            return try JSONDecoder().decode(type, from: document)
        } catch {
            // The error of the decoder may quote the document.
            throw .decoding("The JSON in the column \(name) is not a \(type).")
        }
    }

    private static func known<Value: RawRepresentable>(_ cell: Cell) throws(DatabaseError) -> Value
    where Value.RawValue: Column {
        guard let value = Value(rawValue: try Value.RawValue.decode(cell)) else {
            throw .decoding("The column \(cell.column) holds no known \(Value.self).")
        }
        return value
    }
}

/// Owns one `PGresult`.
///
/// Unchecked: libpq never changes a result after handing it over, every function used here only reads it, and
/// this class alone frees it.
final class StatementResult: @unchecked Sendable {
    private let pointer: OpaquePointer
    let count: Int

    init(owning pointer: OpaquePointer) {
        self.pointer = pointer
        count = Int(PQntuples(pointer))
    }

    deinit { PQclear(pointer) }

    var affected: Int { PQcmdTuples(pointer).flatMap { Int(String(cString: $0)) } ?? 0 }

    /// The command tag: `COMMIT`, `INSERT 0 1`.
    var tag: String { PQcmdStatus(pointer).map { String(cString: $0) } ?? "" }

    func read<Value>(
        _ name: String,
        row: Int32,
        _ decode: (Cell) throws(DatabaseError) -> Value
    ) throws(DatabaseError) -> Value {
        guard let column = column(named: name) else {
            throw .decoding("The result has no column \(name).")
        }
        var content: UnsafeRawBufferPointer?
        if PQgetisnull(pointer, row, column) == 0 {
            content = UnsafeRawBufferPointer(
                start: PQgetvalue(pointer, row, column),
                count: Int(PQgetlength(pointer, row, column))
            )
        }
        let type = PostgresType(rawValue: PQftype(pointer, column))
        return try decode(Cell(column: name, type: type, content: content))
    }

    /// `PQfnumber` would copy and fold the name for every cell; results are a few columns wide, so compare.
    private func column(named name: String) -> Int32? {
        name.withCString { wanted in
            for column in 0..<PQnfields(pointer) {
                if let candidate = PQfname(pointer, column), strcmp(candidate, wanted) == 0 { return column }
            }
            return nil
        }
    }
}
