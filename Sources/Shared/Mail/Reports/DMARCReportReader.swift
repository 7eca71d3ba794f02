// From the XML of an aggregate report to its values. Fields are found by their path, so the order does not matter and
// unknown ones are looked over.

struct DMARCReportReader {
    private var report = DMARCReport()
    private var record = DMARCReport.Record()
    private var reason = DMARCReport.Reason()
    private var check = DMARCReport.Check()
    private var beginText = ""
    private var endText = ""

    static func read(_ xml: [UInt8]) throws(DMARCReportFault) -> DMARCReport {
        var reader = DMARCReportReader()
        do { try reader.walk(decoded(xml)) } catch {
            switch error {
            case .xml(.forbidden): throw .forbiddenMarkup
            case .xml(.malformed(let offset)): throw .malformed(offset: offset)
            case .xml(.tooDeep), .xml(.tooManyElements): throw .tooLarge
            case .report(let fault): throw fault
            }
        }
        return try reader.finish()
    }

    private enum Fault: Error {
        case xml(XMLFault)
        case report(DMARCReportFault)
    }

    /// UTF-8, or what the declaration or the byte order mark says.
    private static func decoded(_ xml: [UInt8]) -> [UInt8] {
        if xml.starts(with: [0xFF, 0xFE]) || xml.starts(with: [0xFE, 0xFF]) {
            return Array(Charset.decode(xml, label: "utf-16").utf8)
        }
        let head = Array(xml.prefix(200))
        guard head.starts(with: Array("<?xml".utf8)),
            let start = head.position(of: Array("encoding=".utf8), in: 0..<head.count),
            start + 10 < head.count
        else { return xml }
        let label = String(decoding: head[(start + 10)...].prefix { $0 != head[start + 9] }, as: UTF8.self)
        guard let charset = Charset(label: label), charset != .utf8 else { return xml }
        return Array(charset.decode(xml).utf8)
    }

    private mutating func walk(_ xml: [UInt8]) throws(Fault) {
        var reader = XMLReader(xml)
        /// The path inside `feedback`; nil outside of it.
        var path: [String]?
        var text = ""
        while let event = try Self.next(&reader) {
            switch event {
            case .start(let name):
                text = ""
                let local = Self.local(name)
                if path != nil { path?.append(local) } else if local == "feedback" { path = [] }
                if let path { begin(path) }
            case .text(let piece):
                if path != nil, text.utf8.count < DMARCReport.fieldMax { text += piece }
            case .end:
                guard let place = path else { continue }
                // What stands around the feedback element is of no interest, not even its end.
                guard !place.isEmpty else { return }
                take(String(text.trimmedASCII.prefix(DMARCReport.fieldMax)), at: place.joined(separator: "/"))
                try end(place)
                path?.removeLast()
                text = ""
            }
        }
        throw .report(.notAReport)
    }

    private static func next(_ reader: inout XMLReader) throws(Fault) -> XMLReader.Event? {
        do { return try reader.next() } catch { throw .xml(error) }
    }

    /// The name without its namespace prefix.
    private static func local(_ name: String) -> String {
        name.split(separator: ":").last.map { String($0).asciiLowercased } ?? name
    }

    private mutating func begin(_ path: [String]) {
        switch path {
        case ["record"]: record = DMARCReport.Record()
        case ["record", "row", "policy_evaluated", "reason"]: reason = DMARCReport.Reason()
        case ["record", "auth_results", "dkim"], ["record", "auth_results", "spf"]:
            check = DMARCReport.Check()
        default: break
        }
    }

    private mutating func end(_ path: [String]) throws(Fault) {
        switch path {
        case ["record"]:
            guard report.records.count < DMARCReport.recordsMax else { throw .report(.tooLarge) }
            guard !record.sourceAddress.isEmpty else { throw .report(.missing("record/row/source_ip")) }
            guard record.count >= 0 else { throw .report(.invalid("record/row/count")) }
            report.records.append(record)
        case ["record", "row", "policy_evaluated", "reason"]:
            if !reason.type.isEmpty || !reason.comment.isEmpty { record.reasons.append(reason) }
        case ["record", "auth_results", "dkim"]: record.dkimChecks.append(check)
        case ["record", "auth_results", "spf"]: record.spfChecks.append(check)
        default: break
        }
    }

    private mutating func take(_ text: String, at path: String) {
        switch path {
        case "version": report.version = text
        case "report_metadata/org_name": report.organization = text
        case "report_metadata/email": report.email = text
        case "report_metadata/extra_contact_info": report.extraContact = text
        case "report_metadata/report_id": report.reportID = text
        case "report_metadata/date_range/begin": beginText = text
        case "report_metadata/date_range/end": endText = text
        case "report_metadata/error": if report.errors.count < 100 { report.errors.append(text) }
        default:
            if path.hasPrefix("policy_published/") {
                takePolicy(text, at: path)
            } else {
                takeRecord(text, at: path)
            }
        }
    }

    private mutating func takePolicy(_ text: String, at path: String) {
        switch path.dropFirst("policy_published/".count) {
        case "domain": report.policy.domain = text.asciiLowercased
        case "adkim": report.policy.dkimAlignment = text
        case "aspf": report.policy.spfAlignment = text
        case "p": report.policy.policy = text.asciiLowercased
        case "sp": report.policy.subdomainPolicy = text.asciiLowercased
        case "np": report.policy.nonexistentSubdomainPolicy = text.asciiLowercased
        case "pct": report.policy.percent = Int(text)
        case "fo": report.policy.failureOptions = text
        case "testing": report.policy.isTesting = text.asciiLowercased == "y"
        case "discovery_method": report.policy.discoveryMethod = text.asciiLowercased
        default: break
        }
    }

    private mutating func takeRecord(_ text: String, at path: String) {
        switch path {
        case "record/row/source_ip": record.sourceAddress = text
        case "record/row/count": record.count = Int(text) ?? -1
        case "record/row/policy_evaluated/disposition": record.disposition = text.asciiLowercased
        case "record/row/policy_evaluated/dkim": record.dkim = text.asciiLowercased
        case "record/row/policy_evaluated/spf": record.spf = text.asciiLowercased
        case "record/row/policy_evaluated/reason/type": reason.type = text.asciiLowercased
        case "record/row/policy_evaluated/reason/comment": reason.comment = text
        case "record/identifiers/header_from": record.headerFrom = text.asciiLowercased
        case "record/identifiers/envelope_from": record.envelopeFrom = text.asciiLowercased
        case "record/identifiers/envelope_to": record.envelopeTo = text.asciiLowercased
        case "record/auth_results/dkim/domain", "record/auth_results/spf/domain":
            check.domain = text.asciiLowercased
        case "record/auth_results/dkim/selector", "record/auth_results/spf/scope": check.detail = text
        case "record/auth_results/dkim/result", "record/auth_results/spf/result":
            check.result = text.asciiLowercased
        default: break
        }
    }

    private func finish() throws(DMARCReportFault) -> DMARCReport {
        var report = report
        guard !report.reportID.isEmpty else { throw .missing("report_metadata/report_id") }
        guard !report.policy.domain.isEmpty else { throw .missing("policy_published/domain") }
        guard !beginText.isEmpty, !endText.isEmpty else { throw .missing("report_metadata/date_range") }
        guard let begin = Self.seconds(beginText), let end = Self.seconds(endText), begin <= end else {
            throw .invalid("report_metadata/date_range")
        }
        report.begin = begin
        report.end = end
        // Some leave their name out; the address then says who they are.
        if report.organization.isEmpty, let at = report.email.lastIndex(of: "@") {
            report.organization = String(report.email[report.email.index(after: at)...])
        }
        return report
    }

    /// Some write fractions of a second.
    private static func seconds(_ text: String) -> Int? {
        guard let value = Int(text.prefix { $0 != "." }), value >= 0, value < 1 << 40 else { return nil }
        return value
    }
}
