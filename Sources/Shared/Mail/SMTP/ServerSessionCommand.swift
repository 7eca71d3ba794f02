// One command line taken apart (RFC 5321 §4.1.1), and the paths and parameters of MAIL and RCPT.

extension ServerSession {
    /// A verb and what follows it.
    struct Command: Sendable, Equatable {
        enum Verb: String, Sendable {
            case ehlo = "EHLO", helo = "HELO", lhlo = "LHLO", mail = "MAIL", rcpt = "RCPT", data = "DATA"
            case rset = "RSET", noop = "NOOP", vrfy = "VRFY", quit = "QUIT", startTLS = "STARTTLS", help =
                "HELP"
            case expn = "EXPN", turn = "TURN", etrn = "ETRN", bdat = "BDAT", auth = "AUTH", send = "SEND"
            // Browsers and those who ride on them (cross-protocol scripting).
            case get = "GET", post = "POST", put = "PUT", head = "HEAD", options = "OPTIONS", delete =
                "DELETE"
            case connect = "CONNECT", patch = "PATCH", trace = "TRACE", pri = "PRI"
        }

        let verb: Verb?
        /// What follows the verb, without the blanks around it.
        let argument: [UInt8]

        init(_ line: [UInt8]) {
            let end = line.firstIndex { $0.isBlank } ?? line.count
            let name = end <= 8 ? String(decoding: line[..<end], as: UTF8.self).uppercased() : ""
            verb = Verb(rawValue: name)
            argument = Array(line[line.trimmed(end..<line.count)])
        }

        /// RFC 2920 §3.1.
        var endsGroup: Bool {
            switch verb {
            case .ehlo, .helo, .lhlo, .data, .startTLS, .vrfy, .expn, .noop, .help, .auth: true
            default: false
            }
        }

        /// What stands behind such a command cannot even be skipped safely.
        var changesEverything: Bool {
            switch verb {
            case .ehlo, .helo, .lhlo, .data, .startTLS, .auth: true
            default: false
            }
        }
    }

    /// `FROM:<path> parameters` (RFC 5321 §4.1.2).
    struct PathArgument: Sendable {
        enum Fault: Error { case syntax, address, utf8 }

        /// nil for `<>`.
        let address: EmailAddress?
        let parameters: [(name: String, value: String?)]

        init(_ argument: [UInt8], keyword: StaticString, hostname: String) throws(Fault) {
            guard argument.matches(keyword, at: 0) else { throw .syntax }
            var position = keyword.utf8CodeUnitCount
            // A blank after the colon is wrong and common.
            while position < argument.count, argument[position].isBlank { position += 1 }
            guard position < argument.count, argument[position] == ASCII.less else { throw .syntax }
            guard let end = Self.pathEnd(argument, from: position) else { throw .syntax }
            let path = argument[(position + 1)..<end]
            guard end + 1 == argument.count || argument[end + 1].isBlank else { throw .syntax }
            parameters = Self.parameters(argument[(end + 1)...])
            address = try Self.address(path, hostname: hostname)
        }

        /// The closing `>`, which may also stand in a quoted local part.
        private static func pathEnd(_ bytes: [UInt8], from start: Int) -> Int? {
            var isQuoted = false
            var position = start + 1
            while position < bytes.count {
                switch bytes[position] {
                case ASCII.backslash where isQuoted: position += 1
                case ASCII.quote: isQuoted.toggle()
                case ASCII.greater where !isQuoted: return position
                default: break
                }
                position += 1
            }
            return nil
        }

        private static func address(
            _ path: ArraySlice<UInt8>,
            hostname: String
        ) throws(Fault) -> EmailAddress? {
            var path = path
            // RFC 5321 §4.1.2: a source route is accepted and ignored.
            if path.first == 0x40, let colon = path.firstIndex(of: ASCII.colon) {
                path = path[(colon + 1)...]
            }
            guard !path.isEmpty else { return nil }
            guard let text = String(validating: path, as: UTF8.self) else { throw .utf8 }
            // RFC 5321 §4.5.1: `<postmaster>` needs no domain.
            let whole = text.asciiLowercased == "postmaster" ? "postmaster@\(hostname)" : text
            do { return try EmailAddress(whole) } catch { throw .address }
        }

        private static func parameters(_ bytes: ArraySlice<UInt8>) -> [(name: String, value: String?)] {
            bytes.split(whereSeparator: \.isBlank).map { word in
                guard let equals = word.firstIndex(of: ASCII.equals) else {
                    return (String(decoding: word, as: UTF8.self).uppercased(), nil)
                }
                return (
                    String(decoding: word[..<equals], as: UTF8.self).uppercased(),
                    String(decoding: word[(equals + 1)...], as: UTF8.self)
                )
            }
        }
    }
}
