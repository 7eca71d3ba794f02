// File names as parameters: quoted when short and ASCII, else percent-encoded in pieces (RFC 2231 §3, §4).

/// The parameters of Content-Disposition that carry a file name.
enum FileName {
    private static let pieceOctetsMax = 60
    private static let octetsMax = 255

    /// One or more parameters, without the semicolons between them; none for an empty name.
    static func parameters(_ name: String) -> [[UInt8]] {
        let bytes = Array(safe(name).utf8)
        guard !bytes.isEmpty else { return [] }
        if bytes.count <= pieceOctetsMax, bytes.allSatisfy({ $0 < 0x80 }) {
            return [Array("filename=\"".utf8) + bytes + [UInt8(ascii: "\"")]]
        }
        let pieces = split(bytes)
        if pieces.count == 1 { return [Array("filename*=UTF-8''".utf8) + pieces[0]] }
        return pieces.enumerated().map { index, piece in
            Array("filename*\(index)*=\(index == 0 ? "UTF-8''" : "")".utf8) + piece
        }
    }

    // A path would be someone else's folder; controls, quotes and backslashes would need escapes that few read right.
    private static func safe(_ name: String) -> String {
        var kept = String.UnicodeScalarView()
        var octets = 0
        let base = name.unicodeScalars.split { $0 == "/" || $0 == "\\" }.last ?? name.unicodeScalars[...]
        for scalar in base {
            let isControl = scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
            let shown: Unicode.Scalar =
                isControl || scalar == "\"" || scalar == "/" || scalar == "\\" ? "_" : scalar
            octets += UTF8.width(shown)
            if octets > octetsMax { break }
            kept.append(shown)
        }
        return String(kept)
    }

    private static func split(_ bytes: [UInt8]) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        var piece: [UInt8] = []
        var index = 0
        while index < bytes.count {
            let end = min(index + EncodedWord.scalarOctets(bytes[index]), bytes.count)
            var encoded: [UInt8] = []
            for byte in bytes[index..<end] {
                if isAttributeCharacter(byte) {
                    encoded.append(byte)
                } else {
                    encoded.append(UInt8(ascii: "%"))
                    QuotedPrintableEncoder.appendHex(byte, to: &encoded)
                }
            }
            if piece.count + encoded.count > pieceOctetsMax - 12 {
                pieces.append(piece)
                piece = []
            }
            piece += encoded
            index = end
        }
        pieces.append(piece)
        return pieces
    }

    private static func isAttributeCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
            true
        default:
            false
        }
    }
}
