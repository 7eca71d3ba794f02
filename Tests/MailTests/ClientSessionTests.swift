import TestSupport
import Testing

@testable import Mail

/// Plays a server against a session: what each command is answered, and what came of it.
private struct ClientDialogue {
    var session: ClientSession
    var sent: [String] = []
    var outcomes: [Int: [Attempt]] = [:]
    var transactions = 0
    var isClosed = false
    var startsTLS = false

    init(_ configuration: ClientSession.Configuration = .init(heloName: "me.example.com", tls: .none)) {
        session = ClientSession(configuration)
        perform(session.start())
    }

    mutating func perform(_ actions: [ClientSession.Action]) {
        for action in actions {
            switch action {
            case .send(let bytes): sent.append(String(decoding: bytes, as: UTF8.self))
            case .outcome(let index, let attempt): outcomes[index, default: []].append(attempt)
            case .transactionDone: transactions += 1
            case .startTLS: startsTLS = true
            case .close: isClosed = true
            }
        }
    }

    /// Feeds replies and gives what was sent in answer.
    @discardableResult
    mutating func server(_ replies: String...) -> [String] {
        sent = []
        var parser = ReplyParser()
        for text in replies {
            let lines = "\(text.replacing("\n", with: "\r\n"))\r\n"
            for reply in (try? parser.append(lines.utf8)) ?? [] { perform(session.received(reply)) }
        }
        return sent
    }

    mutating func open(_ capabilities: String = "") {
        server("220 mx ready")
        let lines = capabilities.split(separator: ",")
        server(
            lines.isEmpty
                ? "250 mx"
                : "250-mx\n" + lines.dropLast().map { "250-\($0)\n" }.joined()
                    + "250 \(lines[lines.count - 1])"
        )
    }

    func fate(_ index: Int) -> String {
        guard let attempts = outcomes[index], attempts.count == 1 else {
            return "\(outcomes[index]?.count ?? 0) outcomes"
        }
        return switch attempts[0] {
        case .delivered(let reply): "delivered \(reply.code)"
        case .deferred(let reply): "deferred \(reply.code)"
        case .bounced(let reply): "bounced \(reply.code)"
        }
    }
}

@Suite("Client session")
struct ClientSessionTests {
    private func transaction(
        _ recipients: String...,
        message: String = "Subject: x\r\n\r\n.dot\r\n"
    ) throws -> ClientSession.Transaction {
        ClientSession.Transaction(
            sender: try EmailAddress("bounce+t@send.example.com"),
            recipients: try recipients.map { try EmailAddress($0) },
            message: Array(message.utf8)
        )
    }

    @Test("a delivery without extensions goes step by step")
    func plain() throws {
        var dialogue = ClientDialogue()
        dialogue.perform(dialogue.session.deliver(try transaction("a@example.org", "b@example.org")))
        #expect(dialogue.server("220 mx") == ["EHLO me.example.com\r\n"])
        #expect(dialogue.server("250 mx") == ["MAIL FROM:<bounce+t@send.example.com>\r\n"])
        #expect(dialogue.server("250 ok") == ["RCPT TO:<a@example.org>\r\n"])
        #expect(dialogue.server("550 5.1.1 no") == ["RCPT TO:<b@example.org>\r\n"])
        #expect(dialogue.fate(0) == "bounced 550")
        #expect(dialogue.server("250 ok") == ["DATA\r\n"])
        #expect(dialogue.session.timeout == .seconds(120))
        #expect(dialogue.server("354 go") == ["Subject: x\r\n\r\n..dot\r\n", ".\r\n"])
        #expect(dialogue.session.timeout == .seconds(600))
        #expect(dialogue.server("250 2.0.0 queued") == [])
        #expect(dialogue.fate(1) == "delivered 250")
        #expect(dialogue.transactions == 1 && dialogue.session.isIdle)
        dialogue.sent = []
        dialogue.perform(dialogue.session.quit())
        #expect(dialogue.sent == ["QUIT\r\n"])
        dialogue.server("221 bye")
        #expect(dialogue.isClosed && dialogue.session.failure == nil)
    }

    @Test("with PIPELINING the envelope is one write")
    func pipelined() throws {
        var dialogue = ClientDialogue()
        dialogue.open("PIPELINING,SIZE 100000,8BITMIME")
        #expect(dialogue.session.isIdle)
        dialogue.sent = []
        dialogue.perform(
            dialogue.session.deliver(try transaction("a@example.org", "b@example.org", "c@example.org"))
        )
        #expect(
            dialogue.sent == [
                "MAIL FROM:<bounce+t@send.example.com> SIZE=20\r\nRCPT TO:<a@example.org>\r\n"
                    + "RCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n"
            ]
        )
        let sent = dialogue.server("250 ok", "250 ok", "450 4.2.0 later", "552 5.2.2 full", "354 go")
        #expect(sent.last == ".\r\n")
        dialogue.server("250 queued")
        #expect((0..<3).map(dialogue.fate) == ["delivered 250", "deferred 450", "bounced 552"])
    }

    @Test("all recipients refused and 354 all the same: a lone dot, and no one is delivered to")
    func loneDot() throws {
        var dialogue = ClientDialogue()
        dialogue.open("PIPELINING")
        dialogue.perform(dialogue.session.deliver(try transaction("a@example.org")))
        #expect(dialogue.server("250 ok", "550 no", "354 go") == [".\r\n"])
        dialogue.server("250 queued, what ever")
        #expect(dialogue.fate(0) == "bounced 550")
        #expect(dialogue.transactions == 1 && dialogue.session.isIdle)
    }

    @Test("a refused sender is the fate of all, also when the rest was pipelined")
    func senderRefused() throws {
        for capabilities in ["", "PIPELINING"] {
            var dialogue = ClientDialogue()
            dialogue.open(capabilities)
            dialogue.perform(dialogue.session.deliver(try transaction("a@example.org", "b@example.org")))
            dialogue.server("451 4.7.1 greylisted")
            if !capabilities.isEmpty { #expect(dialogue.server("503 no", "503 no", "354 go") == [".\r\n"]) }
            if !capabilities.isEmpty { dialogue.server("554 no recipients") }
            #expect(dialogue.fate(0) == "deferred 451" && dialogue.fate(1) == "deferred 451")
            #expect(dialogue.transactions == 1 && dialogue.session.isIdle)
        }
    }

    @Test(
        "4xx and 5xx at each step of a transaction",
        arguments: [
            (["550 no"], "bounced 550"), (["450 no"], "deferred 450"),
            (["250 ok", "550 no"], "bounced 550"), (["250 ok", "450 no"], "deferred 450"),
            (["250 ok", "550 4.2.1 later"], "deferred 550"), (["250 ok", "552 too many"], "deferred 552"),
            (["250 ok", "452 4.5.3 too many"], "deferred 452"),
            (["250 ok", "554 5.5.3 too many"], "deferred 554"),
            (["250 ok", "250 ok", "550 no"], "bounced 550"),
            (["250 ok", "250 ok", "451 no"], "deferred 451"),
            (["250 ok", "250 ok", "250 strange"], "deferred 250"),
            (["250 ok", "250 ok", "354 go", "550 spam"], "bounced 550"),
            (["250 ok", "250 ok", "354 go", "452 full"], "deferred 452"),
            (["250 ok", "250 ok", "354 go", "354 again"], "deferred 354"),
            (["250 ok", "250 ok", "354 go", "250 ok"], "delivered 250"), (["354 go"], "deferred 354"),
        ]
    )
    func steps(_ replies: [String], _ fate: String) throws {
        var dialogue = ClientDialogue()
        dialogue.open()
        dialogue.perform(dialogue.session.deliver(try transaction("a@example.org")))
        for reply in replies { dialogue.server(reply) }
        #expect(dialogue.fate(0) == fate)
        #expect(dialogue.transactions == 1)
        // Whatever happened, the session takes another one.
        #expect(dialogue.session.isIdle)
        dialogue.outcomes = [:]
        dialogue.sent = []
        dialogue.perform(dialogue.session.deliver(try transaction("b@example.org")))
        if dialogue.sent == ["RSET\r\n"] { dialogue.server("250 ok") }
        #expect(dialogue.sent == ["MAIL FROM:<bounce+t@send.example.com>\r\n"])
        for reply in ["250 ok", "250 ok", "354 go", "250 ok"] { dialogue.server(reply) }
        #expect(dialogue.fate(0) == "delivered 250")
    }

    @Test("what a failed transaction left is reset in the next one's group")
    func reset() throws {
        var dialogue = ClientDialogue()
        dialogue.open("PIPELINING")
        dialogue.perform(dialogue.session.deliver(try transaction("a@example.org")))
        dialogue.server("250 ok", "550 no", "503 no recipients")
        dialogue.sent = []
        dialogue.perform(dialogue.session.deliver(try transaction("b@example.org")))
        #expect(dialogue.sent.first?.hasPrefix("RSET\r\nMAIL FROM:") == true)
        dialogue.server("250 reset", "250 ok", "250 ok", "354 go", "250 ok")
        #expect(dialogue.outcomes[0]?.count == 2)
    }

    @Test("421 ends the session at any step, and everybody is deferred", arguments: 0...6)
    func serviceClosing(_ step: Int) throws {
        var dialogue = ClientDialogue()
        dialogue.perform(dialogue.session.deliver(try transaction("a@example.org", "b@example.org")))
        for reply in ["220 mx", "250 mx", "250 ok", "250 ok", "250 ok", "354 go"].prefix(step) {
            dialogue.server(reply)
        }
        dialogue.server("421 5.3.2 closing")
        #expect(dialogue.fate(0) == "deferred 421" && dialogue.fate(1) == "deferred 421")
        #expect(dialogue.isClosed && dialogue.transactions == 1)
        #expect(dialogue.outcomes.values.allSatisfy { $0.first?.isOutcomeUnknown == false })
        #expect(dialogue.session.failure?.precedesTransaction == (step < 2))
    }

    @Test(
        "a connection lost after the final dot leaves the outcome unknown, before it does not",
        arguments: 0...6
    )
    func lost(_ step: Int) throws {
        var dialogue = ClientDialogue()
        dialogue.perform(dialogue.session.deliver(try transaction("a@example.org")))
        for reply in ["220 mx", "250 mx", "250 ok", "250 ok", "354 go"].prefix(step) {
            dialogue.server(reply)
        }
        if step == 6 {
            dialogue.perform(dialogue.session.connectionLost("reset by peer", finalDotWritten: false))
        } else {
            dialogue.perform(
                step == 5 ? dialogue.session.timedOut() : dialogue.session.connectionLost("reset by peer")
            )
        }
        #expect(dialogue.fate(0) == "deferred 451")
        #expect(dialogue.outcomes[0]?.first?.isOutcomeUnknown == (step == 5))
        #expect(dialogue.isClosed && dialogue.transactions == 1)
        dialogue.perform(dialogue.session.connectionLost("again"))
        #expect(dialogue.transactions == 1)
    }

    @Test(
        "greetings and hellos that refuse are the fate of all",
        arguments: [
            (["554 go away"], "bounced 554"), (["450 later"], "deferred 450"),
            (["521 no mail"], "bounced 521"),
            (["220 mx", "451 later"], "deferred 451"), (["220 mx", "550 no", "550 no"], "bounced 550"),
        ]
    )
    func refusedEarly(_ replies: [String], _ fate: String) throws {
        var dialogue = ClientDialogue()
        dialogue.perform(dialogue.session.deliver(try transaction("a@example.org")))
        for reply in replies { dialogue.server(reply) }
        #expect(dialogue.fate(0) == fate)
        #expect(dialogue.sent.last == "QUIT\r\n" && dialogue.isClosed)
        #expect(dialogue.session.failure?.precedesTransaction == true)
    }

    @Test("a server that knows no EHLO is spoken to by HELO")
    func helo() throws {
        var dialogue = ClientDialogue(.init(heloName: "me.example.com"))
        dialogue.server("220 old")
        #expect(dialogue.server("502 what") == ["HELO me.example.com\r\n"])
        dialogue.server("250 hello")
        #expect(dialogue.session.isIdle)
    }

    @Test("STARTTLS is followed by a new EHLO and by what that one offers")
    func startTLS() throws {
        var dialogue = ClientDialogue(.init(heloName: "me.example.com", tls: .opportunistic))
        dialogue.server("220 mx")
        #expect(dialogue.server("250-mx\n250-PIPELINING\n250 STARTTLS") == ["STARTTLS\r\n"])
        dialogue.server("220 go")
        #expect(dialogue.startsTLS && dialogue.session.timeout == .seconds(60))
        dialogue.sent = []
        dialogue.perform(dialogue.session.tlsEstablished())
        #expect(dialogue.sent == ["EHLO me.example.com\r\n"])
        dialogue.server("250-mx\n250 SIZE 1000")
        #expect(dialogue.session.isIdle && dialogue.session.isEncrypted)
        #expect(!dialogue.session.capabilities.pipelining && dialogue.session.capabilities.sizeMax == 1_000)
    }

    @Test("replies injected behind the STARTTLS reply end the session")
    func injection() throws {
        var dialogue = ClientDialogue(.init(heloName: "me.example.com", tls: .opportunistic))
        dialogue.perform(dialogue.session.deliver(try transaction("a@example.org")))
        dialogue.server("220 mx")
        dialogue.server("250-mx\n250 STARTTLS")
        dialogue.server("220 go", "250 injected")
        #expect(dialogue.isClosed && dialogue.fate(0) == "deferred 451")
    }

    @Test("no clear text after a failed handshake, and none where TLS is required")
    func tlsFailures() throws {
        var failed = ClientDialogue(.init(heloName: "me.example.com", tls: .opportunistic))
        failed.perform(failed.session.deliver(try transaction("a@example.org")))
        failed.server("220 mx")
        failed.server("250-mx\n250 STARTTLS")
        failed.server("220 go")
        failed.sent = []
        failed.perform(failed.session.tlsFailed("bad certificate"))
        #expect(failed.sent.isEmpty && failed.isClosed && failed.fate(0) == "deferred 451")
        #expect(failed.session.failure?.stage == .tlsHandshake)

        var missing = ClientDialogue(.init(heloName: "me.example.com", tls: .required))
        missing.perform(missing.session.deliver(try transaction("a@example.org")))
        missing.open("PIPELINING")
        #expect(
            missing.isClosed && missing.fate(0) == "deferred 451"
                && missing.session.failure?.stage == .startTLS
        )

        var refused = ClientDialogue(.init(heloName: "me.example.com", tls: .required))
        refused.perform(refused.session.deliver(try transaction("a@example.org")))
        refused.open("STARTTLS")
        refused.server("454 not now")
        #expect(refused.isClosed && refused.fate(0) == "deferred 454")

        var optional = ClientDialogue(.init(heloName: "me.example.com", tls: .opportunistic))
        optional.open("STARTTLS")
        optional.server("454 not now")
        #expect(optional.session.isIdle && !optional.session.isEncrypted)
    }

    @Test("AUTH needs TLS, tries PLAIN, then LOGIN, and leaves no secret in the transcript")
    func authentication() throws {
        var configuration = ClientSession.Configuration(
            heloName: "me.example.com",
            credentials: .init(user: "ada", password: "secret"),
            isEncryptedFromStart: true
        )
        var plain = ClientDialogue(configuration)
        plain.server("220 mx")
        #expect(plain.server("250-mx\n250 AUTH LOGIN PLAIN") == ["AUTH PLAIN AGFkYQBzZWNyZXQ=\r\n"])
        plain.server("235 2.7.0 ok")
        #expect(plain.session.isIdle)

        var login = ClientDialogue(configuration)
        login.server("220 mx")
        #expect(login.server("250-mx\n250 AUTH=LOGIN") == ["AUTH LOGIN\r\n"])
        #expect(login.server("334 VXNlcm5hbWU6") == ["YWRh\r\n"])
        #expect(login.server("334 UGFzc3dvcmQ6") == ["c2VjcmV0\r\n"])
        login.server("235 ok")
        #expect(login.session.isIdle)
        for text in [plain.session.transcript.text, login.session.transcript.text] {
            for secret in ["AGFkYQBzZWNyZXQ=", "YWRh", "c2VjcmV0", "secret"] {
                #expect(!text.contains(secret))
            }
        }

        var wrong = ClientDialogue(configuration)
        wrong.perform(wrong.session.deliver(try transaction("a@example.org")))
        wrong.open("AUTH PLAIN")
        wrong.server("535 5.7.8 wrong password")
        #expect(wrong.fate(0) == "deferred 535" && wrong.isClosed)

        configuration.isEncryptedFromStart = false
        var clear = ClientDialogue(configuration)
        clear.open("AUTH PLAIN")
        #expect(clear.isClosed && clear.session.failure?.stage == .authentication)
        configuration.allowsClearTextAuthentication = true
        var allowed = ClientDialogue(configuration)
        allowed.server("220 mx")
        #expect(allowed.server("250-mx\n250 AUTH PLAIN").first?.hasPrefix("AUTH PLAIN ") == true)
    }

    @Test("what EHLO already refuses is decided here")
    func local() throws {
        var tooBig = ClientDialogue()
        tooBig.open("SIZE 10")
        tooBig.sent = []
        tooBig.perform(tooBig.session.deliver(try transaction("a@example.org")))
        #expect(
            tooBig.sent.isEmpty && tooBig.outcomes[0] == [.bounced(.messageTooBig)]
                && tooBig.transactions == 1
        )
        #expect(tooBig.session.isIdle)

        var utf8 = ClientDialogue()
        utf8.open("PIPELINING")
        utf8.sent = []
        utf8.perform(utf8.session.deliver(try transaction("jörg@example.org", "b@example.org")))
        #expect(utf8.outcomes[0] == [.bounced(.nonASCIIAddress)])
        #expect(utf8.sent.first?.contains("RCPT TO:<b@example.org>") == true)
        #expect(utf8.sent.first?.contains("SMTPUTF8") == false)
        utf8.server("250 ok", "250 ok", "354 go", "250 ok")
        #expect(utf8.fate(1) == "delivered 250")

        var offered = ClientDialogue()
        offered.open("PIPELINING,SMTPUTF8,8BITMIME,SIZE")
        offered.sent = []
        offered.perform(
            offered.session.deliver(try transaction("jörg@example.org", message: "Subject: ü\r\n\r\n"))
        )
        #expect(
            offered.sent.first?.hasPrefix(
                "MAIL FROM:<bounce+t@send.example.com> SIZE=15 BODY=8BITMIME SMTPUTF8\r\n"
            ) == true
        )
    }

    @Test("rubbish from the server defers, and is an unknown outcome after the dot")
    func malformed() throws {
        var dialogue = ClientDialogue()
        dialogue.open()
        dialogue.perform(dialogue.session.deliver(try transaction("a@example.org")))
        for reply in ["250 ok", "250 ok", "354 go"] { dialogue.server(reply) }
        dialogue.perform(dialogue.session.malformed(.codesDiffer))
        #expect(dialogue.outcomes[0]?.first?.isOutcomeUnknown == true && dialogue.isClosed)

        var idle = ClientDialogue()
        idle.open()
        idle.server("250 out of turn")
        #expect(idle.isClosed && idle.session.failure?.stage == .idle)
        idle.perform(idle.session.deliver(try transaction("a@example.org")))
        #expect(idle.fate(0) == "deferred 451" && idle.transactions == 1)
    }

    @Test("the transcript is bounded and shows one transaction only")
    func transcript() throws {
        var dialogue = ClientDialogue()
        dialogue.open("PIPELINING")
        let recipients = try (0..<100).map { try EmailAddress("r\($0)@example.org") }
        dialogue.perform(
            dialogue.session.deliver(
                .init(sender: nil, recipients: recipients, message: Array("a: b\r\n\r\nprivate\r\n".utf8))
            )
        )
        dialogue.server("250 ok")
        for _ in 0..<100 { dialogue.server("250 \(String(repeating: "x", count: 3_000))") }
        dialogue.server("354 go")
        dialogue.server("250 queued as 42")
        let text = dialogue.session.transcript.text
        #expect(
            text.contains("S: 220 mx ready") && text.contains("C: MAIL FROM:<>")
                && text.contains("queued as 42")
        )
        #expect(!text.contains("private") && text.utf8.count < 40_000)
        #expect((0..<100).allSatisfy { dialogue.fate($0) == "delivered 250" })
        dialogue.perform(dialogue.session.deliver(try transaction("other@example.org")))
        #expect(!dialogue.session.transcript.text.contains("queued as 42"))
        #expect(dialogue.session.transcript.text.contains("S: 220 mx ready"))
    }

    @Test("every recipient gets exactly one outcome, whatever the server says")
    func exactlyOnce() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        let codes = [
            220, 235, 250, 250, 250, 250, 250, 334, 354, 354, 354, 421, 450, 452, 500, 550, 552, 554,
        ]
        for _ in 0..<5_000 {
            var dialogue = ClientDialogue(
                .init(
                    heloName: "me",
                    tls: [.none, .opportunistic, .required].randomElement(using: &random) ?? .none
                )
            )
            let count = Int.random(in: 1...4, using: &random)
            let recipients = try (0..<count).map { try EmailAddress("r\($0)@example.org") }
            dialogue.perform(
                dialogue.session.deliver(.init(sender: nil, recipients: recipients, message: [65]))
            )
            for step in 0..<30 where !dialogue.isClosed && dialogue.transactions == 0 {
                dialogue.startsTLS = false
                if step == 1, Bool.random(using: &random) {
                    dialogue.server("250-mx\n250-STARTTLS\n250 PIPELINING")
                } else if Int.random(in: 0..<40, using: &random) == 0 {
                    dialogue.perform(dialogue.session.connectionLost("gone"))
                } else {
                    dialogue.server(step == 0 ? "220 x" : "\(codes.randomElement(using: &random) ?? 250) x")
                }
                if dialogue.startsTLS { dialogue.perform(dialogue.session.tlsEstablished()) }
            }
            if dialogue.transactions == 0 { dialogue.perform(dialogue.session.quit()) }
            #expect(dialogue.transactions == 1, "seed \(seed)")
            #expect((0..<count).allSatisfy { dialogue.outcomes[$0]?.count == 1 }, "seed \(seed)")
        }
    }
}
