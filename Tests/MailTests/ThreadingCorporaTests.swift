// imaptest's threads: the same messages stay together whatever order they come in.

import Testing

@testable import Mail

@Suite("imaptest's threads", .enabled(if: InboundCorpora.isPresent, "skipped, no corpora"))
struct ThreadingCorporaTests {
    /// The groups of the trees `thread references` gives for all messages of the mailbox, by place in it.
    static let threads: [(mailbox: String, groups: Set<Set<Int>>)] = [
        ("thread", [[1, 2, 3].asSet]), ("thread3", [[1, 2].asSet]), ("thread5", [[1, 2, 3, 4, 5].asSet]),
        ("thread7", [[1, 2, 3, 4].asSet]),
    ].map { ($0.0, Set($0.1)) }

    @Test("threads by Message-ID agree, in every order of arrival")
    func references() throws {
        for (mailbox, groups) in Self.threads {
            let messages = try Self.messages("imaptest-thread/\(mailbox).mbox")
            for order in Self.permutations(Array(messages.indices)) {
                var directory = Directory()
                for index in order { directory.place(messages[index], as: index + 1) }
                #expect(directory.groups == groups, "\(mailbox) \(order)")
            }
        }
    }

    @Test("threads by subject agree")
    func subjects() throws {
        let messages = try Self.messages("imaptest-thread/thread-orderedsubject2.mbox")
        let groups = Dictionary(grouping: messages.indices) { Subject.base(messages[$0].subject ?? "").base }
        #expect(Set(groups.values.map { Set($0.map { $0 + 1 }) }) == [[2, 4, 6, 8], [1, 3, 5, 7]])
    }

    private static func messages(_ path: String) throws -> [ParsedMessage] {
        let text = String(decoding: try InboundCorpora.bytes(path), as: UTF8.self)
        return ("\n" + text).split(separator: "\nFrom user@domain").map {
            MIMEReader.read(Array("From x\($0)".utf8))
        }
    }

    private static func permutations(_ items: [Int]) -> [[Int]] {
        guard items.count > 1 else { return [items] }
        return items.indices.flatMap { index -> [[Int]] in
            var rest = items
            let item = rest.remove(at: index)
            return permutations(rest).map { [item] + $0 }
        }
    }
}

extension Array where Element == Int {
    fileprivate var asSet: Set<Int> { Set(self) }
}

/// Every id belongs to one thread; a message that cites ids of several threads makes them one.
private struct Directory {
    private var threadOfID: [String: Int] = [:]
    private var threadOfMessage: [Int: Int] = [:]

    var groups: Set<Set<Int>> {
        Set(Dictionary(grouping: threadOfMessage.keys) { threadOfMessage[$0] }.values.map { Set($0) })
    }

    mutating func place(_ message: ParsedMessage, as number: Int) {
        let ids = message.inReplyTo + message.references.reversed() + [message.messageID].compactMap(\.self)
        let found = ids.compactMap { threadOfID[$0] }
        let thread = found.first ?? number
        for id in ids { threadOfID[id] = thread }
        threadOfMessage[number] = thread
        for (id, other) in threadOfID where found.contains(other) { threadOfID[id] = thread }
        for (other, old) in threadOfMessage where found.contains(old) { threadOfMessage[other] = thread }
    }
}
