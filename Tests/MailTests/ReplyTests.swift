import TestSupport
import Testing

@testable import Mail

@Suite("Replies")
struct ReplyTests {
    private func parse(_ text: String) throws -> [Reply] {
        var parser = ReplyParser()
        return try parser.append(text.utf8)
    }

    @Test(
        "replies are read with their status",
        arguments: [
            ("250 OK\r\n", Reply(250, nil, "OK")),
            ("250\r\n", Reply(250, nil, "")),
            ("250 \r\n", Reply(250, nil, "")),
            ("250 2.1.5 Fine\r\n", Reply(250, EnhancedStatus(2, 1, 5), "Fine")),
            ("550 5.1.1: no such user\r\n", Reply(550, EnhancedStatus(5, 1, 1), "no such user")),
            ("550 #5.1.0 Address rejected\r\n", Reply(550, EnhancedStatus(5, 1, 0), "Address rejected")),
            ("550 5.1.1\r\n", Reply(550, EnhancedStatus(5, 1, 1), "")),
            ("550 1.2.3.4 is listed\r\n", Reply(550, nil, "1.2.3.4 is listed")),
            ("550 5.2.3.4 is listed\r\n", Reply(550, nil, "5.2.3.4 is listed")),
            ("220 mx.example.com ESMTP\n", Reply(220, nil, "mx.example.com ESMTP")),
            (
                "550-5.1.1 The account\r\n550-5.1.1 does not exist\r\n550 5.1.1 here\r\n",
                Reply(550, EnhancedStatus(5, 1, 1), "The account", "does not exist", "here")
            ),
            ("250-mx\r\n250-SIZE 1000\r\n250 HELP\r\n", Reply(250, nil, "mx", "SIZE 1000", "HELP")),
            ("451 a\u{1}b\u{0}c\td\r\n", Reply(451, nil, "a?b?c d")),
        ]
    )
    func reads(_ text: String, _ reply: Reply) throws {
        #expect(try parse(text) == [reply])
    }

    @Test("a reply may come octet by octet, and many may come at once")
    func pieces() throws {
        var parser = ReplyParser()
        var replies: [Reply] = []
        for byte in "250-a\r\n250 b\r\n354 go\r\n".utf8 { replies += try parser.append([byte]) }
        #expect(replies.map(\.code) == [250, 354])
        #expect(try parse("250 a\r\n550 b\r\n354 c\r\n").map(\.code) == [250, 550, 354])
    }

    @Test(
        "what is no reply is a fault",
        arguments: [
            ("hello\r\n", ReplyFault.malformed), ("25 OK\r\n", .malformed), ("2500 OK\r\n", .malformed),
            ("\r\n", .malformed), ("250_OK\r\n", .malformed), ("650 OK\r\n", .malformed),
            ("150 OK\r\n", .malformed),
            ("HTTP/1.1 400 Bad Request\r\n", .malformed), ("250-a\r\n251 b\r\n", .codesDiffer),
        ]
    )
    func faults(_ text: String, _ fault: ReplyFault) {
        #expect(throws: fault) { try parse(text) }
    }

    @Test("lines and their count are bounded")
    func bounds() throws {
        #expect(try parse("250 \(String(repeating: "x", count: 4_000))\r\n").count == 1)
        var parser = ReplyParser()
        #expect(throws: ReplyFault.lineTooLong) {
            try parser.append("250 \(String(repeating: "x", count: 4_100))".utf8)
        }
        #expect(throws: ReplyFault.lineTooLong) { try parser.append("\r\n250 OK\r\n".utf8) }
        let hundred = String(repeating: "250-x\r\n", count: 99) + "250 x\r\n"
        #expect(try parse(hundred).first?.lines.count == 100)
        #expect(throws: ReplyFault.tooManyLines) { try parse("250-x\r\n\(hundred)") }
    }

    @Test("what came whole before a fault is handed out")
    func wholeBeforeFault() throws {
        var parser = ReplyParser()
        #expect(try parser.append("250 OK\r\nrubbish\r\n".utf8).map(\.code) == [250])
        #expect(parser.isFaulted)
        #expect(throws: ReplyFault.malformed) { try parser.append("250 OK\r\n".utf8) }
    }

    @Test("a reply written is the reply read")
    func roundTrip() throws {
        for reply in [
            Reply.ok, .mailboxUnavailable, .greeting("mx"), .startMailInput, Reply(250, nil, "a", "SIZE 1"),
        ] {
            #expect(try parse(String(decoding: reply.bytes, as: UTF8.self)) == [reply])
        }
        let evil = Reply(550, nil, "a\r\n250 OK")
        #expect(try parse(String(decoding: evil.bytes, as: UTF8.self)).count == 1)
        #expect(Reply.mailboxUnavailable.description == "550 5.1.1 No such mailbox here")
    }

    @Test(
        "a status is three numbers",
        arguments: [
            ("5.1.1", "5.1.1"), ("4.7.100", "4.7.100"), ("2.0.0", "2.0.0"), ("5.1", nil), ("5.1.1.1", nil),
            ("3.1.1", nil), ("5.1.1 ", nil), ("5.1000.1", nil), ("5..1", nil), ("", nil), ("a.b.c", nil),
        ] as [(String, String?)]
    )
    func statuses(_ text: String, _ expected: String?) {
        #expect(EnhancedStatus(text)?.description == expected)
    }

    @Test(
        "fate goes by status first, then by code",
        arguments: [
            ("250 OK", "delivered"), ("250 2.0.0 OK", "delivered"), ("251 OK", "delivered"),
            ("450 later", "deferred"), ("450 4.2.0 later", "deferred"), ("550 no", "bounced"),
            ("550 5.1.1 no", "bounced"), ("550 4.2.1 later", "deferred"), ("450 5.1.1 never", "bounced"),
            ("421 5.7.0 closing", "deferred"), ("421 closing", "deferred"), ("354 what", "deferred"),
            ("250 5.0.0 accepted all the same", "delivered"),
        ]
    )
    func fates(_ text: String, _ fate: String) throws {
        let reply = try #require(try parse("\(text)\r\n").first)
        let name =
            switch Attempt(reply) {
            case .delivered: "delivered"
            case .deferred: "deferred"
            case .bounced: "bounced"
            }
        #expect(name == fate)
    }

    @Test("mutated replies are either refused or bounded")
    func mutations() {
        let seeds = [
            "250-mx.example.com\r\n250-SIZE 1000\r\n250 PIPELINING\r\n", "550 5.1.1 no such user\r\n",
            "354 go\r\n250 2.0.0 OK\r\n421 4.3.2 bye\r\n",
        ]
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        for _ in 0..<20_000 {
            let bytes = random.mutate(Array(seeds[Int.random(in: 0..<seeds.count, using: &random)].utf8))
            var parser = ReplyParser()
            guard let replies = try? parser.append(bytes) else { continue }
            for reply in replies {
                let isClean = reply.text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
                #expect((200...599).contains(reply.code) && isClean, "\(bytes), seed \(seed)")
            }
        }
    }

    @Test(
        "data is made transparent",
        arguments: [
            ("a\r\nb\r\n", "a\r\nb\r\n"), (".\r\n", "..\r\n"), ("a\r\n.b\r\n..\r\n", "a\r\n..b\r\n...\r\n"),
            ("a", "a\r\n"), ("", ""), ("a\nb\rc\r\n", "a\r\nb\r\nc\r\n"), ("\n.\n", "\r\n..\r\n"),
            ("a\r\r\nb\r\n", "a\r\n\r\nb\r\n"), ("a\r\n.\r", "a\r\n..\r\n"), ("\na\r\n", "\r\na\r\n"),
            ("\n", "\r\n"),
            ("a.b\r\n", "a.b\r\n"), ("a\r\n\n.\r\n", "a\r\n\r\n..\r\n"), ("x\r.y\r\n", "x\r\n..y\r\n"),
        ]
    )
    func transparency(_ message: String, _ data: String) {
        let encoded = TransparencyEncoder.encode(Array(message.utf8))
        #expect(String(decoding: encoded, as: UTF8.self).debugDescription == data.debugDescription)
    }

    @Test("no message can end the data before its end")
    func noEarlyEnd() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        let alphabet: [UInt8] = [0x0D, 0x0A, 0x2E, 0x61, 0x00]
        for _ in 0..<20_000 {
            let length = Int.random(in: 0...12, using: &random)
            let message = (0..<length).map { _ in alphabet[Int.random(in: 0..<5, using: &random)] }
            let data = TransparencyEncoder.encode(message)
            let lines = String(decoding: data, as: UTF8.self).unicodeScalars.split(
                separator: "\n",
                omittingEmptySubsequences: false
            )
            let isSafe = lines.allSatisfy {
                $0.elementsEqual(".\r".unicodeScalars) == false && !$0.elementsEqual(".".unicodeScalars)
            }
            #expect(isSafe, "\(message), seed \(seed)")
            let breaks = data.indices.filter { data[$0] == 0x0A }
            #expect(breaks.allSatisfy { $0 > 0 && data[$0 - 1] == 0x0D }, "\(message), seed \(seed)")
            #expect(data.count { $0 == 0x0D } == breaks.count, "\(message), seed \(seed)")
        }
    }
}
