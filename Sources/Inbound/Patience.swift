// How long a silent client is waited for: five minutes as RFC 5321 §4.5.3.2.7 asks, ten seconds while the machine has
// too much to do. What counts is a whole command or some of a message, not a byte now and then; and while we look
// something up or store it, nobody is late.

import Mail
import NIOCore
import Synchronization

/// Whose turn it is in one conversation; written by the connection, read by its `Patience`.
final class Turn: Sendable {
    private struct State {
        /// Since when the client owes us something; nil while we owe it an answer.
        var since: NIODeadline? = .now()
        /// When the message that is being read must have ended.
        var messageEnds: NIODeadline?
    }

    private let state = Mutex(State())

    /// The client's, from now on.
    func clients() { state.withLock { $0.since = .now() } }

    /// Ours: what we wait for has time limits of its own.
    func ours() { state.withLock { $0.since = nil } }

    /// A message begins, and must end within this time.
    func messageBegins(_ limit: TimeAmount) { state.withLock { $0.messageEnds = .now() + limit } }

    /// The message has ended.
    func messageEnded() { state.withLock { $0.messageEnds = nil } }

    /// Whether the client has kept us waiting for longer than this.
    func isOver(after limit: TimeAmount) -> Bool {
        state.withLock { state in
            guard let since = state.since else { return false }
            let now = NIODeadline.now()
            return now - since >= limit || state.messageEnds.map { now >= $0 } == true
        }
    }
}

/// Told to the pipelines of clients that are still here at shutdown.
struct ShuttingDown: Sendable {}

/// Says goodbye to clients that have been silent for too long, and at shutdown to all.
///
/// Belongs to the channel's event loop.
final class Patience: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundOut = ByteBuffer

    struct Limits: Sendable {
        var idle: TimeAmount
        var idleOverloaded: TimeAmount
    }

    private let limits: Limits
    private let load: Load
    private let turn: Turn
    private var timer: RepeatedTask?

    init(_ limits: Limits, _ load: Load, _ turn: Turn) {
        self.limits = limits
        self.load = load
        self.turn = turn
    }

    func channelActive(context: ChannelHandlerContext) {
        let every = TimeAmount.nanoseconds(min(limits.idle, limits.idleOverloaded).nanoseconds / 4)
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleRepeatedTask(initialDelay: every, delay: every) { _ in
            let (patience, context) = bound.value
            patience.look(context)
        }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        timer = nil
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ShuttingDown { return part(context, Reply.shuttingDown) }
        context.fireUserInboundEventTriggered(event)
    }

    private func look(_ context: ChannelHandlerContext) {
        if turn.isOver(after: load.isOverloaded ? limits.idleOverloaded : limits.idle) {
            part(context, Reply.idleTooLong)
        }
    }

    private func part(_ context: ChannelHandlerContext, _ goodbye: Reply) {
        timer?.cancel()
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: goodbye.bytes)), promise: nil)
        context.close(promise: nil)
    }
}
