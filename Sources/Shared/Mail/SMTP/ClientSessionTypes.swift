// What goes into a client session and what comes out of it.

extension ClientSession {
    /// Whether the session must, may or shall not be encrypted by STARTTLS.
    package enum TLSPolicy: String, Sendable, Hashable, Codable {
        /// Never ask for it.
        case none
        /// Take it when it is offered, without checking whose certificate it is.
        case opportunistic
        /// No mail without it.
        case required
    }

    /// A name and password for a smart host; printing it shows neither.
    package struct Credentials: Sendable, Hashable, CustomStringConvertible {
        package let user: String
        package let password: String

        package init(user: String, password: String) {
            self.user = user
            self.password = password
        }

        package var description: String { "credentials" }
    }

    /// How to speak with one server.
    package struct Configuration: Sendable {
        /// Our own name in EHLO.
        package var heloName: String
        package var tls: TLSPolicy
        package var credentials: Credentials?
        /// Allows AUTH on an unencrypted connection; for a smart host on the same machine only.
        package var allowsClearTextAuthentication: Bool
        /// The connection began with a TLS handshake (`smtps`).
        package var isEncryptedFromStart: Bool
        /// False keeps commands one by one, for servers that offer PIPELINING and do not bear it.
        package var pipelines: Bool
        package var timeouts: Timeouts

        package init(
            heloName: String,
            tls: TLSPolicy = .opportunistic,
            credentials: Credentials? = nil,
            allowsClearTextAuthentication: Bool = false,
            isEncryptedFromStart: Bool = false,
            pipelines: Bool = true,
            timeouts: Timeouts = Timeouts()
        ) {
            self.heloName = heloName
            self.tls = tls
            self.credentials = credentials
            self.allowsClearTextAuthentication = allowsClearTextAuthentication
            self.isEncryptedFromStart = isEncryptedFromStart
            self.pipelines = pipelines
            self.timeouts = timeouts
        }
    }

    /// How long each reply may take (RFC 5321 §4.5.3.2).
    package struct Timeouts: Sendable, Hashable {
        /// Greeting, EHLO, STARTTLS, AUTH, MAIL, RCPT, RSET.
        package var reply: Duration = .seconds(300)
        package var tlsHandshake: Duration = .seconds(60)
        /// The 354 behind DATA.
        package var data: Duration = .seconds(120)
        /// Progress while a message is being written; the connection watches it, no reply is due.
        package var dataBlock: Duration = .seconds(180)
        /// The reply to the final dot; closing earlier makes duplicates.
        package var endOfData: Duration = .seconds(600)
        package var quit: Duration = .seconds(5)

        package init() {}
    }

    /// One message to some recipients.
    package struct Transaction: Sendable {
        /// Nil is the null reverse path of reports (`<>`).
        package let sender: EmailAddress?
        package let recipients: [EmailAddress]
        /// Complete and signed; neither dot-stuffed nor ended.
        package let message: [UInt8]
        /// The header itself holds UTF-8, so that no recipient can have it without SMTPUTF8.
        package let needsSMTPUTF8: Bool

        package init(
            sender: EmailAddress?,
            recipients: [EmailAddress],
            message: [UInt8],
            needsSMTPUTF8: Bool = false
        ) {
            self.sender = sender
            self.recipients = recipients
            self.message = message
            self.needsSMTPUTF8 = needsSMTPUTF8
        }
    }

    /// What the connection has to do, in this order.
    package enum Action: Sendable, Equatable {
        case send([UInt8])
        /// Forget every byte that was read, make a new `ReplyParser`, begin the handshake,
        /// then call `tlsEstablished` or `tlsFailed`.
        case startTLS
        /// The fate of the recipient at that index of the transaction; exactly one for each.
        case outcome(recipient: Int, Attempt)
        /// All outcomes are out. The session is ready for another transaction unless `close` follows.
        case transactionDone
        /// Flush what was sent, then close.
        case close
    }

    /// Why a session ended before its caller wanted it to.
    package struct Failure: Sendable, Hashable {
        /// Where the session stood.
        package enum Stage: String, Sendable, Hashable, Codable {
            case greeting, hello, startTLS, tlsHandshake, authentication, idle, transaction
        }

        package let stage: Stage
        /// What the failure means for recipients; in `authentication` never `bounced`.
        package let attempt: Attempt

        /// Nothing was offered to the server yet, so another host may be tried in the same breath.
        package var precedesTransaction: Bool { stage != .transaction }
    }

    /// What a server offered in its last EHLO reply.
    package struct Capabilities: Sendable, Hashable {
        package var startTLS = false
        package var pipelining = false
        package var eightBitMIME = false
        package var smtpUTF8 = false
        /// In octets; nil when the server states none, or states 0 (RFC 1870 §4).
        package var sizeMax: Int?
        package var offersSize = false
        /// Mechanisms in upper case.
        package var authentication: Set<String> = []

        package init() {}

        /// Reads the lines behind the first one (RFC 5321 §4.1.1.1).
        init(_ reply: Reply) {
            for line in reply.lines.dropFirst() {
                let words = line.uppercased().split { $0 == " " || $0 == "=" }
                switch words.first {
                case "STARTTLS": startTLS = true
                case "PIPELINING": pipelining = true
                case "8BITMIME": eightBitMIME = true
                case "SMTPUTF8": smtpUTF8 = true
                case "SIZE":
                    offersSize = true
                    sizeMax = words.dropFirst().first.flatMap { Int($0) }.flatMap { $0 > 0 ? $0 : nil }
                case "AUTH": authentication.formUnion(words.dropFirst().map(String.init))
                default: break
                }
            }
        }
    }
}
