// RFC 1951: DEFLATE. Reports come from strangers, so every byte that comes out is counted before it is kept.

/// Why compressed bytes are refused.
package enum InflateFault: Error, Sendable, Equatable {
    /// The bytes are no DEFLATE stream, or it breaks off.
    case broken
    /// More than the size or the ratio that is allowed would come out.
    case tooLarge
}

/// Decompresses one DEFLATE stream with a bound on what comes out.
struct Inflate {
    private let input: [UInt8]
    private var position: Int
    private var bits: UInt32 = 0
    private var bitCount = 0
    private var output: [UInt8] = []
    private let sizeMax: Int

    /// Below this size no ratio is suspicious.
    private static let ratioFloor = 1 << 20
    private static let ratioMax = 100

    private init(_ input: [UInt8], from start: Int, sizeMax: Int) {
        self.input = input
        position = start
        let compressed = max(1, input.count - start)
        self.sizeMax = min(sizeMax, max(Self.ratioFloor, compressed * Self.ratioMax))
    }

    /// The bytes of the stream that begins at `start`, and where it ends.
    static func inflate(
        _ input: [UInt8],
        from start: Int = 0,
        sizeMax: Int
    ) throws(InflateFault) -> (bytes: [UInt8], end: Int) {
        guard start >= 0, start <= input.count else { throw .broken }
        var stream = Inflate(input, from: start, sizeMax: sizeMax)
        try stream.run()
        return (stream.output, stream.position - stream.bitCount / 8)
    }

    private mutating func run() throws(InflateFault) {
        var isLast = false
        while !isLast {
            isLast = try take(1) == 1
            switch try take(2) {
            case 0: try stored()
            case 1: try compressed(Self.fixedLengths, Self.fixedDistances)
            case 2:
                let (lengths, distances) = try dynamicTables()
                try compressed(lengths, distances)
            default: throw .broken
            }
        }
    }

    private mutating func take(_ count: Int) throws(InflateFault) -> Int {
        while bitCount < count {
            guard position < input.count else { throw .broken }
            bits |= UInt32(input[position]) << UInt32(bitCount)
            position += 1
            bitCount += 8
        }
        let value = bits & ((1 << UInt32(count)) - 1)
        bits >>= UInt32(count)
        bitCount -= count
        return Int(value)
    }

    /// RFC 1951 §3.2.4.
    private mutating func stored() throws(InflateFault) {
        position -= bitCount / 8
        bits = 0
        bitCount = 0
        guard position + 4 <= input.count else { throw .broken }
        let length = Int(input[position]) | Int(input[position + 1]) << 8
        let check = Int(input[position + 2]) | Int(input[position + 3]) << 8
        position += 4
        guard length == ~check & 0xFFFF, position + length <= input.count else { throw .broken }
        guard output.count + length <= sizeMax else { throw .tooLarge }
        output.append(contentsOf: input[position..<(position + length)])
        position += length
    }

    // MARK: Huffman codes (RFC 1951 §3.2.2)

    /// How many codes have each length, and the symbols in the order of their codes.
    private struct Table {
        var counts = [Int](repeating: 0, count: 16)
        var symbols: [Int] = []

        /// nil where the lengths describe more codes than there are.
        init?(_ lengths: ArraySlice<Int>) {
            for length in lengths { counts[length] += 1 }
            counts[0] = 0
            var left = 1
            for length in 1...15 {
                left = left << 1 - counts[length]
                guard left >= 0 else { return nil }
            }
            var offsets = [Int](repeating: 0, count: 16)
            for length in 1..<15 { offsets[length + 1] = offsets[length] + counts[length] }
            symbols = [Int](repeating: 0, count: lengths.count)
            for (symbol, length) in lengths.enumerated() where length > 0 {
                symbols[offsets[length]] = symbol
                offsets[length] += 1
            }
        }
    }

    private mutating func symbol(_ table: Table) throws(InflateFault) -> Int {
        var code = 0
        var first = 0
        var index = 0
        for length in 1...15 {
            code |= try take(1)
            let count = table.counts[length]
            if code - count < first { return table.symbols[index + code - first] }
            index += count
            first = (first + count) << 1
            code <<= 1
        }
        throw .broken
    }

    private static let fixedLengths = Table(
        [Int](repeating: 8, count: 144)[...] + [Int](repeating: 9, count: 112)
            + [Int](repeating: 7, count: 24)
            + [Int](repeating: 8, count: 8)
    )
    private static let fixedDistances = Table([Int](repeating: 5, count: 30)[...])

    /// RFC 1951 §3.2.7.
    private mutating func dynamicTables() throws(InflateFault) -> (Table?, Table?) {
        let lengthCount = try take(5) + 257
        let distanceCount = try take(5) + 1
        let codeCount = try take(4) + 4
        guard lengthCount <= 286, distanceCount <= 30 else { throw .broken }
        let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
        var codeLengths = [Int](repeating: 0, count: 19)
        for position in order.prefix(codeCount) { codeLengths[position] = try take(3) }
        guard let codes = Table(codeLengths[...]) else { throw .broken }
        var lengths: [Int] = []
        while lengths.count < lengthCount + distanceCount {
            switch try symbol(codes) {
            case 16:
                guard let last = lengths.last else { throw .broken }
                lengths += Array(repeating: last, count: 3 + (try take(2)))
            case 17: lengths += Array(repeating: 0, count: 3 + (try take(3)))
            case 18: lengths += Array(repeating: 0, count: 11 + (try take(7)))
            case let length: lengths.append(length)
            }
        }
        guard lengths.count == lengthCount + distanceCount, lengths[256] != 0 else { throw .broken }
        return (Table(lengths[..<lengthCount]), Table(lengths[lengthCount...]))
    }

    private static let lengthBase = [
        3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163,
        195, 227, 258,
    ]
    private static let lengthExtra = [
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
    ]
    private static let distanceBase = [
        1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
        4097,
        6145, 8193, 12289, 16385, 24577,
    ]

    /// RFC 1951 §3.2.5.
    private mutating func compressed(_ lengths: Table?, _ distances: Table?) throws(InflateFault) {
        guard let lengths, let distances else { throw .broken }
        while true {
            let code = try symbol(lengths)
            if code < 256 {
                guard output.count < sizeMax else { throw .tooLarge }
                output.append(UInt8(truncatingIfNeeded: code))
            } else if code == 256 {
                return
            } else {
                guard code - 257 < Self.lengthBase.count else { throw .broken }
                let length = Self.lengthBase[code - 257] + (try take(Self.lengthExtra[code - 257]))
                let distanceCode = try symbol(distances)
                guard distanceCode < Self.distanceBase.count else { throw .broken }
                let distance = Self.distanceBase[distanceCode] + (try take(max(0, distanceCode / 2 - 1)))
                guard distance <= output.count else { throw .broken }
                guard output.count + length <= sizeMax else { throw .tooLarge }
                for _ in 0..<length { output.append(output[output.count - distance]) }
            }
        }
    }
}
