// Whether what the DNS says is what a record must say. Strangers write these records, so equality is by meaning:
// blanks, order, other terms and other records at the same name do no harm where mail servers forgive them.

/// What the DNS said about one record.
package enum RecordAnswer: Sendable, Hashable {
    /// A host that takes mail.
    package struct Exchanger: Sendable, Hashable {
        package let preference: Int
        package let host: String

        /// Takes both parts.
        package init(preference: Int, host: String) {
            self.preference = preference
            self.host = host
        }
    }

    /// TXT records, the strings of each joined.
    case texts([String])
    case exchangers([Exchanger])
    case noSuchName
    /// Nobody answered, or with nonsense; says nothing about the record.
    case noAnswer(String)
}

/// What an answer means for a record.
package struct RecordJudgement: Sendable, Hashable {
    package enum Verdict: Sendable, Hashable {
        case matches
        case differs
        /// Nothing is known that was not known before.
        case unknown
    }

    package let verdict: Verdict
    package let found: String
    package let detail: String?

    fileprivate static let foundMax = 1_000

    fileprivate init(_ verdict: Verdict, found: [String], _ detail: String? = nil) {
        self.verdict = verdict
        self.detail = detail
        // What strangers publish is shown and stored: no controls, and no more than a screenful.
        let text = found.isEmpty ? "no record" : found.joined(separator: " | ")
        let clean = text.unicodeScalars.prefix(Self.foundMax).map { scalar -> Unicode.Scalar in
            scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) ? "\u{FFFD}" : scalar
        }
        self.found = String(String.UnicodeScalarView(clean))
    }
}

extension DomainRecord {
    /// Judges an answer to the question for this record.
    package func judge(_ answer: RecordAnswer) -> RecordJudgement {
        switch answer {
        case .noAnswer(let reason):
            return RecordJudgement(
                .unknown,
                found: ["no answer: \(reason)"],
                "The DNS gave no usable answer; it is asked again."
            )
        case .noSuchName:
            return RecordJudgement(
                .differs,
                found: ["no record: the name does not exist"],
                "Nothing is published under this name."
            )
        case .exchangers(let hosts):
            return judge(hosts)
        case .texts(let texts):
            guard !texts.isEmpty else {
                return RecordJudgement(.differs, found: [], "There is no TXT record under this name.")
            }
            return switch kind {
            case .dkimRSA, .dkimEd25519: judgeKeys(texts)
            case .returnPathSPF: judgeSPF(texts)
            case .dmarc: judgeDMARC(texts)
            case .returnPathMX, .receiving:
                RecordJudgement(.differs, found: texts, "There is no MX record under this name.")
            }
        }
    }

    private func judge(_ hosts: [RecordAnswer.Exchanger]) -> RecordJudgement {
        let found = hosts.sorted { ($0.preference, $0.host) < ($1.preference, $1.host) }
            .map { "\($0.preference) \($0.host)" }
        guard !hosts.isEmpty else {
            return RecordJudgement(.differs, found: [], "There is no MX record under this name.")
        }
        guard hosts.contains(where: { Self.isSameName($0.host, value) }) else {
            return RecordJudgement(.differs, found: found, "None of the MX records names \(value).")
        }
        return RecordJudgement(.matches, found: found)
    }

    private func judgeKeys(_ texts: [String]) -> RecordJudgement {
        guard let wanted = PublishedKey(value) else {
            return RecordJudgement(.unknown, found: texts, "The expected key cannot be read.")
        }
        let published = texts.compactMap(PublishedKey.init)
        guard let ours = published.first(where: { $0.isSameKey(as: wanted) }) else {
            let detail =
                published.isEmpty
                ? "None of the TXT records under this name is a DKIM key."
                : "The key published under this name is another one, or is cut."
            return RecordJudgement(.differs, found: texts, detail)
        }
        guard ours.isUsable else {
            return RecordJudgement(
                .differs,
                found: texts,
                "The key is ours, but its other tags forbid to use it for mail."
            )
        }
        return RecordJudgement(.matches, found: texts)
    }

    private func judgeSPF(_ texts: [String]) -> RecordJudgement {
        let policies = texts.map { $0.lowercased().split(separator: " ").map(String.init) }
            .filter { $0.first == "v=spf1" }
        guard let policy = policies.first else {
            return RecordJudgement(
                .differs,
                found: texts,
                "None of the TXT records under this name is an SPF record."
            )
        }
        guard policies.count == 1 else {
            return RecordJudgement(
                .differs,
                found: texts,
                "There is more than one SPF record, which mail servers take for an error (RFC 7208 §4.5)."
            )
        }
        // RFC 7208 §5.1: what stands behind `all` is not looked at.
        let terms = policy.dropFirst().prefix { !["all", "+all", "-all", "~all", "?all"].contains($0) }
        let ours =
            value.split(separator: " ").first { $0.hasPrefix("include:") }.map { $0.dropFirst(8) } ?? ""
        let isIncluded = terms.contains { term in
            let plain = term.hasPrefix("+") ? term.dropFirst() : term[...]
            return plain.hasPrefix("include:") && Self.isSameName(plain.dropFirst(8), ours)
        }
        guard isIncluded else {
            return RecordJudgement(
                .differs,
                found: texts,
                "The SPF record does not hold include:\(ours) before its end."
            )
        }
        return RecordJudgement(.matches, found: texts)
    }

    private func judgeDMARC(_ texts: [String]) -> RecordJudgement {
        let policies = texts.filter { text in
            let tag = text.prefix { $0 != ";" }.split(separator: "=", maxSplits: 1).map {
                $0.filter { $0 != " " && $0 != "\t" }
            }
            return tag == ["v", "DMARC1"]
        }
        switch policies.count {
        case 1: return RecordJudgement(.matches, found: texts)
        case 0: return RecordJudgement(.differs, found: texts, "None of the TXT records is a DMARC policy.")
        default:
            return RecordJudgement(
                .differs,
                found: texts,
                "There is more than one DMARC policy, so mail servers use none (RFC 7489 §6.6.3)."
            )
        }
    }

    private static func isSameName(_ a: some StringProtocol, _ b: some StringProtocol) -> Bool {
        func plain(_ name: some StringProtocol) -> String {
            name.hasSuffix(".") ? name.dropLast().lowercased() : name.lowercased()
        }
        return plain(a) == plain(b)
    }
}

/// The tags of a key record that tell whose key it is and whether it may sign our mail (RFC 6376 §3.6.1).
private struct PublishedKey {
    let kind: String
    let key: String
    let isUsable: Bool

    /// nil for what is no key record.
    init?(_ text: String) {
        guard text.utf8.count <= DKIMRecord.octetsMax, let tags = TagList(Array(text.utf8)[...]),
            let key = tags["p"], tags["v"] ?? "DKIM1" == "DKIM1"
        else { return nil }
        self.key = key.filter { $0 != "=" }
        kind = (tags["k"] ?? "rsa").lowercased()
        let takesSHA256 = tags.list("h")?.contains("sha256") ?? true
        let isForMail = tags.list("s")?.contains { $0 == "*" || $0 == "email" } ?? true
        isUsable = takesSHA256 && isForMail
    }

    func isSameKey(as other: PublishedKey) -> Bool { kind == other.kind && key == other.key }
}
