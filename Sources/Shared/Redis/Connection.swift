// One connection: many tasks put commands in, the event loop writes what has gathered in one go, and replies
// are matched to waiters in order, since Redis answers in order.

import NIOCore
import Synchronization

/// Who waits for the replies of one submission.
enum Waiter: Sendable {
    /// A command of a task.
    case one(CheckedContinuation<Result<RESP, RedisError>, Never>)
    /// Several commands written side by side; called on the event loop.
    case several(Int, @Sendable (Result<[RESP], RedisError>) -> Void)

    var count: Int {
        switch self {
        case .one: 1
        case .several(let count, _): count
        }
    }

    func fail(_ error: RedisError) {
        switch self {
        case .one(let continuation): continuation.resume(returning: .failure(error))
        case .several(_, let complete): complete(.failure(error))
        }
    }
}

/// The side of a connection that every thread may use.
final class RedisConnection: Sendable {
    struct Pending: Sendable {
        let waiter: Waiter
        let bytes: Int
        let deadline: NIODeadline
    }

    private struct Outbox {
        var buffer = ByteBuffer()
        var pending: [Pending] = []
        /// Commands and bytes without a reply, whether written or still here.
        var commands = 0
        var bytes = 0
        var drainIsDue = false
        /// Set once, when nothing more can be sent.
        var closed: RedisError?
    }

    let channel: any Channel
    /// Fulfilled once the connection is of no use any more, which may be before its socket is closed.
    var ended: EventLoopFuture<Void> { endedPromise.futureResult }
    private let endedPromise: EventLoopPromise<Void>
    private let handler: NIOLoopBound<RedisHandler>
    private let outbox = Mutex(Outbox())
    private let limits: Redis.Configuration

    init(channel: any Channel, handler: RedisHandler, limits: Redis.Configuration) {
        self.channel = channel
        self.handler = NIOLoopBound(handler, eventLoop: channel.eventLoop)
        self.limits = limits
        endedPromise = channel.eventLoop.makePromise()
        handler.connection = self
    }

    /// Why the connection ended; nil while it stands.
    var closed: RedisError? { outbox.withLock { $0.closed } }

    /// Queues formatted commands; the waiter hears in any case, of a refusal at once.
    func submit(_ formatted: [UInt8], _ waiter: Waiter) {
        let pending = Pending(
            waiter: waiter,
            bytes: formatted.count,
            deadline: .now() + TimeAmount(limits.commandTimeout)
        )
        let verdict: Result<Bool, RedisError> = outbox.withLock { outbox in
            if let closed = outbox.closed { return .failure(closed) }
            guard outbox.commands + waiter.count <= limits.pendingMax,
                outbox.bytes + formatted.count <= limits.pendingBytesMax
            else { return .failure(.overloaded) }
            outbox.commands += waiter.count
            outbox.bytes += formatted.count
            outbox.buffer.writeBytes(formatted)
            outbox.pending.append(pending)
            defer { outbox.drainIsDue = true }
            return .success(!outbox.drainIsDue)
        }
        switch verdict {
        case .failure(let error): waiter.fail(error)
        case .success(false): break
        case .success(true): channel.eventLoop.execute { self.handler.value.drain() }
        }
    }

    /// Ends the connection from any thread.
    func close(because error: RedisError) {
        channel.eventLoop.execute { self.closeNow(because: error) }
    }

    /// Ends the connection; on the event loop.
    func closeNow(because error: RedisError) { handler.value.close(because: error) }

    /// Begins to ask for signs of life; on the event loop.
    func keepAlive() { handler.value.keepAlive() }

    /// Hands over what has gathered since the last time; on the event loop.
    fileprivate func takeOutbox() -> (ByteBuffer, [Pending]) {
        outbox.withLock { outbox in
            outbox.drainIsDue = false
            defer {
                outbox.buffer = ByteBuffer()
                outbox.pending = []
            }
            return (outbox.buffer, outbox.pending)
        }
    }

    fileprivate func answered(commands: Int, bytes: Int) {
        outbox.withLock { outbox in
            outbox.commands -= commands
            outbox.bytes -= bytes
        }
    }

    /// Refuses everything from now on and hands over who was still to be written.
    fileprivate func refuse(_ error: RedisError) -> [Pending] {
        endedPromise.succeed()
        return outbox.withLock { outbox in
            if outbox.closed == nil { outbox.closed = error }
            defer { outbox.pending = [] }
            return outbox.pending
        }
    }
}

/// The side of a connection that lives on its event loop.
final class RedisHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let limits: Redis.Configuration
    private let parser: ReplyParser
    /// Takes messages of a subscription, which answer no command; nil on a connection for commands.
    private let receive: (([RESP]) -> Void)?
    /// Strong, so that somebody always tells the connection that it ended; let go in `close`.
    fileprivate var connection: RedisConnection?
    private var context: ChannelHandlerContext?
    private var waiting = CircularBuffer<RedisConnection.Pending>()
    private var collected: [RESP] = []
    private var deadlineIsWatched = false

    init(limits: Redis.Configuration, receive: (([RESP]) -> Void)?) {
        self.limits = limits
        self.receive = receive
        parser = ReplyParser(replyBytesMax: limits.replyBytesMax)
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    /// Begins to ask an idle connection for signs of life.
    func keepAlive() {
        guard let context else { return }
        let interval = TimeAmount(limits.keepaliveInterval)
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        let task = context.eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in
            handler.value.pingWhenIdle()
        }
        context.channel.closeFuture.whenComplete { _ in task.cancel() }
    }

    private func pingWhenIdle() {
        guard waiting.isEmpty, let connection else { return }
        var bytes: [UInt8] = []
        appendCommand(["PING"], to: &bytes)
        // No one needs the answer; its absence is what closes the connection.
        connection.submit(bytes, .several(1) { _ in })
    }

    // MARK: Out

    func drain() {
        // Nil after `close`, which has answered everybody.
        guard let connection else { return }
        guard let context, context.channel.isActive else {
            return close(because: .away("the connection was closed"))
        }
        let (buffer, pending) = connection.takeOutbox()
        waiting.append(contentsOf: pending)
        context.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
        watchDeadline()
    }

    /// Keeps one timer for the first waiter: the others' deadlines lie behind it.
    private func watchDeadline() {
        guard !deadlineIsWatched, let first = waiting.first, let context else { return }
        deadlineIsWatched = true
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(deadline: first.deadline) { handler.value.deadlineCame() }
    }

    private func deadlineCame() {
        deadlineIsWatched = false
        let now = NIODeadline.now()
        guard let first = waiting.first, first.deadline <= now else { return watchDeadline() }
        // Whose reply comes next is in doubt from here on, so the connection goes.
        while let first = waiting.first, first.deadline <= now {
            waiting.removeFirst()
            first.waiter.fail(.timedOut)
        }
        close(because: .away("a command was not answered in time"))
    }

    // MARK: In

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        var commands = 0
        var bytes = 0
        do {
            try buffer.withUnsafeReadableBytes { raw in
                try parser.feed(raw) { reply in
                    if let receive, case .array(let elements) = reply, elements.first == Self.message {
                        return receive(elements)
                    }
                    try answer(with: reply, &commands, &bytes)
                }
            }
        } catch {
            close(because: .away("\(error)"))
        }
        if commands > 0 { connection?.answered(commands: commands, bytes: bytes) }
    }

    private static let message = RESP.string([UInt8]("message".utf8))

    private func answer(with reply: RESP, _ commands: inout Int, _ bytes: inout Int) throws {
        guard let first = waiting.first else {
            // As when the limit of connections is reached: an error before any question.
            throw ProtocolFault(description: reply.unasked)
        }
        switch first.waiter {
        case .one(let continuation):
            waiting.removeFirst()
            continuation.resume(returning: .success(reply))
        case .several(let count, let complete):
            collected.append(reply)
            guard collected.count == count else { return }
            waiting.removeFirst()
            let replies = collected
            collected = []
            complete(.success(replies))
        }
        commands += first.waiter.count
        bytes += first.bytes
    }

    // MARK: End

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        close(because: .away("\(error)"))
    }

    func channelInactive(context: ChannelHandlerContext) {
        close(because: .away("the connection was closed"))
        context.fireChannelInactive()
    }

    func close(because error: RedisError) {
        guard let connection else { return }
        self.connection = nil
        let unwritten = connection.refuse(error)
        let unanswered = waiting
        waiting.removeAll()
        for entry in unanswered { entry.waiter.fail(error) }
        for entry in unwritten { entry.waiter.fail(error) }
        context?.close(promise: nil)
    }
}

extension RESP {
    fileprivate var unasked: String {
        if case .error(let message) = self { message } else { "a reply came that nobody had asked for" }
    }
}
