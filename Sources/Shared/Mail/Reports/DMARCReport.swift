// DMARC aggregate reports (RFC 7489 §7.2 and appendix C, RFC 9990): what others saw of mail that named our domain.

/// Why a report is refused; `description` is a sentence for people.
package enum DMARCReportFault: Error, Sendable, Equatable, CustomStringConvertible {
    /// The message or the file holds no report.
    case notAReport
    case brokenArchive
    case tooLarge
    /// A document type, or an entity beyond XML's own: refused before anything is expanded.
    case forbiddenMarkup
    case malformed(offset: Int)
    /// A field without which the report means nothing, by its path.
    case missing(String)
    /// A field that says something impossible, by its path.
    case invalid(String)

    package var description: String {
        switch self {
        case .notAReport: "There is no DMARC aggregate report in it."
        case .brokenArchive: "The archive is broken."
        case .tooLarge: "The report is too large."
        case .forbiddenMarkup: "The XML declares a document type or entities."
        case .malformed(let offset): "The XML is malformed at byte \(offset)."
        case .missing(let field): "The report lacks \(field)."
        case .invalid(let field): "The report's \(field) is invalid."
        }
    }
}

/// One aggregate report.
package struct DMARCReport: Sendable, Equatable {
    /// What our records said when the mail was judged.
    package struct Policy: Sendable, Equatable {
        package var domain = ""
        /// `r` or `s`; empty where not reported, like every text here.
        package var dkimAlignment = ""
        package var spfAlignment = ""
        /// `none`, `quarantine` or `reject`.
        package var policy = ""
        package var subdomainPolicy = ""
        package var nonexistentSubdomainPolicy = ""
        package var percent: Int?
        package var failureOptions = ""
        /// RFC 9990: the record said `t=y`.
        package var isTesting = false
        /// RFC 9990: `psl` or `treewalk`.
        package var discoveryMethod = ""
    }

    /// Why a policy was not applied as published.
    package struct Reason: Sendable, Equatable {
        package var type = ""
        package var comment = ""
    }

    /// One DKIM signature or the SPF check, as evaluated.
    package struct Check: Sendable, Equatable {
        package var domain = ""
        /// DKIM's selector, SPF's scope.
        package var detail = ""
        /// `pass`, `fail`, `none`, `neutral`, `softfail`, `temperror`, `permerror`, `policy`.
        package var result = ""
    }

    /// Messages of one source that were judged alike.
    package struct Record: Sendable, Equatable {
        package var sourceAddress = ""
        package var count = 0
        /// `none`, `quarantine`, `reject`, or RFC 9990's `pass`.
        package var disposition = ""
        /// DMARC's verdict over all signatures: `pass` or `fail`.
        package var dkim = ""
        package var spf = ""
        package var reasons: [Reason] = []
        package var headerFrom = ""
        package var envelopeFrom = ""
        package var envelopeTo = ""
        package var dkimChecks: [Check] = []
        package var spfChecks: [Check] = []
    }

    package internal(set) var version = ""
    package internal(set) var organization = ""
    package internal(set) var email = ""
    package internal(set) var extraContact = ""
    /// Unique within its organization and our domain.
    package internal(set) var reportID = ""
    /// Seconds since 1970.
    package internal(set) var begin = 0
    package internal(set) var end = 0
    package internal(set) var errors: [String] = []
    package internal(set) var policy = Policy()
    package internal(set) var records: [Record] = []

    static let recordsMax = 100_000
    static let fieldMax = 1_000

    /// Messages the report speaks of.
    package var messageCount: Int { records.reduce(0) { $0.addingReportingOverflow($1.count).partialValue } }

    /// The report in a file: XML, gzip or ZIP, whatever its name says.
    package static func read(file: [UInt8]) throws(DMARCReportFault) -> DMARCReport {
        try DMARCReportReader.read(try ReportArchive.unpack(file))
    }

    /// The report in a file, or in a mail that was saved as one: what the first bytes say.
    package static func read(fileOrMail bytes: [UInt8]) throws(DMARCReportFault) -> DMARCReport {
        if looksLikeReport(bytes) { return try read(file: bytes) }
        return try read(MIMEReader.read(bytes))
    }

    /// The report in a message: the first attachment that could be one.
    package static func read(_ message: ParsedMessage) throws(DMARCReportFault) -> DMARCReport {
        var fault = DMARCReportFault.notAReport
        for part in message.parts where part.content == .leaf {
            let bytes = message.bytes(of: part.index)
            guard looksLikeReport(bytes) else { continue }
            do { return try read(file: bytes) } catch { fault = error }
        }
        throw fault
    }

    private static func looksLikeReport(_ bytes: [UInt8]) -> Bool {
        if bytes.starts(with: [0x1F, 0x8B]) || bytes.starts(with: [0x50, 0x4B, 0x03, 0x04]) { return true }
        let head = bytes.trimmed(0..<min(bytes.count, 512))
        let start = bytes.matches("\u{FEFF}", at: head.lowerBound) ? head.lowerBound + 3 : head.lowerBound
        return bytes.matches("<?xml", at: start) || bytes.matches("<feedback", at: start)
    }
}
