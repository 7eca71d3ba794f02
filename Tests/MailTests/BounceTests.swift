import Foundation
import Testing

@testable import Mail

@Suite("Bounces")
struct BounceTests {
    private func bounce(_ line: String) throws -> Bounce {
        var parser = ReplyParser()
        return Bounce(try #require(try parser.append("\(line)\r\n".utf8).first))
    }

    @Test(
        "a refusal is classified",
        arguments: [
            (
                "550 5.1.1 <joe@example.com>: Recipient address rejected: User unknown",
                Bounce.Reason.userUnknown, Bounce.Consequence.suppressNow
            ),
            ("550 5.1.1 <spam-blacklist@example.com> unknown", .userUnknown, .suppressNow),
            ("550 No such user here", .userUnknown, .suppressNow),
            ("550 5.0.0 Unknown user", .userUnknown, .suppressNow),
            (
                "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302)", .userUnknown,
                .suppressNow
            ),
            (
                "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", .userUnknown,
                .suppressNow
            ),
            (
                "550-5.1.1 The email account that you tried to reach does not exist", .userUnknown,
                .suppressNow
            ),
            ("554 delivery error: dd This user doesn't have a yahoo.com account", .userUnknown, .suppressNow),
            ("550 User joe (joe@example.com) not listed in Domino Directory", .userUnknown, .suppressNow),
            ("551 user moved", .userUnknown, .suppressNow),
            ("450 4.1.1 mailbox unavailable", .userUnknown, .other),
            ("550 5.1.2 Host unknown", .hostUnknown, .suppressNow),
            ("556 5.1.10 Domain accepts no mail", .hostUnknown, .suppressNow),
            (
                "550 5.2.1 The email account that you tried to reach is disabled", .mailboxDisabled,
                .suppressNow
            ),
            ("525 5.7.13 User account disabled", .mailboxDisabled, .suppressNow),
            (
                "450 4.2.1 The user you are trying to contact is receiving mail at a rate that", .rateLimited,
                .aboutUs
            ),
            ("552 5.2.2 Mailbox full", .mailboxFull, .soft),
            ("452 4.2.2 over quota", .mailboxFull, .soft),
            ("550 The recipient's mailbox is full", .mailboxFull, .soft),
            ("552 Requested mail action aborted", .mailboxFull, .soft),
            ("552 5.3.4 Message too big", .messageTooLarge, .other),
            ("552 5.2.3 Message exceeds the limit", .messageTooLarge, .other),
            (
                "550 5.2.1 Mailbox unavailable. Your IP address 1.2.3.4 is blacklisted using SPAMHAUS-XBL",
                .blocklisted, .aboutUs
            ),
            (
                "554 5.7.1 Service unavailable; Client host [1.2.3.4] blocked using zen.spamhaus.org",
                .blocklisted, .aboutUs
            ),
            (
                "550 5.7.1 Unfortunately, messages from [1.2.3.4] weren't sent. block list (S3140)",
                .blocklisted, .aboutUs
            ),
            ("550 5.7.1 Message rejected as spam", .spam, .aboutUs),
            ("554 5.7.9 Message not accepted for policy reasons", .policy, .aboutUs),
            ("550 5.7.1 Relaying denied", .policy, .aboutUs),
            (
                "550 5.7.26 This mail has been rejected because it is unauthenticated", .authentication,
                .aboutUs
            ),
            ("421 4.7.0 Try again later, unusual rate of unsolicited mail", .spam, .aboutUs),
            ("450 4.7.1 Greylisted, please try again in 300 seconds", .greylisted, .other),
            ("451 4.4.1 connection timed out", .network, .other),
            ("554 5.4.6 Too many hops", .loop, .other),
            ("503 5.5.1 bad sequence", .protocolError, .other),
            ("554 5.6.0 message format", .content, .other),
            ("550 no", .other, .other),
            ("554 5.0.0 Transaction failed", .other, .other),
        ]
    )
    func classifies(_ line: String, _ reason: Bounce.Reason, _ consequence: Bounce.Consequence) throws {
        let bounce = try bounce(line.replacingOccurrences(of: "550-", with: "550 "))
        #expect(bounce.reason == reason)
        #expect(bounce.consequence == consequence)
    }

    @Test("nothing transient suppresses at once")
    func transientNeverSuppresses() {
        for reason in Bounce.Reason.allCases {
            #expect(Bounce(reason: reason, isPermanent: false).consequence != .suppressNow)
        }
    }

    @Test(
        "a refusal about our reputation never suppresses, whatever its status",
        .enabled(if: OutboundCorpora.isPresent, "no corpora")
    )
    func samples() throws {
        let lines = try JSONDecoder().decode(
            [String].self,
            from: Data(try OutboundCorpora.bytes("zonemta-bounces/sample-smtp-replies.json"))
        )
        #expect(lines.count > 30)
        for line in lines {
            // Some are the first line of several, and some are cut in the middle.
            let single = line.split(whereSeparator: \.isNewline).first.map(String.init) ?? line
            var characters = Array(single)
            if characters.count > 3, characters[3] == "-" { characters[3] = " " }
            guard let bounce = try? bounce(String(characters)) else { continue }
            let isAboutMailbox =
                single.contains("Invalid recipient") || single.contains("> recipient rejected")
            #expect((bounce.consequence == .suppressNow) == isAboutMailbox, "\(single) → \(bounce.reason)")
        }
    }
}
