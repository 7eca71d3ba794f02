// One client: bytes in, the session's value decides, bytes out. What must be looked up or stored is done here.

import Foundation
import Logging
import Mail
import NIOCore
import Platform
import Queue
import ServiceLifecycle
import Store

/// A connection and its session.
struct SMTPConnection {
    typealias Inbound = NIOAsyncChannelInboundStream<ByteBuffer>
    typealias Outbound = NIOAsyncChannelOutboundWriter<ByteBuffer>

    private let clientAddress: String
    private let isOverloaded: Bool
    private let store: Store
    private let pusher: Pusher
    private let logger: Logger
    private var session: ServerSession
    private var decoder = LineDecoder()
    /// Inboxes of the addresses looked up in this connection; which of them a message is for, its envelope says.
    private var inboxes: [EmailAddress: InboundRecipient] = [:]
    private var message: [UInt8] = []
    private var receivedFields = ReceivedCounter()

    init(
        hostname: String,
        clientAddress: String,
        isOverloaded: Bool,
        store: Store,
        pusher: Pusher,
        logger: Logger
    ) {
        self.clientAddress = clientAddress
        self.isOverloaded = isOverloaded
        self.store = store
        self.pusher = pusher
        self.logger = logger
        session = ServerSession(dialect: .smtp, hostname: hostname)
    }

    /// Talks until either side ends it.
    mutating func run(_ inbound: Inbound, _ outbound: Outbound) async throws {
        guard !isOverloaded else { return try await send([session.overloaded()], outbound) }
        try await send([session.greeting()], outbound)
        for try await buffer in inbound {
            decoder.append(buffer.readableBytesView)
            while let event = decoder.next() {
                guard let action = act(on: event) else { continue }
                guard try await perform(action, outbound) else { return }
            }
        }
    }

    private mutating func act(on event: LineDecoder.Event) -> ServerSession.Action? {
        switch event {
        case .line(let line): return session.received(line, moreBuffered: decoder.hasBufferedBytes)
        case .fault(let fault): return session.received(fault)
        case .data(let chunk):
            receivedFields.append(chunk)
            message += chunk
            return nil
        case .dataEnd(let end): return session.dataEnded(end, receivedFields: receivedFields.count)
        }
    }

    /// Does what the session decided; false when the connection is over.
    private mutating func perform(_ action: ServerSession.Action, _ outbound: Outbound) async throws -> Bool {
        switch action {
        case .reply(let reply):
            try await send([reply], outbound)
        case .checkRecipient(let address):
            return try await perform(session.recipientChecked(await check(address)), outbound)
        case .startTLS:
            // Never offered without a certificate, and so never asked for.
            try await send([Reply.tlsUnavailable], outbound)
        case .readData(let reply):
            message = []
            receivedFields = ReceivedCounter()
            decoder.readData(sizeMax: session.limits.messageSizeMax)
            try await send([reply], outbound)
        case .accept(let envelope):
            try await send(await accept(envelope), outbound)
            (message, inboxes) = ([], [:])
            return try await goesOn(outbound)
        case .refuse(let replies):
            (message, inboxes) = ([], [:])
            try await send(replies, outbound)
            return try await goesOn(outbound)
        case .close(let reply):
            try await send([reply], outbound)
            return false
        }
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
            switch try await store.recipient(address) {
            case .inbox(let recipient):
                inboxes[address] = recipient
                return .accepted
            case .noSuchMailbox: return .unknown
            case .notOurDomain: return .notOurDomain
            }
        } catch {
            logger.warning(
                "A recipient could not be looked up; the client is asked to wait.",
                metadata: ["error": "\(error)"]
            )
            return .unavailable
        }
    }

    /// Stores the message; 250 only when it is committed, 451 for any trouble of ours.
    private mutating func accept(_ envelope: Mail.Envelope) async -> [Reply] {
        do {
            let tickets = try await store.receive(
                message,
                trace: trace(envelope),
                from: envelope.sender,
                for: recipients(of: envelope),
                clientAddress: clientAddress,
                clientName: envelope.clientName,
                tls: nil
            )
            pusher.push(tickets)
            return session.dataAccepted(as: tickets.first?.id.description ?? "again")
        } catch {
            logger.error(
                "A message could not be stored; the client is asked to try again.",
                metadata: ["error": "\(error)"]
            )
            return session.dataRefused(Reply.temporaryFailure)
        }
    }

    /// Each inbox once, though it may be named by several addresses.
    private func recipients(of envelope: Mail.Envelope) -> [InboundRecipient] {
        var seen: Set<InboxID> = []
        return envelope.recipients.compactMap { inboxes[$0] }.filter { seen.insert($0.inbox).inserted }
    }

    /// RFC 5321 §4.4: our line in the message's trace.
    private func trace(_ envelope: Mail.Envelope) -> [UInt8] {
        Trace.received(
            from: envelope.clientName,
            address: clientAddress,
            by: session.hostname,
            with: envelope.transferProtocol,
            at: Date()
        )
    }

    private func send(_ replies: [Reply], _ outbound: Outbound) async throws {
        try await outbound.write(ByteBuffer(bytes: replies.flatMap(\.bytes)))
    }
}
