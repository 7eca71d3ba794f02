// The body of a send, and everything that can be said about it without looking anything up.

import Foundation
import Mail
import Platform
import Store

/// `POST /v1/messages/send`.
struct SendRequest: Decodable {
    static let recipientsMax = 50
    static let subjectMax = 500
    static let attachmentsMax = 100

    let to: OneOrMany
    let cc: OneOrMany?
    let bcc: OneOrMany?
    let subject: String
    let text: String?
    let html: String?
    let from: String?
    let inbox: String?
    let domain: String?
    let replyTo: String?
    let thread: String?
    let headers: [String: String]?
    let attachments: [String]?
    let listUnsubscribe: Bool?

    enum CodingKeys: String, CodingKey {
        case to, cc, bcc, subject, text, html, from, headers, attachments, inboxId, domainId, replyTo
        case inboxID = "inbox_id"
        case domainID = "domain_id"
        case replyToSnake = "reply_to"
        case thread = "thread_id"
        case listUnsubscribe
        case listUnsubscribeSnake = "list_unsubscribe"
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        to = try container.decode(OneOrMany.self, forKey: .to)
        cc = try container.decodeIfPresent(OneOrMany.self, forKey: .cc)
        bcc = try container.decodeIfPresent(OneOrMany.self, forKey: .bcc)
        subject = try container.decode(String.self, forKey: .subject)
        text = try container.decodeIfPresent(String.self, forKey: .text)
        html = try container.decodeIfPresent(String.self, forKey: .html)
        from = try container.decodeIfPresent(String.self, forKey: .from)
        headers = try container.decodeIfPresent([String: String].self, forKey: .headers)
        attachments = try container.decodeIfPresent([String].self, forKey: .attachments)
        thread = try container.decodeIfPresent(String.self, forKey: .thread)
        listUnsubscribe =
            try container.decodeIfPresent(Bool.self, forKey: .listUnsubscribeSnake)
            ?? container.decodeIfPresent(Bool.self, forKey: .listUnsubscribe)
        inbox =
            try container.decodeIfPresent(String.self, forKey: .inboxId)
            ?? container.decodeIfPresent(String.self, forKey: .inboxID)
        domain =
            try container.decodeIfPresent(String.self, forKey: .domainId)
            ?? container.decodeIfPresent(String.self, forKey: .domainID)
        replyTo =
            try container.decodeIfPresent(String.self, forKey: .replyToSnake)
            ?? container.decodeIfPresent(String.self, forKey: .replyTo)
    }

    /// The submission it asks for, without the recipients that are no addresses, of which `validation` then tells.
    ///
    /// Throws when nobody is left, or when anything else is wrong; every field at fault is named.
    func submission(_ validation: inout RecipientValidation) throws -> Submission {
        var faults = FieldFaults()
        var recipients = RecipientReader()
        var submission = Submission(to: recipients.read(to, "to", &faults), subject: subject)
        submission.cc = recipients.read(cc, "cc", &faults)
        submission.bcc = recipients.read(bcc, "bcc", &faults)
        submission.replyTo = replyTo.flatMap { faults.mailbox($0, "reply_to") }
        submission.from = from.flatMap { faults.mailbox($0, "from") }
        submission.text = text
        submission.html = html
        submission.headers = faults.headers(headers ?? [:])
        submission.listUnsubscribe = listUnsubscribe
        faults.checkContent(of: self)
        if recipients.readCount == 0 || faults.areAny { faults.putFirst(recipients.faults) }
        validation.rejected += recipients.rejected
        do {
            try faults.throwIfAny()
        } catch var refusal {
            if !validation.isSilent { refusal.validation = validation }
            throw refusal
        }
        submission.attachments = try attachmentIDs()
        submission.inbox = try inbox.map { text in
            guard let id = InboxID(text) else { throw APIError.notFound("Inbox") }
            return id
        }
        submission.domain = try domain.map { text in
            guard let id = DomainID(text) else { throw APIError.notFound("Domain") }
            return id
        }
        submission.thread = try thread.map { text in
            guard let id = ThreadID(text, prefix: ThreadRoutes.idPrefix) else {
                throw APIError.notFound("Thread")
            }
            return id
        }
        return submission
    }

    /// Each once, in the order given; one that cannot be ours is not found.
    private func attachmentIDs() throws -> [AttachmentID] {
        var seen: Set<AttachmentID> = []
        return try (attachments ?? []).compactMap { text in
            guard let id = AttachmentID(hexadecimal: text) else { throw APIError.notFound("Attachment") }
            return seen.insert(id).inserted ? id : nil
        }
    }
}

/// A string or a list of strings.
struct OneOrMany: Decodable, Sendable {
    let values: [String]

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let one = try? container.decode(String.self) {
            values = [one]
        } else if let many = try? container.decode([String].self) {
            values = many
        } else {
            throw DecodingError.dataCorruptedError(
                in: container,
                debugDescription: "must be a string or a list of strings."
            )
        }
    }
}

/// Reads recipients one by one: what is no address is left out, with the reason.
private struct RecipientReader {
    private static let shownMax = 320

    private(set) var readCount = 0
    private(set) var rejected: [RecipientValidation.Finding] = []
    private(set) var faults: [APIError.Detail] = []

    mutating func read(_ values: OneOrMany?, _ path: String, _ fields: inout FieldFaults) -> [Mailbox] {
        guard let values = values?.values else { return [] }
        // More than can be allowed in any case: not worth reading each.
        guard values.count <= SendRequest.recipientsMax else {
            fields.note(
                path,
                "holds \(values.count) recipients; a message takes at most \(SendRequest.recipientsMax) over to, cc and bcc."
            )
            return []
        }
        return values.enumerated().compactMap { index, value in
            let path = values.count == 1 ? path : "\(path)[\(index)]"
            do {
                let mailbox = try Mailbox(value)
                readCount += 1
                return mailbox
            } catch {
                let message = "is not an e-mail address: \(error)"
                faults.append(.init(path: path, message: message))
                // Not a mistake but an attempt on the header.
                if value.unicodeScalars.contains(where: { $0 == "\r" || $0 == "\n" || $0 == "\0" }) {
                    fields.note(path, message)
                } else {
                    rejected.append(
                        .init(email: String(value.prefix(Self.shownMax)), reason: RecipientValidation.invalid)
                    )
                }
                return nil
            }
        }
    }
}

/// Collects what is wrong with a body, field by field, so that a caller sees all of it at once.
private struct FieldFaults {
    private var details: [APIError.Detail] = []

    var areAny: Bool { !details.isEmpty }

    mutating func putFirst(_ others: [APIError.Detail]) {
        details = others + details.filter { !others.contains($0) }
    }

    mutating func note(_ path: String, _ message: String) {
        details.append(.init(path: path, message: message))
    }

    mutating func mailbox(_ value: String, _ path: String) -> Mailbox? {
        do {
            return try Mailbox(value)
        } catch {
            note(path, "is not an e-mail address: \(error)")
            return nil
        }
    }

    mutating func headers(_ headers: [String: String]) -> [DraftHeader] {
        if headers.count > HeaderRules.countMax {
            note("headers", "holds more than \(HeaderRules.countMax) headers.")
            return []
        }
        // A JSON object has no order; the message must have the same one at every try.
        return headers.sorted { $0.key < $1.key }.map { name, value in
            if let fault = HeaderRules.fault(name: name, value: value) {
                note("headers.\(name.prefix(80))", fault)
            }
            return DraftHeader(name: name, value: value)
        }
    }

    mutating func checkContent(of request: SendRequest) {
        let recipients =
            request.to.values.count + (request.cc?.values.count ?? 0) + (request.bcc?.values.count ?? 0)
        if recipients > SendRequest.recipientsMax, details.isEmpty {
            note(
                "to",
                "and cc and bcc hold \(recipients) recipients; a message takes at most \(SendRequest.recipientsMax)."
            )
        }
        if request.to.values.isEmpty { note("to", "must name at least one recipient.") }
        if request.subject.unicodeScalars.count > SendRequest.subjectMax {
            note("subject", "must be at most \(SendRequest.subjectMax) characters.")
        }
        if request.subject.unicodeScalars.contains(where: { $0 == "\r" || $0 == "\n" || $0 == "\0" }) {
            note("subject", "must not contain line breaks.")
        }
        if let attachments = request.attachments, attachments.count > SendRequest.attachmentsMax {
            note("attachments", "holds more than \(SendRequest.attachmentsMax) ids.")
        }
        if (request.text ?? "").isEmpty && (request.html ?? "").isEmpty {
            note("text", "or html is required.")
        }
        for (path, value) in [("text", request.text), ("html", request.html)]
        where value?.utf8.contains(0) == true {
            note(path, "must not contain NUL characters.")
        }
    }

    func throwIfAny() throws(APIError) {
        if !details.isEmpty { throw APIError.invalid(details) }
    }
}
