// A bounce in a server's own words: qmail, Exim, Exchange, Notes and some hundred others wrote their letters before
// RFC 3464, or without having read it.

/// The part of a message that a person would read to learn what failed.
struct BounceLetter {
    /// Lines up to the copy of the original message.
    let lines: [Substring]
    /// What follows them: usually the original message's header.
    private let copy: String
    private let message: ParsedMessage

    private static let textMax = 1 << 16
    private static let addressesMax = 100

    init(_ message: ParsedMessage) {
        self.message = message
        let text = String(decoding: (message.text ?? "").utf8.prefix(Self.textMax), as: UTF8.self)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let cut = Self.copyStart(lines)
        self.lines = Array(lines[..<cut])
        copy = lines[cut...].joined(separator: "\n")
    }

    /// The Message-ID in the copy.
    var originalMessageID: String? {
        copyHeader.first(named: "Message-ID").flatMap { MessageIDList.ids(in: $0.value).first }
    }

    /// The original message's header, where the letter's text quotes it.
    var copyHeader: [HeaderField] {
        let bytes = Array(copy.utf8)
        var position = 0
        // Rules and words stand between the letter and the header.
        for _ in 0..<12 where position < bytes.count {
            if PartHeader.beginsMessage(bytes, at: position, limit: bytes.count) {
                return PartHeader(bytes, at: position, limit: bytes.count, isRoot: true).fields
            }
            position = bytes.line(at: position, limit: bytes.count).next
        }
        return []
    }

    /// True where a machine sent this to say that something failed.
    var isBounce: Bool {
        if message.header.first(named: "X-Failed-Recipients") != nil { return true }
        guard !isVacation else { return false }
        let subject = (message.subject ?? "").lowercased()
        // `MAILER-DAEMON <>` has no address.
        let field = message.header.first(named: "From").map(\.text) ?? ""
        let sender = (message.from.first?.address ?? field).asciiLowercased
        let isFromMachine = LetterPhrases.senders.contains { sender.hasPrefix($0) } || returnPathIsEmpty
        let isAboutFailure = LetterPhrases.subjects.contains { subject.contains($0) }
        if isFromMachine && isAboutFailure { return true }
        guard isFromMachine || isAboutFailure else { return false }
        let text = lines.prefix(60).joined(separator: " ").lowercased()
        return LetterPhrases.failures.contains { text.contains($0) }
    }

    /// An answer by a program about its owner, not about a delivery (RFC 3834).
    private var isVacation: Bool {
        let auto = message.header.first(named: "Auto-Submitted")?.text.asciiLowercased ?? ""
        return auto.hasPrefix("auto-replied") && message.header.first(named: "In-Reply-To") != nil
            && !LetterPhrases.subjects.contains { (message.subject ?? "").lowercased().contains($0) }
    }

    private var returnPathIsEmpty: Bool {
        guard let field = message.header.first(named: "Return-Path") else { return false }
        let path = String(decoding: field.value, as: UTF8.self)
        return path.hasPrefix("<>") || path.asciiLowercased.contains("mailer-daemon")
    }

    // MARK: Recipients

    /// Whom the letter is about, each with what it says about them.
    func recipients(original: OriginalMessage) -> [DeliveryReport.Recipient] {
        var addresses = failedRecipients
        if addresses.isEmpty { addresses = addressesInLetter }
        let others = original.recipients.isEmpty ? copyRecipients : original.recipients
        if addresses.isEmpty, others.count == 1 || !others.isEmpty && hasFailure {
            addresses = Array(others.prefix(1))
        }
        // Where the copy says to whom it went, other addresses in the letter are somebody's help desk.
        let known = Set(others.map { $0.asciiLowercased })
        if addresses.contains(where: { known.contains($0.asciiLowercased) }) {
            addresses = addresses.filter { known.contains($0.asciiLowercased) || !isHelp($0) }
        }
        return addresses.prefix(DeliveryReport.recipientsMax).map { address in
            let passage = addresses.count == 1 ? whole : passage(about: address, among: addresses)
            return DeliveryReport.Recipient(
                address: address,
                action: isDelay ? .delayed : .failed,
                status: passage.status,
                code: passage.code,
                diagnostic: passage.text,
                remoteMTA: nil,
                isAfterData: passage.isAfterData
            )
        }
    }

    /// Somebody to turn to.
    private func isHelp(_ address: String) -> Bool {
        guard let line = lines.first(where: { $0.contains(address) })?.lowercased() else { return true }
        return LetterPhrases.help.contains { line.contains($0) }
    }

    private var copyRecipients: [String] {
        copyHeader.all(named: "To").flatMap { AddressList.parse($0.value).flattened.map(\.address) }
    }

    private var hasFailure: Bool { whole.code != nil || whole.status != nil }

    private var failedRecipients: [String] {
        message.header.all(named: "X-Failed-Recipients").flatMap { field in
            AddressList.parse(field.value).flattened.map(\.address)
        }
    }

    /// Addresses in the text that are not the correspondents themselves.
    private var addressesInLetter: [String] {
        let own = (message.from + message.to + message.replyTo).map { $0.address.asciiLowercased }
        var found: [String] = []
        for line in lines {
            let lower = line.prefix(20).lowercased()
            // "From: …" and "Reporting-MTA: …" name somebody else.
            if ["from:", "sender:", "message-id:", "reply-to:", "in-reply-to:"].contains(where: {
                lower.hasPrefix($0)
            }) {
                continue
            }
            for address in Self.addresses(in: line) where found.count < Self.addressesMax {
                let key = address.asciiLowercased
                guard !own.contains(key), !found.contains(where: { $0.asciiLowercased == key }) else {
                    continue
                }
                guard !LetterPhrases.senders.contains(where: { key.hasPrefix($0) }) else { continue }
                found.append(address)
            }
        }
        return found
    }

    static func addresses(in line: Substring) -> [String] {
        let bytes = Array(line.utf8.prefix(2_000))
        var found: [String] = []
        var position = 0
        while let at = bytes.position(of: 0x40, from: position) {
            position = at + 1
            var start = at
            while start > 0, isLocal(bytes[start - 1]) { start -= 1 }
            var end = at + 1
            while end < bytes.count,
                bytes[end].isLetter || bytes[end].isDigit || bytes[end] == ASCII.dot
                    || bytes[end] == ASCII.dash
            { end += 1 }
            while end > at + 1, bytes[end - 1] == ASCII.dot || bytes[end - 1] == ASCII.dash { end -= 1 }
            guard start < at, bytes[(at + 1)..<end].contains(ASCII.dot) else { continue }
            // Message ids look like addresses and stand in brackets after their name; long digits give them away.
            found.append(String(decoding: bytes[start..<end], as: UTF8.self))
            position = end
        }
        return found
    }

    private static func isLocal(_ byte: UInt8) -> Bool {
        byte.isLetter || byte.isDigit
            || [0x2E, 0x2D, 0x5F, 0x2B, 0x3D, 0x26, 0x27, 0x2F, 0x25, 0x23, 0x21].contains(byte)
    }

    // MARK: Passages

    /// What the letter says from where it names an address to where it names the next one.
    func passage(about address: String, among addresses: [String]) -> Diagnostic {
        let key = address.asciiLowercased
        let others = Set(addresses.map(\.asciiLowercased)).subtracting([key])
        guard let start = lines.firstIndex(where: { $0.lowercased().contains(key) }) else { return whole }
        var end = start + 1
        while end < lines.count, end < start + 12 {
            let named = Self.addresses(in: lines[end]).map(\.asciiLowercased)
            if named.contains(where: { others.contains($0) }) { break }
            end += 1
        }
        let passage = Diagnostic(lines[start..<end].joined(separator: " "))
        return passage.code == nil && passage.status == nil && others.isEmpty ? whole : passage
    }

    /// Everything the letter says.
    var whole: Diagnostic { Diagnostic(lines.prefix(200).joined(separator: " ")) }

    private var isDelay: Bool {
        let subject = (message.subject ?? "").lowercased()
        if LetterPhrases.delays.contains(where: { subject.contains($0) }) { return true }
        let text = lines.prefix(30).joined(separator: " ").lowercased()
        return text.contains("this is a warning message only") || text.contains("you do not need to resend")
    }

    // MARK: The copy of the original message

    /// A rule, a heading, or words that mean nothing else.
    private static func isCopyRule(_ line: String) -> Bool {
        if LetterPhrases.sureCopies.contains(where: { line.contains($0) }) { return true }
        let plain = line.trimmedASCII
        guard let first = plain.first, let last = plain.last else { return false }
        guard "-*=_#<|".contains(first) || last == ":" || last == "." && plain.count < 50 else {
            return false
        }
        return LetterPhrases.copies.contains { plain.contains($0) }
    }

    private static func copyStart(_ lines: [Substring]) -> Int {
        for (position, line) in lines.enumerated() {
            let lower = line.prefix(120).lowercased()
            if isCopyRule(lower) { return position }
            let isHeader = ["return-path:", "received:", "x-original-to:", "dkim-signature:"].contains {
                lower.hasPrefix($0)
            }
            if isHeader { return position }
        }
        return lines.count
    }
}
