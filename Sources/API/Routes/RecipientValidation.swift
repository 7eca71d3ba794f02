// What is to be said about a send's recipients, and the judgement on their domains: those that take no mail are left out,
// disposable ones are told of, and those of which nothing is known in time are judged by a job before the send.

import HTTPTypes
import Mail
import Store
import Validation

/// The `validation` of an answer; there only where it says something.
struct RecipientValidation: Encodable, Sendable {
    static let invalid = "Invalid email address"
    static let disposable = "Disposable email domain"

    /// An address with what is wrong with it.
    struct Finding: Encodable, Sendable {
        let email: String
        let reason: String
    }

    /// No part of the message.
    var rejected: [Finding] = []
    /// They get it all the same.
    var warnings: [Finding] = []
    /// Recipients to whom nothing is sent.
    var suppressed: [String] = []
    /// How long the recipients were looked at.
    var durationMS = 0

    enum CodingKeys: String, CodingKey {
        case rejected, warnings, suppressed
        case durationMS = "duration_ms"
    }

    var isSilent: Bool { rejected.isEmpty && warnings.isEmpty && suppressed.isEmpty }
}

/// Judges recipients by their domains.
struct RecipientJudge: Sendable {
    /// How long a send waits for the DNS.
    static let patience = Duration.milliseconds(300)

    let verdicts: DomainVerdicts
    let disposable: DisposableDomains

    /// Leaves out whom nobody can write to; throws when that is everybody.
    ///
    /// Never fails for Redis or the DNS.
    func judge(_ submission: inout Submission, _ validation: inout RecipientValidation) async throws {
        let clock = ContinuousClock()
        let begun = clock.now
        var recipients = (submission.to + submission.cc + submission.bcc).map(\.address)
        let domains = Set(recipients.map(\.domain))
        let verdicts = await verdicts.verdicts(on: domains, within: Self.patience)
        let rejections = verdicts.compactMapValues(\.rejection)
        submission.unjudgedDomains = Set(verdicts.filter { $0.value == .unknown }.keys)

        var seen: Set<String> = []
        recipients.removeAll { !seen.insert($0.key).inserted }
        for address in recipients {
            if let reason = rejections[address.domain] {
                validation.rejected.append(.init(email: address.description, reason: reason))
            } else if disposable.contains(address.domain) {
                validation.warnings.append(
                    .init(email: address.description, reason: RecipientValidation.disposable)
                )
            }
        }
        validation.durationMS = Int((clock.now - begun) / .milliseconds(1))
        guard !rejections.isEmpty else { return }
        let isRejected: (Mailbox) -> Bool = { rejections[$0.address.domain] != nil }
        submission.to.removeAll(where: isRejected)
        submission.cc.removeAll(where: isRejected)
        submission.bcc.removeAll(where: isRejected)
        if submission.to.isEmpty, submission.cc.isEmpty, submission.bcc.isEmpty {
            throw APIError.noRecipientLeft(validation)
        }
    }
}

extension APIError {
    /// 400: nothing was sent, for none of the recipients can have it.
    static func noRecipientLeft(_ validation: RecipientValidation) -> APIError {
        let sentence =
            validation.rejected.isEmpty
            ? "Every recipient is suppressed; nothing was sent."
            : "None of the recipients can be written to; nothing was sent."
        var error = APIError(.badRequest, sentence)
        error.validation = validation
        return error
    }
}
