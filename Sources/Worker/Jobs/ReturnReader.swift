// Reads what a received mail says about mail that was sent, and finds who proved it.
//
// A report is believed where it has a token of ours: in the address it came to, in the return path or the unsubscribe
// link of the message it returns. Without one it is believed where it returns the whole message with our own signature
// on it, as complaints do whose addresses are blanked; then the Message-ID in it is ours. Everything else a report says
// of itself (To, Message-ID, Final-Recipient) can be written by anybody, and changes nothing.

import DNS
import Database
import Foundation
import Mail
import Platform
import Store

struct ReturnReader {
    /// What a mail turned out to be.
    struct Reading: Sendable {
        var reports: [ProvenReturn] = []
        /// It came to a return path and was understood, so it is for no inbox.
        var isForReturnPathAlone = false
    }

    let store: Store

    /// The reports of a mail that may change something; none for other mail.
    func read(_ parsed: ParsedMessage, of mail: ReceivedMail, org: OrgID) async throws -> Reading {
        let notices: [ReturnNotice]
        let feedback = FeedbackReport.read(parsed)
        if let feedback {
            notices = Self.notices(feedback)
        } else if let report = DeliveryReport.read(parsed) {
            notices = report.recipients.map { Self.notice($0, by: report.reportingMTA) }
        } else {
            return Reading()
        }
        let copy = ReturnedCopy(in: parsed)
        let returnPaths = mail.recipients.compactMap { try? ReturnPath(EmailAddress($0.address)) }
        var proofs: [Proof] = []
        for path in returnPaths {
            if let proof = try await proof(path.token, .returnPath, org) { proofs.append(proof) }
        }
        let isForReturnPath = !proofs.isEmpty
        if proofs.isEmpty { proofs = try await proof(in: copy, feedback, org).map { [$0] } ?? [] }
        var reading = Reading()
        reading.reports = Set(proofs).map {
            ProvenReturn(message: $0.message, ordinal: $0.ordinal, notices: notices)
        }
        reading.isForReturnPathAlone = isForReturnPath
        return reading
    }

    private struct Proof: Hashable {
        let message: MessageID
        let ordinal: Int?
    }

    // MARK: Proof

    /// A token of this organization's; one of another's is none here.
    private func proof(
        _ token: String,
        _ purpose: RecipientToken.Purpose,
        _ org: OrgID
    ) async throws -> Proof? {
        guard let token = RecipientToken(token, purpose, secrets: store.secrets),
            let subject = try await store.subject(of: token), subject.org == org
        else { return nil }
        return Proof(message: subject.message, ordinal: subject.ordinal)
    }

    /// What proves the copy that came back.
    private func proof(
        in copy: ReturnedCopy,
        _ feedback: FeedbackReport?,
        _ org: OrgID
    ) async throws -> Proof? {
        let paths = [feedback?.sender.flatMap { try? EmailAddress($0) }, copy.returnPath]
        for path in paths.compactMap({ $0 }).compactMap(ReturnPath.init) {
            if let proof = try await proof(path.token, .returnPath, org) { return proof }
        }
        if let token = copy.unsubscribeToken, let proof = try await proof(token, .unsubscribe, org) {
            return proof
        }
        return try await signed(copy)
    }

    /// The message of a copy that our own key signed, by the id that we gave it.
    ///
    /// The id is the message's own and its domain the signature's; that it is this organization's is seen when it is
    /// looked up among its messages.
    private func signed(_ copy: ReturnedCopy) async throws -> Proof? {
        guard let bytes = copy.message, let id = copy.messageID?.dropFirst().dropLast(),
            let at = id.lastIndex(of: "@"), let message = MessageID(id[..<at])
        else { return nil }
        let domain = id[id.index(after: at)...].lowercased()
        // At the time it was signed: reports come weeks later, and our signatures do not expire.
        let verdicts = await DKIM.verify(bytes, now: Timestamp.now.date) { name in
            guard let range = name.range(of: "._domainkey."),
                String(name[range.upperBound...]).lowercased() == domain,
                let record = try await store.ownDKIMRecord(
                    domain: domain,
                    selector: String(name[..<range.lowerBound])
                )
            else { return [] }
            return [record]
        }
        let isOurs = verdicts.contains { $0.result == .pass && $0.coversWholeBody && $0.domain == domain }
        return isOurs ? Proof(message: message, ordinal: nil) : nil
    }

    // MARK: What is said

    private static func notices(_ feedback: FeedbackReport) -> [ReturnNotice] {
        let detail = "Reported as \(feedback.feedbackType)\(feedback.userAgent.map { " by \($0)" } ?? "")."
        let fate: ReturnNotice.Fate
        if feedback.feedbackType.hasPrefix("opt-out") {
            fate = .optedOut
        } else if feedback.isComplaint {
            fate = .complained(
                SpamReport(
                    type: line(feedback.feedbackType),
                    reporter: line(feedback.userAgent ?? ""),
                    sourceAddress: line(feedback.sourceAddress ?? "")
                )
            )
        } else {
            return []
        }
        let addresses = feedback.recipients.isEmpty ? [""] : Array(feedback.recipients.prefix(100))
        return addresses.map { ReturnNotice(address: $0.withoutNUL, fate: fate, detail: line(detail)) }
    }

    private static func notice(
        _ recipient: DeliveryReport.Recipient,
        by reporter: String?
    ) -> ReturnNotice {
        let fate: ReturnNotice.Fate =
            switch recipient.action {
            case .failed:
                .failed(recipient.bounce ?? Bounce(reason: .other, isPermanent: true))
            case .delayed: .delayed
            case .delivered, .relayed, .expanded: .delivered
            }
        var detail = recipient.diagnostic
        if detail.isEmpty {
            detail = "Reported as \(recipient.action.rawValue)"
            if let status = recipient.status { detail += " with status \(status)" }
            if let host = recipient.remoteMTA ?? reporter { detail += " by \(host)" }
            detail += "."
        }
        return ReturnNotice(
            address: String(recipient.address.prefix(320)).withoutNUL,
            fate: fate,
            detail: line(detail)
        )
    }

    /// What a stranger wrote, cut to a size that a row may have.
    private static func line(_ text: String) -> String { String(text.prefix(1_000)).withoutNUL }
}
