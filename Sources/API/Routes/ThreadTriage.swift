// Triage of threads: status, assignment, tags.

import Foundation
import Hummingbird
import Platform
import Store

enum ThreadTriageRoutes {
    private static let assigneeMax = 320
    private static let tagMax = 100

    /// `{status?, assigned_to?}`; null assigns to nobody, a member left out changes nothing.
    private struct ChangeRequest: Decodable {
        let status: String?
        let assignee: String??

        enum CodingKeys: String, CodingKey {
            case status
            case assignee = "assigned_to"
            case camelCaseAssignee = "assignedTo"
        }

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            status = try container.decodeIfPresent(String.self, forKey: .status)
            let key = [CodingKeys.assignee, .camelCaseAssignee].first { container.contains($0) }
            assignee = try key.map { try container.decodeIfPresent(String.self, forKey: $0) }
        }

        func checkedStatus() throws -> ThreadTriage.Status? {
            guard let status else { return nil }
            guard let known = ThreadTriage.Status(rawValue: status) else {
                let names = ThreadTriage.Status.allCases.map(\.rawValue).joined(separator: ", ")
                throw APIError.invalid([.init(path: "status", message: "must be one of \(names).")])
            }
            return known
        }

        func checkedAssignee() throws -> String?? {
            guard let assignee, let name = assignee else { return assignee }
            guard !name.isEmpty, name.utf8.count <= assigneeMax, !name.hasControlCharacters else {
                throw APIError.invalid([
                    .init(
                        path: "assigned_to",
                        message:
                            "must be 1 to \(assigneeMax) bytes without control characters, or null for nobody."
                    )
                ])
            }
            return .some(name)
        }
    }

    private struct TagsRequest: Decodable {
        let tags: [String]
    }

    /// Status, assignee, or both.
    static func update(_ call: Call) async throws -> Answer {
        try await change(call) {
            let request = try call.decode(ChangeRequest.self)
            let (status, assignee) = (try request.checkedStatus(), try request.checkedAssignee())
            guard status != nil || assignee != nil else {
                throw APIError(.badRequest, "Give status or assigned_to.")
            }
            return .set(status: status, assignee: assignee)
        }
    }

    static func setStatus(_ call: Call) async throws -> Answer {
        try await change(call) {
            guard let status = try call.decode(ChangeRequest.self).checkedStatus() else {
                throw call.invalid("status", "is required.")
            }
            return .set(status: status, assignee: nil)
        }
    }

    static func assign(_ call: Call) async throws -> Answer {
        try await change(call) {
            guard let assignee = try call.decode(ChangeRequest.self).checkedAssignee() else {
                throw call.invalid("assigned_to", "is required; null is nobody.")
            }
            return .set(status: nil, assignee: assignee)
        }
    }

    static func addTags(_ call: Call) async throws -> Answer {
        try await change(call) { .addTags(try tags(call)) }
    }

    static func removeTags(_ call: Call) async throws -> Answer {
        try await change(call) { .removeTags(try tags(call)) }
    }

    /// A thread that is not ours is 404, whatever the body says.
    private static func change(_ call: Call, _ read: () throws -> TriageChange) async throws -> Answer {
        let id: ThreadID = try call.id("thread_id", prefix: ThreadRoutes.idPrefix, of: "Thread")
        let org = try call.caller.org
        let asked: TriageChange
        do {
            asked = try read()
        } catch {
            guard try await call.store.hasThread(id, org: org) else { throw APIError.notFound("Thread") }
            throw error
        }
        guard let thread = try await call.store.change(asked, of: id, org: org) else {
            throw APIError.notFound("Thread")
        }
        return try Answer(.ok, Envelope(data: ThreadRoutes.View(thread: thread)))
    }

    /// The body's `tags`; of a DELETE, which some clients send without a body, also the query's, parted by commas.
    private static func tags(_ call: Call) throws -> [String] {
        let tags: [String]
        if call.request.method == .delete, call.body.readableBytes == 0 {
            tags = (try call.query(text: "tags") ?? "").split(separator: ",").map {
                $0.trimmingCharacters(in: .whitespaces)
            }
        } else {
            tags = try call.decode(TagsRequest.self).tags
        }
        guard !tags.isEmpty else { throw call.invalid("tags", "must name at least one tag.") }
        guard tags.count <= ThreadTriage.tagsMax else {
            throw call.invalid("tags", "must be at most \(ThreadTriage.tagsMax).")
        }
        for (place, tag) in tags.enumerated()
        where tag.isEmpty || tag.utf8.count > tagMax || tag.hasControlCharacters {
            throw call.invalid("tags[\(place)]", "must be 1 to \(tagMax) bytes without control characters.")
        }
        return tags
    }
}

extension String {
    fileprivate var hasControlCharacters: Bool {
        unicodeScalars.contains { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) }
    }
}
