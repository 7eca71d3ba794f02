// One client: bytes in, the session's value decides, bytes out. What must be looked up or stored is done here.

import DNS
import Foundation
import Logging
import Mail
import NIOCore
import NIOSSL
import Platform
import Queue
import ServiceLifecycle
import Store

/// A connection and its session.
struct SMTPConnection {
    typealias Inbound = NIOAsyncChannelInboundStream<ByteBuffer>
    typealias Outbound = NIOAsyncChannelOutboundWriter<ByteBuffer>

    /// A message that takes longer is no message.
    private static let messageTime = TimeAmount.hours(1)

    private let channel: any Channel
    private let dialect: ServerSession.Dialect
    private let reception: Reception
    private let turn: Turn
    private let hasRoom: Bool
    /// The client's address, as the proxy says it where there is one.
    private(set) var clientAddress: String
    private var session: ServerSession
    private var decoder = LineDecoder()
    /// Bytes taken from the stream since the last handshake.
    private var consumed = 0
    /// What was found for the recipients of the message under way.
    private var destinations: [EmailAddress: MailDestination] = [:]
    private var message: IncomingMessage?

    init(
        _ channel: any Channel,
        _ dialect: ServerSession.Dialect,
        _ reception: Reception,
        _ turn: Turn,
        hasRoom: Bool
    ) {
        self.channel = channel
        self.dialect = dialect
        self.reception = reception
        self.turn = turn
        self.hasRoom = hasRoom
        clientAddress = channel.remoteAddress?.ipAddress ?? "unknown"
        session = ServerSession(
            dialect: dialect,
            hostname: reception.hostname,
            offersTLS: reception.certificates != nil
        )
    }

    /// Talks until either side ends it.
    mutating func run(_ inbound: Inbound, _ outbound: Outbound) async throws {
        var stream = inbound.makeAsyncIterator()
        guard try await hearProxy(&stream) else { return }
        guard hasRoom else { return try await send([session.overloaded()], outbound) }
        let client = IPAddress(clientAddress)
        guard reception.clients.admit(client) else {
            return try await send([Reply.tooManyConnections], outbound)
        }
        defer { reception.clients.release(client) }
        if try await hasTalkedEarly() {
            _ = try await perform(session.talkedEarly(), outbound)
            return
        }
        try await send([session.greeting()], outbound)
        while let buffer = try await stream.next(isolation: #isolation) {
            take(buffer)
            while let event = decoder.next() {
                session.isOverloaded = reception.load.isOverloaded
                guard let action = await act(on: event) else { continue }
                guard try await perform(action, outbound) else { return }
            }
        }
    }

    private mutating func take(_ buffer: ByteBuffer) {
        consumed += buffer.readableBytes
        decoder.append(buffer.readableBytesView)
    }

    /// Reads the PROXY header of a connection that comes from a proxy of ours; false when it has none.
    private mutating func hearProxy(_ stream: inout Inbound.AsyncIterator) async throws -> Bool {
        guard let peer = IPAddress(clientAddress), reception.proxies.contains(where: { $0.contains(peer) })
        else { return true }
        var bytes: [UInt8] = []
        while true {
            switch ProxyHeader.read(bytes) {
            case .needsMore: break
            case .malformed:
                reception.logger.warning(
                    "A connection from a proxy without a PROXY header was closed.",
                    metadata: ["proxy": "\(clientAddress)"]
                )
                return false
            case .header(let header):
                if let client = header.client { clientAddress = client.description }
                consumed = bytes.count
                decoder.append(bytes[header.length...])
                return true
            }
            guard let buffer = try await stream.next(isolation: #isolation) else { return false }
            bytes += buffer.readableBytesView
        }
    }

    /// RFC 5321 §4.3.1: a client waits for the greeting.
    ///
    /// Who does not is a program that hears nothing at all. LMTP clients are our own neighbours.
    private func hasTalkedEarly() async throws -> Bool {
        if dialect == .smtp, reception.greetingDelay > .zero {
            try await Task.sleep(for: reception.greetingDelay)
        }
        if decoder.hasBufferedBytes { return true }
        return try await Wire.received(on: channel) > consumed
    }

    private mutating func act(on event: LineDecoder.Event) async -> ServerSession.Action? {
        switch event {
        case .line(let line): return session.received(line, moreBuffered: decoder.hasBufferedBytes)
        case .fault(let fault): return session.received(fault)
        case .data(let chunk):
            // Not a byte now and then: that is no message, and holds a place.
            turn.clients()
            await message?.append(chunk)
            return nil
        case .dataEnd(let end):
            turn.messageEnded()
            return session.dataEnded(end, receivedFields: message?.receivedFields ?? 0)
        }
    }

    /// Does what the session decided; false when the connection is over.
    private mutating func perform(_ action: ServerSession.Action, _ outbound: Outbound) async throws -> Bool {
        switch action {
        case .reply(let reply):
            try await send([reply], outbound)
        case .checkRecipient(let address):
            turn.ours()
            return try await perform(session.recipientChecked(await check(address)), outbound)
        case .startTLS(let reply):
            return try await startTLS(reply, outbound)
        case .readData(let reply):
            message = IncomingMessage(trace: trace(), folder: reception.spoolFolder)
            decoder.readData(sizeMax: session.limits.messageSizeMax)
            turn.messageBegins(Self.messageTime)
            try await send([reply], outbound)
        case .accept(let envelope):
            turn.ours()
            let replies = await accept(envelope)
            (message, destinations) = (nil, [:])
            try await send(replies, outbound)
            return try await goesOn(outbound)
        case .refuse(let replies):
            (message, destinations) = (nil, [:])
            try await send(replies, outbound)
            return try await goesOn(outbound)
        case .close(let reply):
            try await send([reply], outbound)
            return false
        }
        return true
    }

    /// RFC 3207 §4: nothing that was said before the handshake counts after it.
    private mutating func startTLS(_ reply: Reply, _ outbound: Outbound) async throws -> Bool {
        guard let context = reception.certificates?.context else {
            try await send([Reply.tlsUnavailable], outbound)
            return true
        }
        guard try await Wire.startTLS(on: channel, reply, with: context, consumed: consumed) else {
            try await send([Reply.tlsInjection], outbound)
            return false
        }
        session.tlsStarted()
        decoder = LineDecoder()
        destinations = [:]
        return true
    }

    /// Between two messages is the time to part at shutdown.
    private func goesOn(_ outbound: Outbound) async throws -> Bool {
        guard Task.isShuttingDownGracefully else { return true }
        try await send([Reply.shuttingDown], outbound)
        return false
    }

    private mutating func check(_ address: EmailAddress) async -> ServerSession.RecipientVerdict {
        do {
            switch try await reception.store.recipient(address, mailHost: reception.hostname) {
            case .found(let destination):
                // What an earlier transaction of this session asked for is of no use any more.
                if session.envelope?.recipients.isEmpty == true { destinations = [:] }
                destinations[address] = destination
                return .accepted
            case .inactive: return .disabled
            case .noSuchMailbox: return .unknown
            case .notOurDomain: return .notOurDomain
            }
        } catch {
            reception.logger.warning(
                "A recipient could not be looked up; the client is asked to wait.",
                metadata: ["error": "\(error)"]
            )
            return .unavailable
        }
    }

    /// Stores the message; 250 only when it is committed, 451 or 452 for any trouble of ours.
    private mutating func accept(_ envelope: Mail.Envelope) async -> [Reply] {
        do {
            guard let content = try await message?.finished() else {
                return session.dataRefused(Reply.temporaryFailure)
            }
            let tickets = try await reception.intake.receive(
                InboundMail(
                    from: envelope.sender,
                    for: destinations(of: envelope),
                    content,
                    clientAddress: clientAddress,
                    clientName: envelope.clientName,
                    tls: await tlsVersion()
                )
            )
            reception.pusher.push(tickets)
            return session.dataAccepted(as: tickets.first?.id.description ?? "kept")
        } catch {
            reception.logger.error(
                "A message could not be stored; the client is asked to try again.",
                metadata: ["error": "\(error)"]
            )
            return session.dataRefused(IncomingMessage.refusal(of: error))
        }
    }

    /// Such as `TLSv1.3`; nil in clear text.
    private func tlsVersion() async -> String? {
        guard session.isEncrypted else { return nil }
        // The channel may be gone; the message counts all the same.
        return switch try? await channel.nioSSL_tlsVersion().get() {
        case .tlsv12?: "TLSv1.2"
        case .tlsv13?: "TLSv1.3"
        default: "TLS"
        }
    }

    /// Each inbox once, though it may be named by several addresses.
    private func destinations(of envelope: Mail.Envelope) -> [MailDestination] {
        var inboxes: Set<InboxID> = []
        var addresses: Set<EmailAddress> = []
        return envelope.recipients.filter { addresses.insert($0).inserted }.compactMap { destinations[$0] }
            .filter {
                if case .inbox(let recipient) = $0 { inboxes.insert(recipient.inbox).inserted } else { true }
            }
    }

    /// RFC 5321 §4.4: our line in the message's trace.
    private func trace() -> [UInt8] {
        guard let envelope = session.envelope else { return [] }
        return Trace.received(
            from: envelope.clientName,
            address: clientAddress,
            by: session.hostname,
            with: envelope.transferProtocol,
            at: Date()
        )
    }

    private func send(_ replies: [Reply], _ outbound: Outbound) async throws {
        turn.clients()
        try await outbound.write(ByteBuffer(bytes: replies.flatMap(\.bytes)))
    }
}
