// How a response says that it is a file, and under which name (RFC 6266, RFC 8187).

/// Values of `Content-Disposition`.
enum ContentDisposition {
    private static let nameBytesMax = 255

    /// A file to be saved under this name; what is no name becomes `attachment`.
    static func attachment(named name: String) -> String {
        let safe = safe(name)
        let plain = String(
            String.UnicodeScalarView(
                safe.unicodeScalars.map { $0.isASCII && $0 != "\"" && $0 != "%" ? $0 : "_" }
            )
        )
        guard plain != safe else { return "attachment; filename=\"\(plain)\"" }
        // The plain one is for those who do not read the other.
        return "attachment; filename=\"\(plain)\"; filename*=UTF-8''\(escape(safe))"
    }

    /// Without a path, control characters, and what systems take for one.
    private static func safe(_ name: String) -> String {
        var kept = String.UnicodeScalarView()
        var bytes = 0
        let last = name.unicodeScalars.split { $0 == "/" || $0 == "\\" }.last ?? ""[...].unicodeScalars
        for scalar in last where scalar.value >= 0x20 && !(0x7F...0x9F).contains(scalar.value) {
            bytes += UTF8.width(scalar)
            guard bytes <= nameBytesMax else { break }
            kept.append(scalar)
        }
        let text = String(kept)
        return text.allSatisfy { $0 == "." || $0 == " " } ? "attachment" : text
    }

    /// RFC 8187 §3.2.1: everything but `attr-char` in percent and hexadecimal.
    private static func escape(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var escaped: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"), UInt8(ascii: "~"):
                escaped.append(byte)
            default: escaped += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: escaped, as: UTF8.self)
    }
}
