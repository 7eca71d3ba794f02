// How mail programs announce what they quote, in the languages they speak.

/// Lines that say: what follows was written by somebody else.
enum QuoteMarks {
    /// Where an attribution ("On … wrote:") that begins at `start` ends; it may run over several lines.
    static func attributionEnd(_ lines: [QuoteLine], at start: Int) -> Int? {
        let first = lines[start].plain
        guard !first.isEmpty, couldBegin(first) else { return nil }
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

    /// What every attribution that has no fixed beginning holds: a date's digits, or an address.
    private static func couldBegin(_ line: String) -> Bool {
        line.utf8.count <= attributionMax && line.first != "-" && line.first != "*" || line.hasPrefix("-")
    }

    private static func isAttribution(_ text: String) -> Bool {
        guard text.last == ":" || text.last == "：" || text.last == ";" else { return false }
        let bare = text.drop { $0 == "-" || $0 == "*" || $0 == "_" || $0 == " " }
        for (begins, ends) in attributions where ends.contains(where: { bare.hasSuffix($0) }) {
            for begin in begins where bare.hasPrefix(begin) {
                if bare.contains("@") || bare.contains(where: \.isNumber) { return true }
            }
        }
        return false
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
        "de", "envoyé", "à", "objet", "date d'envoi", "répondre à", "enviado", "enviado el", "para", "asunto",
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

    /// In lower case.
    static let deviceMarks = [
        "sent from my ", "sent from outlook", "sent from mail for ", "sent via ", "sent by ",
        "get outlook for ",
        "envoyé de mon ", "envoyé depuis ", "enviado desde mi ", "enviado do meu ", "enviado desde ",
        "gesendet von ",
        "von meinem ", "inviato da ", "verzonden vanaf ", "sendt fra min ", "skickat från min ", "lähetetty ",
        "wysłane z ", "odesláno z ", "отправлено с ", "отправлено из ", "iphoneから送信", "发自我的", "从我的",
        "sent using ", "sent with ", "mit meinem ",
    ]
}
