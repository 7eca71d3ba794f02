// Media types of files: which texts are one (RFC 6838 §4.2), and which a file's name suggests.

/// Rules about `type/subtype`.
package enum MediaType {
    /// For bytes of which nothing is known.
    package static let unknown = "application/octet-stream"
    private static let octetsMax = 255
    private static let nameMax = 127

    /// Whether a text is `type/subtype`, with parameters behind it or not, fit for a header field.
    package static func isValid(_ text: String) -> Bool {
        guard text.utf8.count <= octetsMax, text.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
            return false
        }
        var type = text.prefix { $0 != ";" }
        while type.last == " " { type.removeLast() }
        let halves = type.split(separator: "/", omittingEmptySubsequences: false)
        return halves.count == 2
            && halves.allSatisfy { name in
                !name.isEmpty && name.utf8.count <= nameMax && name.utf8.allSatisfy(isNameByte)
            }
    }

    /// The type that a file's name suggests; nil for an ending that says nothing.
    package static func ofFile(named name: String) -> String? {
        guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return nil }
        return byEnding[name[name.index(after: dot)...].lowercased()]
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$&-^_.+".utf8.contains(byte)
        }
    }

    private static let byEnding = [
        "7z": "application/x-7z-compressed", "aac": "audio/aac", "avi": "video/x-msvideo",
        "avif": "image/avif", "bin": unknown, "bmp": "image/bmp", "bz2": "application/x-bzip2",
        "css": "text/css", "csv": "text/csv", "doc": "application/msword",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "eml": "message/rfc822", "epub": "application/epub+zip", "gif": "image/gif", "gz": "application/gzip",
        "heic": "image/heic", "htm": "text/html", "html": "text/html", "ics": "text/calendar",
        "jpeg": "image/jpeg", "jpg": "image/jpeg", "js": "text/javascript", "json": "application/json",
        "jsonl": "application/jsonl", "log": "text/plain", "m4a": "audio/mp4", "md": "text/markdown",
        "mov": "video/quicktime", "mp3": "audio/mpeg", "mp4": "video/mp4", "mpeg": "video/mpeg",
        "odp": "application/vnd.oasis.opendocument.presentation",
        "ods": "application/vnd.oasis.opendocument.spreadsheet",
        "odt": "application/vnd.oasis.opendocument.text", "ogg": "audio/ogg", "pdf": "application/pdf",
        "png": "image/png", "ppt": "application/vnd.ms-powerpoint",
        "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "ps": "application/postscript", "rar": "application/vnd.rar", "rtf": "application/rtf",
        "svg": "image/svg+xml", "tar": "application/x-tar", "tif": "image/tiff", "tiff": "image/tiff",
        "tsv": "text/tab-separated-values", "txt": "text/plain", "vcf": "text/vcard", "wav": "audio/wav",
        "weba": "audio/webm", "webm": "video/webm", "webp": "image/webp",
        "xls": "application/vnd.ms-excel",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xml": "application/xml",
        "yaml": "application/yaml", "yml": "application/yaml", "zip": "application/zip",
        "zst": "application/zstd",
    ]
}
