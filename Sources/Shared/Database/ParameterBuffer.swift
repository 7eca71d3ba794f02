// The parameters of a statement as libpq wants them. One buffer a connection, so that a statement costs no
// allocation once the buffer has grown.

import CPostgres

/// Parallel arrays of types, pointers, lengths and formats over one block of bytes.
struct ParameterBuffer {
    private var bytes: [UInt8] = []
    private var offsets: [Int] = []
    private var types: [Oid] = []
    private var lengths: [Int32] = []
    private var formats: [Int32] = []
    private var pointers: [UnsafePointer<CChar>?] = []

    /// What the block may keep between statements; a large body gives its memory back.
    private static let bytesKept = 1 << 20

    /// The arguments of `PQsendQueryParams` and its sisters.
    struct Arguments {
        let count: Int32
        let types: UnsafePointer<Oid>?
        let values: UnsafePointer<UnsafePointer<CChar>?>?
        let lengths: UnsafePointer<Int32>?
        let formats: UnsafePointer<Int32>?
    }

    mutating func with(_ parameters: [BoundParameter], _ body: (Arguments) -> Int32) -> Int32 {
        guard !parameters.isEmpty else {
            return body(Arguments(count: 0, types: nil, values: nil, lengths: nil, formats: nil))
        }
        load(parameters)
        defer { if bytes.capacity > Self.bytesKept { bytes = [] } }
        return bytes.withUnsafeBytes { block in
            for (index, offset) in offsets.enumerated() {
                pointers[index] =
                    offset < 0
                    ? nil : block.baseAddress?.advanced(by: offset).assumingMemoryBound(to: CChar.self)
            }
            return types.withUnsafeBufferPointer { types in
                pointers.withUnsafeBufferPointer { pointers in
                    lengths.withUnsafeBufferPointer { lengths in
                        formats.withUnsafeBufferPointer { formats in
                            body(
                                Arguments(
                                    count: Int32(clamping: parameters.count),
                                    types: types.baseAddress,
                                    values: pointers.baseAddress,
                                    lengths: lengths.baseAddress,
                                    formats: formats.baseAddress
                                )
                            )
                        }
                    }
                }
            }
        }
    }

    private mutating func load(_ parameters: [BoundParameter]) {
        bytes.removeAll(keepingCapacity: true)
        offsets.removeAll(keepingCapacity: true)
        types.removeAll(keepingCapacity: true)
        lengths.removeAll(keepingCapacity: true)
        formats.removeAll(keepingCapacity: true)
        pointers.removeAll(keepingCapacity: true)
        for parameter in parameters {
            let offset = bytes.count
            let isValue = bytes.append(binary: parameter.value)
            offsets.append(isValue ? offset : -1)
            types.append(parameter.type.rawValue)
            lengths.append(Int32(clamping: bytes.count - offset))
            if case .text = parameter.value {
                formats.append(0)
            } else {
                formats.append(1)
            }
            pointers.append(nil)
            // Ends a text, and gives an empty value an address: no address would be NULL.
            bytes.append(0)
        }
    }
}
