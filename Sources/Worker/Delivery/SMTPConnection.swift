// One connection to a server: the side for every thread. Its twin on the event loop is `SMTPHandler`.

import Mail
import NIOCore
import Synchronization

/// How one transaction went.
struct TransactionResult: Sendable {
    /// One for each recipient, in order.
    let attempts: [Attempt]
    /// Those whose attempt is an answer about their address.
    let answeredByName: Set<Int>
    let transcript: Transcript
    /// `TLSv1.3`; nil in clear text.
    let tls: String?
    /// Set when the session ended with or before the transaction.
    let failure: ClientSession.Failure?
    /// What the server said after the transaction was handed in.
    let replies: Int
    /// Given up by us, before the final dot.
    let wasCancelled: Bool
    /// Whether the connection can take another transaction.
    let isReusable: Bool

    /// A kept connection had ended before the server learnt of this message.
    var isStale: Bool {
        guard failure != nil, !wasCancelled else { return false }
        return replies == 0 || replies == 1 && attempts.allSatisfy { $0.reply.code == 421 }
    }
}

/// One message on its way, the same for each connection that it is offered over.
struct Offer: Sendable {
    let transaction: ClientSession.Transaction
    /// The final dot must be written by then.
    let dotBy: NIODeadline
    /// Called on the event loop just before the final dot is written.
    let onFinalDot: (@Sendable () -> Void)?
}

/// A connection and its session; whoever took it from its site uses it alone.
final class SMTPConnection: Sendable {
    /// One transaction with what belongs to it.
    struct Order: Sendable {
        let serial: UInt64
        let offer: Offer
        let complete: @Sendable (TransactionResult) -> Void
    }

    /// The name that was looked up or configured.
    let host: String
    let site: Site
    private let loop: any EventLoop
    private let handler: NIOLoopBound<SMTPHandler>
    private let closed = Atomic<Bool>(false)
    private static let serials = Atomic<UInt64>(0)

    /// On the event loop.
    init(handler: SMTPHandler, host: String, site: Site, loop: any EventLoop) {
        self.host = host
        self.site = site
        self.loop = loop
        self.handler = NIOLoopBound(handler, eventLoop: loop)
    }

    /// Nothing more can be sent.
    var isClosed: Bool { closed.load(ordering: .acquiring) }

    func markClosed() { closed.store(true, ordering: .releasing) }

    /// Sends one message.
    ///
    /// Cancelled before the final dot, it ends the connection; past the dot it waits for the answer.
    func deliver(_ offer: Offer) async -> TransactionResult {
        let serial = Self.serials.add(1, ordering: .relaxed).newValue
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let order = Order(serial: serial, offer: offer) {
                    continuation.resume(returning: $0)
                }
                loop.execute { self.handler.value.deliver(order) }
            }
        } onCancel: {
            loop.execute { self.handler.value.cancel(serial) }
        }
    }

    /// Says QUIT and closes.
    func quit() {
        loop.execute { self.handler.value.quit() }
    }
}
