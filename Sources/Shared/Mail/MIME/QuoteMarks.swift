// How mail programs announce what they quote, in the languages they speak.

/// Lines that say: what follows was written by somebody else.
enum QuoteMarks {
    /// Where an attribution ("On … wrote:") that begins at `start` ends; it may run over several lines.
    static func attributionEnd(_ lines: [QuoteLine], at start: Int) -> Int? {
        let first = lines[start].plain
        guard !first.isEmpty, couldBegin(first) else { return nil }
        let lower = first.lowercased()
        let hasBeginning = beginnings.contains {
            lower.drop { $0 == "-" || $0 == "*" || $0 == " " }.hasPrefix($0)
        }
        // Without a word that begins it, the first line must hold a date or an address itself.
        guard hasBeginning || first.contains(where: \.isNumber) || first.contains("@") || first.contains("<")
        else {
            return nil
        }
        var text = ""
        for position in start..<min(start + linesMax, lines.count) {
            let line = lines[position].plain
            if line.isEmpty || position > start && lines[position].isQuoted { return nil }
            text += text.isEmpty ? line : " " + line
            guard text.utf8.count <= attributionMax else { return nil }
            if isAttribution(text.lowercased()) { return position + 1 }
        }
        return nil
    }

    /// True where the copy of an earlier message begins: a rule with words, or its header lines.
    static func beginsOriginal(_ lines: [QuoteLine], at start: Int) -> Bool {
        let line = lines[start].plain
        guard !line.isEmpty else { return false }
        if isRule(line) { return true }
        if line.allSatisfy({ $0 == "_" }), line.count >= 20 {
            let next = lines[(start + 1)...].prefix(3).firstIndex { !$0.isBlank }
            return next.map { headerNames(lines, at: $0) >= 2 } ?? false
        }
        return headerNames(lines, at: start) >= 3
    }

    private static let linesMax = 5
    private static let attributionMax = 600

    /// (how it begins, how it ends), in lower case.
    private static let attributions: [(begins: [String], ends: [String])] = [
        (["on "], ["wrote:", "wrote :", "writes:", "wrote;", "schrieb:", "napisał(a):"]),
        (["le "], ["a écrit :", "a écrit:", "a ecrit :", "a ecrit:", "écrit :", "écrit:"]),
        (["el "], ["escribió:", "escribio:", "escribió :"]),
        (["em ", "no dia ", "a "], ["escreveu:", "escreveu :", "escribiu:"]),
        (["il ", "in data "], ["ha scritto:", "ha scritto :"]),
        (["am ", "den ", "von "], ["schrieb:", "schrieb :", "schreef:", "skrev:"]),
        (["op "], ["schreef:", "het volgende geschreven:", "schreef :"]),
        (["den ", "på ", "tor ", "ons ", "man ", "tir ", "fre ", "lør ", "søn "], ["skrev:", "skrev :"]),
        (["w dniu ", "dnia "], ["napisał:", "napisał(a):", "napisała:", "pisze:"]),
        (["pe ", "în data "], ["a scris:"]),
        (["dne ", "dňa "], ["napsal(a):", "napsal:", "napísal(a):"]),
        (
            [""],
            [
                "kirjoitti:", "написал:", "написал(а):", "пишет:", "написала:", "yazdı:", "şunu yazdı:",
                "írta:",
            ]
        ),
        (["в ", "on ", "am ", "el ", "le "], ["пише:", "wrote:", "写道:", "写道：", "のメール:"]),
        ([""], ["写道:", "写道：", "寫道:", "寫道：", "님이 작성:", "wrote:"]),
    ]

    private static let beginnings = Set(attributions.flatMap(\.begins)).subtracting([""])

    private static func couldBegin(_ line: String) -> Bool {
        line.utf8.count <= attributionMax && line.first != ">"
    }

    private static func isAttribution(_ text: String) -> Bool {
        let bare = text.drop { $0 == "-" || $0 == "*" || $0 == "_" || $0 == " " }
        if text.hasPrefix("--"), bare.hasPrefix("on "), bare.trimmingDashes.hasSuffix(" wrote") {
            return true
        }
        guard text.last == ":" || text.last == "：" || text.last == ";" else { return false }
        // A moment and an address: whatever the language.
        if bare.hasSuffix(">:") || bare.hasSuffix("> :"), hasClock(bare), bare.contains("@") { return true }
        for (begins, ends) in attributions where ends.contains(where: { bare.hasSuffix($0) }) {
            for begin in begins where bare.hasPrefix(begin) {
                if bare.contains("@") || bare.contains(where: \.isNumber) { return true }
            }
        }
        // "Am … schrieb … :" and "Op … schreef …:" have the verb in the middle.
        let verbs = [(" schrieb ", "am "), (" schreef ", "op "), (" skrev ", "den "), (" escribió ", "el ")]
        return verbs.contains { bare.hasPrefix($0.1) && bare.contains($0.0) }
            && bare.contains(where: \.isNumber)
    }

    // As in 14:41.
    private static func hasClock(_ text: Substring) -> Bool {
        let bytes = Array(text.utf8)
        return bytes.indices.dropFirst().dropLast(2).contains {
            bytes[$0] == ASCII.colon && bytes[$0 - 1].isDigit && bytes[$0 + 1].isDigit
                && bytes[$0 + 2].isDigit
        }
    }

    private static let ruleWords = [
        "original message", "original appointment", "forwarded message", "ursprüngliche nachricht",
        "originalnachricht", "weitergeleitete nachricht", "message d'origine", "message original",
        "message transféré", "mensaje original", "mensaje reenviado", "mensagem original",
        "mensagem encaminhada",
        "messaggio originale", "messaggio inoltrato", "oorspronkelijk bericht", "doorgestuurd bericht",
        "original besked", "oprindelig meddelelse", "oprindelig besked", "originalmeddelande",
        "ursprungligt meddelande",
        "opprinnelig melding", "alkuperäinen viesti", "wiadomość oryginalna", "oryginalna wiadomość",
        "пересылаемое сообщение", "исходное сообщение", "původní zpráva", "eredeti üzenet", "reply message",
        "orijinal ileti", "原始邮件", "原始郵件", "転送メッセージ", "元のメッセージ",
    ]

    /// `-----Original Message-----` and `Begin forwarded message:`.
    private static func isRule(_ line: String) -> Bool {
        guard line.utf8.count <= 120 else { return false }
        let lower = line.lowercased()
        let inner = lower.drop { $0 == "-" || $0 == "_" || $0 == "=" || $0 == " " || $0 == "*" || $0 == ">" }
        let marks = lower.count - inner.count
        if marks >= 2, ruleWords.contains(where: { inner.hasPrefix($0) }) { return true }
        return lower == "begin forwarded message:" || lower.hasPrefix("anfang der weitergeleiteten")
    }

    private static let headers: Set<String> = [
        "from", "sent", "to", "cc", "bcc", "subject", "date", "reply-to", "importance",
        "von", "gesendet", "an", "betreff", "datum", "kopie", "antwort an",
        "de", "envoyé", "envoyé le", "à", "objet", "date d'envoi", "répondre à", "enviado", "enviado el",
        "para", "asunto",
        "fecha", "assunto", "data", "da", "a", "oggetto", "inviato", "inviata", "van", "verzonden", "aan",
        "onderwerp",
        "fra", "sendt", "til", "emne", "från", "skickat", "till", "ämne", "lähettäjä", "lähetetty",
        "vastaanottaja",
        "aihe", "päiväys", "od", "wysłano", "do", "temat", "dw", "от", "отправлено", "кому", "тема", "дата",
        "от кого",
        "odesláno", "komu", "předmět", "feladó", "elküldve", "címzett", "tárgy", "kimden", "gönderilen",
        "kime", "konu",
        "发件人", "发送时间", "收件人", "主题", "抄送", "寄件者", "主旨", "差出人", "送信日時", "宛先", "件名",
        "보낸 사람", "보낸 날짜", "받는 사람", "제목",
    ]

    /// How many header lines of an earlier message stand here, one below the other.
    private static func headerNames(_ lines: [QuoteLine], at start: Int) -> Int {
        var count = 0
        for line in lines[start...].prefix(6) {
            let plain = line.plain.drop { $0 == "*" || $0 == ">" || $0 == " " }
            guard let colon = plain.prefix(30).firstIndex(where: { $0 == ":" || $0 == "：" }) else { break }
            let name = plain[..<colon].filter { $0 != "*" }
            guard headers.contains(String(name).trimmedASCII.lowercased()) else { break }
            count += 1
        }
        return count
    }

    /// First words of a device's name, in lower case.
    static let devices: Set<String> = [
        "iphone", "ipad", "ipod", "android", "phone", "mobile", "smartphone", "handy", "blackberry",
        "samsung", "galaxy",
        "huawei", "windows", "outlook", "mail", "yahoo", "gmail", "nokia", "sony", "htc", "pixel", "xiaomi",
        "protonmail",
    ]

    /// In lower case.
    static let deviceMarks = [
        "sent from my ", "sent from outlook", "sent from mail for ", "sent via ", "sent by ",
        "get outlook for ",
        "envoyé de mon ", "envoyé depuis ", "envoyé à partir de ", "enviado desde mi ", "enviado do meu ",
        "enviado desde ",
        "gesendet von ",
        "von meinem ", "inviato da ", "verzonden vanaf ", "sendt fra min ", "skickat från min ", "lähetetty ",
        "wysłane z ", "odesláno z ", "отправлено с ", "отправлено из ", "iphoneから送信", "发自我的", "从我的",
        "sent using ", "sent with ", "mit meinem ",
    ]
}

extension Substring {
    /// Without the dashes and blanks at its end.
    fileprivate var trimmingDashes: Substring {
        var text = self
        while let last = text.last, last == "-" || last == " " { text = text.dropLast() }
        return text
    }
}
