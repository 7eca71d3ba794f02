// The event loop's side of a connection: drives the `ClientSession` value, owns its bytes and its one alarm.

import Mail
import NIOCore
import NIOSSL
import NIOTLS

/// Does what the session says, on the channel's event loop and nowhere else.
final class SMTPHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// What the handler is told when it is made.
    struct Plan: Sendable {
        var session: ClientSession.Configuration
        /// Nil means no TLS at all.
        var tls: NIOSSLContext?
        /// For SNI and the certificate; nil when the server is named by its address.
        var tlsName: String?
        /// How long a connection is kept without work.
        var idle: Duration
        /// Transactions before the connection is closed.
        var transactionsMax: Int
        var clock: any DeliveryClock
    }

    /// A transaction under way and what is known of it.
    private struct Exchange {
        let order: SMTPConnection.Order
        var attempts: [Attempt?]
        var replies = 0
        var isPastDot = false
        var wasCancelled = false
        var isDone = false
    }

    /// The rest of a message that the socket has not taken yet.
    private struct Outgoing {
        let bytes: [UInt8]
        var sent = 0
    }

    /// A longer message is written piece by piece, each when the socket took the one before.
    static let pieceOctets = 128 * 1024

    private let plan: Plan
    private var session: ClientSession
    private var parser = ReplyParser()
    private var context: ChannelHandlerContext?
    private var tlsHandler: NIOSSLClientHandler?
    private var tlsVersion: String?
    private var isHandshaking = false
    private var exchange: Exchange?
    private var outgoing: Outgoing?
    /// Half a message was written: nothing else can follow.
    private var isSpoilt = false
    private var transactions = 0
    private var cancelledSerial: UInt64?
    private var alarm: Alarm?
    /// Asks whether an idle connection may say goodbye; false when somebody took it just now.
    var idled: (() -> Bool)?
    /// Called once, when nothing more can be sent.
    var ended: (() -> Void)?
    private(set) var hasEnded = false

    init(_ plan: Plan) {
        self.plan = plan
        session = ClientSession(plan.session)
    }

    // MARK: From other threads

    func deliver(_ order: SMTPConnection.Order) {
        let attempts = [Attempt?](repeating: nil, count: order.offer.transaction.recipients.count)
        exchange = Exchange(order: order, attempts: attempts)
        transactions += 1
        if cancelledSerial == order.serial {
            exchange?.wasCancelled = true
            complete()
            return
        }
        let actions = session.deliver(order.offer.transaction)
        // Handed in early, it waits for the session to be ready: the server gets no more time for that.
        if !actions.isEmpty { perform(actions) }
    }

    func cancel(_ serial: UInt64) {
        guard let current = exchange, current.order.serial == serial else {
            cancelledSerial = serial
            return
        }
        // Past the dot the server may have the message: only its answer tells.
        guard !current.isPastDot else { return }
        exchange?.wasCancelled = true
        outgoing = nil
        perform(
            session.connectionLost(
                "Given up before the message was complete: the worker is stopping",
                finalDotWritten: false
            )
        )
    }

    func quit() { perform(session.quit()) }

    // MARK: From the channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        alarm = Alarm(clock: plan.clock, loop: context.eventLoop) { [weak self] in self?.expired() }
        if context.channel.isActive { begin() }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        end()
    }

    func channelActive(context: ChannelHandlerContext) {
        begin()
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        guard !session.isClosed else { return }
        let replies: [Reply]
        do throws(ReplyFault) {
            replies = try parser.append(buffer.readableBytesView)
        } catch {
            perform(lost { session.malformed(error) })
            return
        }
        for (index, reply) in replies.enumerated() {
            let wasHandshaking = isHandshaking
            received(reply, isLast: index == replies.count - 1)
            // RFC 3207 §4.2 and CVE-2021-38371: what stands behind the answer to STARTTLS is an attacker's.
            if isHandshaking, !wasHandshaking { return }
            if session.isClosed { return }
        }
        guard parser.isFaulted else { return }
        do throws(ReplyFault) {
            _ = try parser.append([])
        } catch {
            perform(lost { session.malformed(error) })
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted? = event as? TLSUserEvent {
            isHandshaking = false
            tlsVersion = tlsHandler?.tlsVersion.map(Self.name)
            // With implicit TLS the session begins here.
            perform(plan.session.isEncryptedFromStart ? session.start() : session.tlsEstablished())
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if isHandshaking {
            perform(session.tlsFailed(NetworkFault.description(of: error)))
        } else if !session.isClosed {
            perform(
                lost {
                    session.connectionLost(
                        NetworkFault.description(of: error),
                        finalDotWritten: outgoing == nil
                    )
                }
            )
        }
        closeChannel()
    }

    func channelInactive(context: ChannelHandlerContext) {
        if isHandshaking {
            perform(session.tlsFailed("the server closed the connection"))
        } else {
            perform(
                lost {
                    session.connectionLost(
                        "The server closed the connection",
                        finalDotWritten: outgoing == nil
                    )
                }
            )
        }
        end()
        context.fireChannelInactive()
    }

    // MARK: Doing what the session says

    private func begin() {
        guard plan.session.isEncryptedFromStart else {
            perform(session.start())
            return
        }
        startTLS()
    }

    private func received(_ reply: Reply, isLast: Bool) {
        exchange?.replies += 1
        if reply.isIntermediate, !isLast {
            // It asks for something and does not wait for it: whatever follows cannot be an answer.
            perform(lost { session.connectionLost("The server replied out of turn", finalDotWritten: false) })
        } else if outgoing != nil {
            receivedEarly(reply)
        } else {
            perform(session.received(reply))
        }
    }

    // A refusal before the final dot counts; an acceptance of half a message does not.
    private func receivedEarly(_ reply: Reply) {
        outgoing = nil
        let reason = "The server replied before the message was complete"
        if reply.isPositive || reply.isIntermediate {
            perform(session.connectionLost(reason, finalDotWritten: false))
        } else {
            isSpoilt = true
            perform(session.received(reply))
            perform(session.connectionLost(reason, finalDotWritten: false))
        }
    }

    private func lost(_ actions: () -> [ClientSession.Action]) -> [ClientSession.Action] {
        defer { outgoing = nil }
        return actions()
    }

    private func perform(_ actions: [ClientSession.Action]) {
        var closes = false
        var index = 0
        while index < actions.count {
            switch actions[index] {
            case .send(let bytes):
                // A message and its dot leave together; a dot alone ends data that nobody shall have.
                if index + 1 < actions.count, actions[index + 1] == .send(TransparencyEncoder.endOfData) {
                    writeMessage(bytes)
                    index += 1
                } else {
                    write(bytes)
                }
            case .startTLS: startTLS()
            case .outcome(let recipient, let attempt): exchange?.attempts[recipient] = attempt
            case .transactionDone: exchange?.isDone = true
            case .close: closes = true
            }
            index += 1
        }
        // Before the flush: a peer's answer must never be quicker than its deadline.
        setDeadline()
        context?.flush()
        if closes {
            end()
            // What was flushed is with the kernel; a peer that does not read must not keep us here.
            closeChannel()
        }
        if exchange?.isDone == true { complete() }
    }

    private func complete() {
        guard let done = exchange else { return }
        exchange = nil
        let isReusable = session.isIdle && !isSpoilt && transactions < plan.transactionsMax
        let missing = Attempt.deferred(.paced("The worker is stopping"))
        done.order.complete(
            TransactionResult(
                attempts: done.attempts.map { $0 ?? missing },
                answeredByName: session.answeredByName,
                transcript: session.transcript,
                tls: tlsVersion,
                failure: session.failure,
                replies: done.replies,
                wasCancelled: done.wasCancelled,
                isReusable: isReusable
            )
        )
    }

    // MARK: Writing

    private func write(_ bytes: [UInt8]) {
        guard let context else { return }
        context.write(wrapOutboundOut(context.channel.allocator.buffer(bytes: bytes)), promise: nil)
    }

    private func writeMessage(_ bytes: [UInt8]) {
        guard let context else { return }
        guard bytes.count > Self.pieceOctets else {
            passFinalDot()
            var buffer = context.channel.allocator.buffer(capacity: bytes.count + 3)
            buffer.writeBytes(bytes)
            buffer.writeBytes(TransparencyEncoder.endOfData)
            context.write(wrapOutboundOut(buffer), promise: nil)
            return
        }
        outgoing = Outgoing(bytes: bytes)
        writePiece()
    }

    private func writePiece() {
        guard let context, let rest = outgoing else { return }
        let end = min(rest.sent + Self.pieceOctets, rest.bytes.count)
        var buffer = context.channel.allocator.buffer(capacity: end - rest.sent + 3)
        buffer.writeBytes(rest.bytes[rest.sent..<end])
        if end == rest.bytes.count {
            passFinalDot()
            buffer.writeBytes(TransparencyEncoder.endOfData)
        }
        outgoing?.sent = end
        let written = context.eventLoop.makePromise(of: Void.self)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        written.futureResult.whenSuccess { bound.value.pieceWritten() }
        context.writeAndFlush(wrapOutboundOut(buffer), promise: written)
    }

    private func pieceWritten() {
        guard let rest = outgoing else { return }
        if rest.sent == rest.bytes.count {
            // The server has it all; from now on its answer is awaited.
            outgoing = nil
        }
        setDeadline()
        writePiece()
    }

    private func passFinalDot() {
        exchange?.isPastDot = true
        exchange?.order.offer.onFinalDot?()
    }

    // MARK: TLS

    private func startTLS() {
        parser = ReplyParser()
        isHandshaking = true
        // Adding the handler sends the first message.
        setDeadline()
        guard let context, let tls = plan.tls else {
            failTLS("TLS is not configured")
            return
        }
        do {
            let handler = try makeTLSHandler(tls)
            tlsHandler = handler
            try context.pipeline.syncOperations.addHandler(handler, position: .first)
        } catch {
            failTLS(NetworkFault.description(of: error))
        }
    }

    // Some names of hosts (with an underscore, say) are none for TLS; unverified, the name is but a hint.
    private func makeTLSHandler(_ tls: NIOSSLContext) throws -> NIOSSLClientHandler {
        do {
            return try NIOSSLClientHandler(context: tls, serverHostname: plan.tlsName)
        } catch  where plan.session.tls != .required {
            return try NIOSSLClientHandler(context: tls, serverHostname: nil)
        }
    }

    private func failTLS(_ reason: String) {
        isHandshaking = false
        perform(session.tlsFailed(reason))
    }

    private static func name(_ version: TLSVersion) -> String {
        switch version {
        case .tlsv1: "TLSv1"
        case .tlsv11: "TLSv1.1"
        case .tlsv12: "TLSv1.2"
        case .tlsv13: "TLSv1.3"
        }
    }

    // MARK: Time

    private var timeout: Duration? {
        if outgoing != nil { return plan.session.timeouts.dataBlock }
        if isHandshaking { return plan.session.timeouts.tlsHandshake }
        if let timeout = session.timeout { return timeout }
        return session.isIdle && exchange == nil || exchange?.isDone == true ? plan.idle : nil
    }

    // What the reply may take, and what is left of the try.
    private func setDeadline() {
        var time = session.isClosed ? nil : timeout
        if let exchange, !exchange.isPastDot, !exchange.isDone {
            time = time.map { min($0, plan.clock.now.distance(to: exchange.order.offer.dotBy)) }
        }
        alarm?.set(time)
    }

    private func expired() {
        if let exchange, !exchange.isPastDot, plan.clock.now >= exchange.order.offer.dotBy {
            perform(
                lost { session.connectionLost("The server took too long in all", finalDotWritten: false) }
            )
        } else if isHandshaking {
            perform(session.tlsFailed("timed out"))
        } else if outgoing != nil {
            let reason = "The server stopped reading the message"
            perform(lost { session.connectionLost(reason, finalDotWritten: false) })
        } else if session.isIdle {
            if idled?() != false { quit() }
        } else {
            perform(session.timedOut())
        }
    }

    // MARK: The end

    private func closeChannel() {
        guard let context else { return }
        guard let tlsHandler, tlsVersion == nil,
            let below = try? context.pipeline.syncOperations.context(handler: tlsHandler)
        else {
            context.close(promise: nil)
            return
        }
        // An unfinished handshake cannot be ended politely, and the attempt to do so would wait for the peer.
        below.close(promise: nil)
    }

    private func end() {
        guard !hasEnded else { return }
        hasEnded = true
        alarm?.stop()
        ended?()
        ended = nil
        idled = nil
    }
}
