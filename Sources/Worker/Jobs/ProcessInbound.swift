// The work of `process-inbound`: a received mail is read, judged, and put into the inboxes it was for.
//
// Reading never fails: what is no mail is stored as text. So a failure here is one of ours, and is tried again.

import DNS
import Database
import Foundation
import Logging
import Mail
import Metrics
import Platform
import Queue
import Store

struct ProcessInbound: Work {
    let queue = QueueName.processInbound
    let deadline = Duration.seconds(120)
    let backoff = Backoff.exponential(base: .seconds(2), max: .seconds(600))

    let store: Store
    let resolver: any Resolver
    let logger: Logger

    func attempt(_ job: ClaimedJob, _ progress: Progress) async throws -> Completion {
        let payload: ProcessInboundPayload
        do {
            payload = try job.decode(ProcessInboundPayload.self)
        } catch {
            throw WorkFault.undecodable("\(error)")
        }
        guard let mail = try await store.unprocessedMail(payload.mail, org: job.org) else {
            return Completion(outcome: .succeeded)
        }
        let parsed = MIMEReader.read(mail.bytes)
        if mail.role == .dmarc { return keepReport(parsed, of: mail, job) }
        let returned = try await ReturnReader(store: store).read(parsed, of: mail, org: job.org)
        // A report that was understood has done what it came for; an answer to a return path is still mail.
        let recipients =
            returned.isForReturnPathAlone ? mail.recipients.filter { !$0.isReturnPath } : mail.recipients
        var content = InboundContent(rfcMessageID: "")
        if !recipients.isEmpty {
            content = read(parsed, of: mail)
            content.metadata.authentication = .init(dkim: await dkimVerdict(mail))
            content.files = try await store.stage(ReceivedFiles.of(parsed, org: job.org))
        }
        let org = job.org
        return Completion(
            outcome: .succeeded,
            effects: .transaction { [store, content] transaction in
                for report in returned.reports {
                    try await store.record(report, org: org, in: transaction)
                }
                if returned.reports.isEmpty, let role = mail.role {
                    try await store.tellOfKeptMail(role, mail.roleAddress ?? "", org: org, in: transaction)
                }
                try await store.place(content, of: mail, for: recipients, org: org, in: transaction)
            }
        )
    }

    /// What came to `dmarc@send.<domain>`: a report, or nothing that anybody wants.
    private func keepReport(_ parsed: ParsedMessage, of mail: ReceivedMail, _ job: ClaimedJob) -> Completion {
        let report: DMARCReport?
        do throws(DMARCReportFault) {
            report = try DMARCReport.read(parsed)
        } catch {
            refuse(mail, error.description)
            report = nil
        }
        let org = job.org
        return Completion(
            outcome: .succeeded,
            effects: .transaction { [store] transaction in
                if let report {
                    do {
                        try await store.keepMailedDMARCReport(report, org: org, in: transaction)
                    } catch StoreFault.refused(let reason) {
                        refuse(mail, reason)
                    }
                }
                let content = InboundContent(rfcMessageID: "")
                try await store.place(content, of: mail, for: [], org: org, in: transaction)
            }
        )
    }

    private func refuse(_ mail: ReceivedMail, _ reason: String) {
        Self.reportsRefused.increment()
        logger.info(
            "A mail to the address for DMARC reports was not taken as one.",
            metadata: ["mail.id": "\(mail.id)", "reason": "\(reason)"]
        )
    }

    private static let reportsRefused = Counter(label: "commune_dmarc_reports_refused_total")

    private func read(_ parsed: ParsedMessage, of mail: ReceivedMail) -> InboundContent {
        // Mail without a Message-ID gets one of ours, which nobody can cite but which keeps it apart.
        var content = InboundContent(rfcMessageID: parsed.messageID ?? "<\(mail.id)@received.invalid>")
        content.inReplyTo = parsed.inReplyTo
        content.references = Array(parsed.references.suffix(100))
        content.sender = parsed.from.first.map { Self.key($0.address) } ?? mail.sender.lowercased()
        content.participants =
            [Message.Participant(role: "sender", identity: content.sender)]
            + parsed.to.prefix(100).map { Message.Participant(role: "to", identity: $0.address) }
            + parsed.cc.prefix(100).map { Message.Participant(role: "cc", identity: $0.address) }
        content.subject = parsed.subject ?? ""
        content.text = parsed.text ?? ""
        content.html = parsed.html
        return content.withoutNUL()
    }

    /// One word for all signatures: `pass` if any passes, `none` without any.
    private func dkimVerdict(_ mail: ReceivedMail) async -> String {
        let verdicts = await DKIM.verify(mail.bytes, now: mail.receivedAt.date) { name in
            try await dkimRecords(name)
        }
        if verdicts.contains(where: { $0.result == .pass && $0.coversWholeBody }) { return "pass" }
        return verdicts.first?.result.rawValue ?? "none"
    }

    /// Our own domains' keys come from where they are made, so that a verdict on our own mail needs no DNS.
    private func dkimRecords(_ name: String) async throws -> [String] {
        if let range = name.range(of: "._domainkey."),
            let own = try await store.ownDKIMRecord(
                domain: String(name[range.upperBound...]),
                selector: String(name[..<range.lowerBound])
            )
        {
            return [own]
        }
        do {
            return try await resolver.lookup(name, .txt).texts
        } catch DNSFault.noSuchName {
            return []
        }
    }

    private static func key(_ address: String) -> String {
        (try? EmailAddress(address))?.key ?? address.lowercased()
    }
}

extension InboundContent {
    /// PostgreSQL keeps no NUL in text, and hostile mail has some.
    fileprivate func withoutNUL() -> InboundContent {
        var content = self
        content.rfcMessageID = rfcMessageID.withoutNUL
        content.sender = sender.withoutNUL
        content.subject = subject.withoutNUL
        content.text = text.withoutNUL
        content.html = html?.withoutNUL
        content.inReplyTo = inReplyTo.map(\.withoutNUL)
        content.references = references.map(\.withoutNUL)
        content.participants = participants.map { .init(role: $0.role, identity: $0.identity.withoutNUL) }
        return content
    }
}

extension String {
    var withoutNUL: String {
        utf8.contains(0)
            ? String(String.UnicodeScalarView(unicodeScalars.map { $0 == "\0" ? "\u{fffd}" : $0 })) : self
    }

    /// Reads a job's payload.
    func decoded<P: Decodable>(as type: P.Type) throws -> P {
        try JSONDecoder().decode(type, from: Data(utf8))
    }
}
