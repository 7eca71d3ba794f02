// The fields of message/delivery-status (RFC 3464 §2.1), which not every server writes as the RFC has it.

/// What a delivery status part says.
struct StatusFields {
    /// One group of fields (RFC 3464 §2.3).
    struct Group {
        let address: String
        let action: DeliveryReport.Action
        let status: EnhancedStatus?
        let diagnostic: String
        let remoteMTA: String?
    }

    private(set) var recipients: [Group] = []
    private(set) var envelopeID: String?
    private(set) var reportingMTA: String?
    private(set) var originalMessageID: String?

    private static let types: Set<String> = [
        "message/delivery-status", "message/global-delivery-status", "text/delivery-status",
    ]

    /// nil where no part of the message is one.
    init?(in message: ParsedMessage) {
        guard let bytes = Self.statusBytes(in: message) else { return nil }
        for fields in Self.groups(bytes) { take(fields) }
    }

    private static func statusBytes(in message: ParsedMessage) -> [UInt8]? {
        if let part = message.parts.first(where: { types.contains($0.mimeType) }) {
            return message.bytes(of: part.index)
        }
        // The right fields under a wrong type.
        let wanted = Array("final-recipient:".utf8)
        for part in message.parts
        where part.content == .leaf && (part.isText || part.contentType.type == "multipart") {
            let bytes = message.bytes(of: part.index)
            let head = Array(bytes.prefix(1 << 16))
            guard let hit = head.map(\.lowered).position(of: wanted, in: 0..<head.count),
                hit == 0 || head[hit - 1] == ASCII.lf
            else { continue }
            return bytes
        }
        return nil
    }

    /// Fields up to each empty line.
    private static func groups(_ bytes: [UInt8]) -> [[HeaderField]] {
        var groups: [[HeaderField]] = []
        var position = 0
        while position < bytes.count, groups.count <= DeliveryReport.recipientsMax {
            let block = PartHeader(bytes, at: position, limit: bytes.count, isRoot: false)
            if !block.fields.isEmpty { groups.append(block.fields) }
            // A line that is no field ends a group as well; skip it.
            position = max(
                block.end,
                block.fields.isEmpty ? bytes.line(at: position, limit: bytes.count).next : 0
            )
        }
        return groups
    }

    private mutating func take(_ fields: [HeaderField]) {
        if let field = fields.first(named: "Reporting-MTA") { reportingMTA = Self.typed(field) }
        if let field = fields.first(named: "Original-Envelope-Id") { envelopeID = field.text.trimmedASCII }
        if let field = fields.first(named: "X-Original-Message-ID") {
            originalMessageID = MessageIDList.ids(in: field.value).first
        }
        // Several groups may have been written without the empty line between them.
        var group: [HeaderField] = []
        for field in fields {
            if field.isNamed("Final-Recipient"), group.contains(where: { $0.isNamed("Final-Recipient") }) {
                addRecipient(group)
                group = []
            }
            group.append(field)
        }
        addRecipient(group)
    }

    private mutating func addRecipient(_ fields: [HeaderField]) {
        let names = ["Final-Recipient", "Original-Recipient", "X-Actual-Recipient"]
        let addresses = names.compactMap { name in fields.first(named: name).map(Self.address) }
        guard let address = addresses.first(where: { $0.contains("@") }) ?? addresses.first else { return }
        let action = fields.first(named: "Action").map { Self.word($0.text) }
        let status = fields.first(named: "Status").flatMap { Diagnostic.status(in: $0.text) }
        let diagnostics = fields.all(named: "Diagnostic-Code").map { Self.typed($0) }
        guard action != nil || status != nil || !diagnostics.isEmpty else { return }
        let group = Group(
            address: address,
            action: Self.action(action ?? "", status: status),
            status: status,
            diagnostic: diagnostics.joined(separator: " "),
            remoteMTA: fields.first(named: "Remote-MTA").map(Self.typed)
        )
        recipients.append(group)
    }

    private static func word(_ text: String) -> String {
        String(text.trimmedASCII.asciiLowercased.prefix { $0.isLetter || $0 == "-" })
    }

    private static func action(_ word: String, status: EnhancedStatus?) -> DeliveryReport.Action {
        if let action = DeliveryReport.Action(rawValue: word) { return action }
        switch (word, status?.class) {
        case ("expired", _), ("failure", _): return .failed
        case ("deferred", _), ("delay", _): return .delayed
        case (_, 2): return .delivered
        case (_, 4): return .delayed
        default: return .failed
        }
    }

    /// The address behind `rfc822;`.
    private static func address(_ field: HeaderField) -> String {
        let text = typed(field)
        guard let address = AddressList.parse(Array(text.utf8)).flattened.first?.address else { return text }
        return address
    }

    /// What stands behind the type and its semicolon (RFC 3464 §2.1.2).
    private static func typed(_ field: HeaderField) -> String {
        let text = field.text
        guard let semicolon = text.prefix(40).firstIndex(of: ";") else { return text.trimmedASCII }
        let type = text[..<semicolon]
        guard type.allSatisfy({ $0.isLetter || $0.isNumber || "-_ ".contains($0) }) else {
            return text.trimmedASCII
        }
        return String(text[text.index(after: semicolon)...]).trimmedASCII
    }
}

extension StatusFields.Group {
    /// The letter around the fields may say more than they do.
    func recipient(letter: BounceLetter, among addresses: [String]) -> DeliveryReport.Recipient {
        let said = Diagnostic(diagnostic)
        let other = diagnostic.isEmpty ? letter.passage(about: address, among: addresses) : said
        let better = [status, said.status, other.status].compactMap { $0 }
        // 5.0.0 and 5.5.0 say only that it failed.
        let telling = better.first { $0.subject != 0 && !($0.subject == 5 && $0.detail == 0) }
        return DeliveryReport.Recipient(
            address: address,
            action: action,
            status: telling ?? better.first,
            code: said.code ?? other.code,
            diagnostic: diagnostic.isEmpty ? other.text : said.text,
            remoteMTA: remoteMTA,
            isAfterData: said.isAfterData || letter.whole.isAfterData
        )
    }
}
