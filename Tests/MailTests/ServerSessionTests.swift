// Conversations with the server's half of SMTP and LMTP, without a socket.

import TestSupport
import Testing

@testable import Mail

@Suite("the server session")
struct ServerSessionTests {
    @Test("dialogues", arguments: Dialogue.all)
    func dialogue(_ dialogue: Dialogue) {
        var driver = SessionDriver(dialogue.session)
        for step in dialogue.steps {
            let answers = driver.send(step.line)
            #expect(answers == step.answers, "after \(step.line)")
        }
    }

    @Test("the envelope holds what MAIL and RCPT said")
    func envelope() throws {
        var driver = SessionDriver(ServerSession(dialect: .smtp, hostname: "mx.example.org"))
        for line in ["EHLO client.example", "MAIL FROM:<a@example.com> SIZE=100 BODY=8BITMIME SMTPUTF8"] {
            _ = driver.send(line)
        }
        _ = driver.send("RCPT TO:<@relay.example,@other.example:b+tag@example.org>")
        _ = driver.send("DATA")
        let action = driver.session.dataEnded(LineDecoder.DataEnd(size: 3, fault: nil), receivedFields: 0)
        guard case .accept(let envelope) = action else {
            Issue.record("not accepted: \(action)")
            return
        }
        #expect(envelope.sender?.description == "a@example.com")
        #expect(envelope.recipients.map(\.description) == ["b+tag@example.org"])
        #expect(envelope.declaredSize == 100)
        #expect(envelope.is8Bit)
        #expect(envelope.isSMTPUTF8)
        #expect(envelope.transferProtocol == "UTF8SMTP")
        #expect(envelope.clientName == "client.example")
        #expect(driver.session.dataAccepted(as: "x").map(\.code) == [250])
        #expect(driver.send("RCPT TO:<b@example.org>") == ["503 5.5.1"])
    }

    @Test(
        "after data",
        arguments: [
            (LineDecoder.DataFault.bareCarriageReturn, 0, "554 5.6.0"), (.ambiguousEnd, 0, "554 5.6.0"),
            (.tooLarge, 0, "552 5.3.4"), (nil, 51, "554 5.4.6"), (nil, 50, "accept"),
        ] as [(LineDecoder.DataFault?, Int, String)]
    )
    func afterData(_ fault: LineDecoder.DataFault?, _ received: Int, _ expected: String) {
        for dialect in [ServerSession.Dialect.smtp, .lmtp] {
            var driver = SessionDriver(ServerSession(dialect: dialect, hostname: "mx.example.org"))
            _ = driver.send(dialect == .smtp ? "EHLO c" : "LHLO c")
            for line in ["MAIL FROM:<>", "RCPT TO:<a@example.org>", "RCPT TO:<b@example.org>", "DATA"] {
                _ = driver.send(line)
            }
            let action = driver.session.dataEnded(
                LineDecoder.DataEnd(size: 3, fault: fault),
                receivedFields: received
            )
            switch action {
            case .accept(let envelope):
                #expect(expected == "accept")
                #expect(envelope.sender == nil)
                #expect(driver.session.dataRefused(.temporaryFailure).count == (dialect == .lmtp ? 2 : 1))
            case .refuse(let replies):
                #expect(
                    replies.map(SessionDriver.short)
                        == Array(repeating: expected, count: dialect == .lmtp ? 2 : 1)
                )
            default: Issue.record("unexpected \(action)")
            }
            #expect(driver.send("MAIL FROM:<>") == ["250 2.1.0"])
        }
    }

    @Test("LMTP gives each recipient the reply that is theirs, SMTP the one that makes the client try again")
    func oneReplyEach() {
        for (dialect, expected) in [
            (ServerSession.Dialect.lmtp, ["250 2.0.0", "451 4.3.0"]), (.smtp, ["451 4.3.0"]),
        ] {
            var driver = SessionDriver(ServerSession(dialect: dialect, hostname: "mx.example.org"))
            _ = driver.send(dialect == .smtp ? "EHLO c" : "LHLO c")
            for line in ["MAIL FROM:<>", "RCPT TO:<a@example.org>", "RCPT TO:<b@example.org>", "DATA"] {
                _ = driver.send(line)
            }
            _ = driver.session.dataEnded(LineDecoder.DataEnd(size: 3, fault: nil), receivedFields: 1)
            let replies = driver.session.dataFinished([.ok, .temporaryFailure])
            #expect(replies.map(SessionDriver.short) == expected)
        }
    }

    @Test(
        "verdicts about recipients",
        arguments: [
            (ServerSession.RecipientVerdict.accepted, "250 2.1.5"), (.unknown, "550 5.1.1"),
            (.disabled, "550 5.2.1"),
            (.notOurDomain, "550 5.7.1"), (.unavailable, "451 4.3.0"),
        ]
    )
    func verdicts(_ verdict: ServerSession.RecipientVerdict, _ expected: String) {
        var driver = SessionDriver(
            ServerSession(dialect: .smtp, hostname: "mx.example.org"),
            verdict: verdict
        )
        _ = driver.send("EHLO c")
        _ = driver.send("MAIL FROM:<a@example.com>")
        #expect(driver.send("RCPT TO:<b@example.org>") == [expected])
        #expect(driver.send("DATA") == [verdict == .accepted ? "354" : "554 5.5.1"])
    }

    @Test("the hundred-and-first recipient waits for another transaction and is no error")
    func recipientLimit() {
        var driver = SessionDriver(ServerSession(dialect: .smtp, hostname: "mx.example.org"))
        _ = driver.send("EHLO c")
        _ = driver.send("MAIL FROM:<a@example.com>")
        for number in 1...100 { #expect(driver.send("RCPT TO:<r\(number)@example.org>") == ["250 2.1.5"]) }
        for number in 101...140 { #expect(driver.send("RCPT TO:<r\(number)@example.org>") == ["452 4.5.3"]) }
        #expect(driver.send("DATA") == ["354"])
    }

    @Test("twenty errors end the session, three unknown commands too")
    func errorLimits() {
        var driver = SessionDriver(ServerSession(dialect: .smtp, hostname: "mx.example.org"))
        for _ in 1...19 { #expect(driver.send("MAIL FROM:<a@example.com>") == ["503 5.5.1"]) }
        #expect(driver.send("MAIL FROM:<a@example.com>") == ["close 421 4.7.0"])
        driver = SessionDriver(ServerSession(dialect: .smtp, hostname: "mx.example.org"))
        #expect(driver.send("FOO") == ["500 5.5.1"])
        #expect(driver.send("BAR") == ["500 5.5.1"])
        #expect(driver.send("BAZ") == ["close 421 4.7.0"])
    }

    @Test("under overload new messages wait, the one that has begun goes on")
    func overload() {
        var driver = SessionDriver(ServerSession(dialect: .smtp, hostname: "mx.example.org"))
        _ = driver.send("EHLO c")
        _ = driver.send("MAIL FROM:<a@example.com>")
        driver.session.isOverloaded = true
        #expect(driver.send("RCPT TO:<b@example.org>") == ["250 2.1.5"])
        #expect(driver.send("DATA") == ["354"])
        _ = driver.session.dataEnded(LineDecoder.DataEnd(size: 3, fault: nil), receivedFields: 0)
        _ = driver.session.dataAccepted(as: "x")
        #expect(driver.send("MAIL FROM:<a@example.com>") == ["452 4.3.1"])
    }

    @Test("after the handshake everything is forgotten")
    func forgetsBeforeTLS() {
        var driver = SessionDriver(ServerSession(dialect: .smtp, hostname: "mx.example.org", offersTLS: true))
        #expect(driver.send("EHLO c").first?.contains("STARTTLS") == true)
        #expect(driver.send("STARTTLS") == ["tls 220 2.0.0"])
        driver.session.tlsStarted()
        #expect(driver.send("MAIL FROM:<a@example.com>") == ["503 5.5.1"])
        #expect(driver.send("EHLO c").first?.contains("STARTTLS") == false)
        #expect(driver.send("STARTTLS") == ["503 5.5.1"])
    }

    @Test(
        "bytes behind a command that must end its group",
        arguments: [
            ("STARTTLS", "close 503 5.5.0"), ("DATA", "close 503 5.5.0"), ("EHLO c", "close 503 5.5.0"),
            ("NOOP", "503 5.5.0"), ("VRFY x", "503 5.5.0"), ("RSET", "250 2.0.0"),
            ("MAIL FROM:<>", "250 2.1.0"),
            ("RCPT TO:<a@example.org>", "503 5.5.1"), ("QUIT", "close 221 2.0.0"),
        ]
    )
    func pipelining(_ line: String, _ expected: String) {
        var driver = SessionDriver(ServerSession(dialect: .smtp, hostname: "mx.example.org", offersTLS: true))
        _ = driver.send("EHLO c")
        #expect(driver.send(line, moreBuffered: true) == [expected])
    }

    @Test("Received fields are counted in the header only, however it is cut")
    func receivedFields() {
        let text =
            "Received: a\r\nreceived: b\r\n Received: folded\r\nX-Received: c\r\nRECEIVED:d\r\n\r\nReceived: body\r\n"
        let bytes = Array(text.utf8)
        for step in 1...bytes.count {
            var counter = ReceivedCounter()
            for start in stride(from: 0, to: bytes.count, by: step) {
                counter.append(Array(bytes[start..<min(bytes.count, start + step)]))
            }
            #expect(counter.count == 3)
        }
    }

    @Test("arbitrary lines never crash and never open the way to data without a recipient")
    func mutations() {
        var generator = SeededGenerator(seed: 11)
        let seeds = Dialogue.all.flatMap(\.steps).map { Array($0.line.utf8) }
        for _ in 0..<5_000 {
            var driver = SessionDriver(
                ServerSession(dialect: .smtp, hostname: "mx.example.org", offersTLS: true)
            )
            driver.verdict = .unknown
            for _ in 0..<6 {
                var line = seeds[Int.random(in: 0..<seeds.count, using: &generator)]
                Mutation.apply(to: &line, using: &generator)
                let answers = driver.send(line, moreBuffered: Bool.random(using: &generator))
                #expect(!answers.contains("354"))
            }
        }
    }
}

/// A listener without a socket: answers the session's questions at once.
struct SessionDriver {
    var session: ServerSession
    var verdict = ServerSession.RecipientVerdict.accepted

    init(_ session: ServerSession, verdict: ServerSession.RecipientVerdict = .accepted) {
        self.session = session
        self.verdict = verdict
    }

    mutating func send(_ line: String, moreBuffered: Bool = false) -> [String] {
        send(Array(line.utf8), moreBuffered: moreBuffered)
    }

    mutating func send(_ line: [UInt8], moreBuffered: Bool = false) -> [String] {
        var action = session.received(line, moreBuffered: moreBuffered)
        if case .checkRecipient = action { action = session.recipientChecked(verdict) }
        switch action {
        case .reply(let reply), .readData(let reply): return [Self.short(reply)]
        case .close(let reply): return ["close " + Self.short(reply)]
        case .startTLS(let reply): return ["tls " + Self.short(reply)]
        case .refuse(let replies): return replies.map(Self.short)
        case .accept, .checkRecipient: return ["unexpected"]
        }
    }

    static func short(_ reply: Reply) -> String {
        if reply.lines.count > 1 { return "\(reply.code) " + reply.lines.joined(separator: "|") }
        return "\(reply.code)" + (reply.status.map { " \($0)" } ?? "")
    }
}

struct Dialogue: Sendable, CustomTestStringConvertible {
    struct Step: Sendable {
        let line: String
        let answers: [String]
    }

    let name: String
    let session: ServerSession
    let steps: [Step]
    var testDescription: String { name }

    init(_ name: String, _ steps: [(String, String)], on session: ServerSession = smtp) {
        self.name = name
        self.session = session
        self.steps = steps.map { Step(line: $0.0, answers: [$0.1]) }
    }

    static let smtp = ServerSession(dialect: .smtp, hostname: "mx.example.org", offersTLS: true)
    private static let lmtp = ServerSession(dialect: .lmtp, hostname: "mx.example.org")
    private static let extensions = "PIPELINING|SIZE 41943040|8BITMIME|SMTPUTF8|ENHANCEDSTATUSCODES"

    static let all: [Dialogue] = [
        Dialogue("EHLO lists what we do", [("EHLO client", "250 mx.example.org|\(extensions)|STARTTLS")]),
        Dialogue(
            "HELO knows no parameters",
            [
                ("HELO client", "250"), ("MAIL FROM:<a@example.com> SIZE=1", "555 5.5.4"),
                ("mail from:<a@example.com>", "250 2.1.0"), ("rcpt to:<b@example.org>", "250 2.1.5"),
                ("data", "354"),
            ]
        ),
        Dialogue(
            "order matters",
            [
                ("MAIL FROM:<>", "503 5.5.1"), ("RCPT TO:<b@example.org>", "503 5.5.1"),
                ("DATA", "503 5.5.1"),
                ("HELO", "501 5.5.4"), ("HELO c", "250"), ("DATA", "503 5.5.1"),
                ("RCPT TO:<b@example.org>", "503 5.5.1"),
                ("MAIL FROM:<>", "250 2.1.0"), ("MAIL FROM:<>", "503 5.5.1"), ("DATA", "554 5.5.1"),
                ("STARTTLS", "503 5.5.1"), ("RSET", "250 2.0.0"), ("STARTTLS", "tls 220 2.0.0"),
            ]
        ),
        Dialogue(
            "RSET drops the transaction and keeps the greeting",
            [
                ("HELO c", "250"), ("MAIL FROM:<>", "250 2.1.0"), ("RSET", "250 2.0.0"),
                ("RCPT TO:<b@example.org>", "503 5.5.1"), ("MAIL FROM:<>", "250 2.1.0"),
                ("RSET x", "501 5.5.4"),
            ]
        ),
        Dialogue(
            "EHLO again drops the transaction",
            [
                ("HELO c", "250"), ("MAIL FROM:<>", "250 2.1.0"), ("HELO c", "250"),
                ("RCPT TO:<b@example.org>", "503 5.5.1"),
            ]
        ),
        Dialogue(
            "paths",
            [
                ("HELO c", "250"), ("MAIL FROM:a@example.com", "501 5.5.4"),
                ("MAIL FROM <a@example.com>", "501 5.5.4"),
                ("MAIL FROM:<a@example.com", "501 5.5.4"), ("MAIL FROM:<a@b@c>", "501 5.1.7"),
                ("MAIL FROM:<a>", "501 5.1.7"), ("MAIL FROM:<a@example.com>x", "501 5.5.4"),
                ("MAIL FROM: <\"a>b\"@example.com>", "250 2.1.0"), ("RCPT TO:<>", "501 5.1.3"),
                ("RCPT TO:<postmaster>", "250 2.1.5"), ("RCPT TO:<Postmaster@example.org>", "250 2.1.5"),
                ("RCPT TO:<b@example.org> NOTIFY=NEVER", "555 5.5.4"),
            ]
        ),
        Dialogue(
            "parameters of MAIL",
            [
                ("EHLO c", "250 mx.example.org|\(extensions)|STARTTLS"),
                ("MAIL FROM:<a@example.com> SIZE=99999999999", "552 5.3.4"),
                ("MAIL FROM:<a@example.com> SIZE=99999999999999999999", "552 5.3.4"),
                ("MAIL FROM:<a@example.com> SIZE=41943041", "552 5.3.4"),
                ("MAIL FROM:<a@example.com> SIZE=x", "501 5.5.4"),
                ("MAIL FROM:<a@example.com> BODY=BINARYMIME", "501 5.5.4"),
                ("MAIL FROM:<a@example.com> RET=FULL", "555 5.5.4"),
                ("MAIL FROM:<jörg@example.com>", "553 5.6.7"),
                ("MAIL FROM:<jörg@example.com> size=41943040 body=8bitmime smtputf8", "250 2.1.0"),
                ("RCPT TO:<jürgen@example.org>", "250 2.1.5"),
            ]
        ),
        Dialogue(
            "addresses beyond ASCII need SMTPUTF8",
            [
                ("EHLO c", "250 mx.example.org|\(extensions)|STARTTLS"),
                ("MAIL FROM:<a@example.com>", "250 2.1.0"),
                ("RCPT TO:<jürgen@example.org>", "553 5.6.7"),
            ]
        ),
        Dialogue(
            "nobody is verified",
            [
                ("VRFY root", "252 2.5.2"), ("VRFY", "501 5.5.4"), ("EXPN list", "502 5.5.1"),
                ("NOOP hello", "250 2.0.0"),
                ("HELP", "214 2.0.0"), ("QUIT", "close 221 2.0.0"),
            ]
        ),
        Dialogue("HTTP on the port: GET", [("GET / HTTP/1.1", "close 554 5.5.1")]),
        Dialogue("HTTP on the port: POST", [("POST /x HTTP/1.1", "close 554 5.5.1")]),
        Dialogue("HTTP on the port: HTTP/2", [("PRI * HTTP/2.0", "close 554 5.5.1")]),
        Dialogue(
            "LMTP says LHLO",
            [
                ("EHLO c", "502 5.5.1"), ("LHLO c", "250 mx.example.org|\(extensions)"),
                ("MAIL FROM:<>", "250 2.1.0"),
                ("DATA", "503 5.5.1"), ("RCPT TO:<b@example.org>", "250 2.1.5"), ("DATA", "354"),
            ],
            on: lmtp
        ),
        Dialogue("SMTP does not", [("LHLO c", "500 5.5.1")]),
        Dialogue(
            "no certificate, no STARTTLS",
            [
                ("EHLO c", "250 mx.example.org|\(extensions)"), ("STARTTLS", "454 4.7.0"),
            ],
            on: ServerSession(dialect: .smtp, hostname: "mx.example.org")
        ),
    ]
}
