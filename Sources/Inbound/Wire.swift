// The clear-text end of a connection's pipeline: it counts what came in, so that STARTTLS can tell that nothing was
// smuggled in front of the handshake (CVE-2011-0411 and its family).

import Mail
import NIOCore
import NIOSSL

/// Counts bytes on their way in, and starts TLS in front of itself.
///
/// Belongs to the channel's event loop.
final class Wire: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private var received = 0
    private var context: ChannelHandlerContext?

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        received += unwrapInboundIn(data).readableBytes
        context.fireChannelRead(data)
    }

    /// Sends `reply` and begins the handshake, if the client has said nothing beyond the `consumed` bytes.
    ///
    /// In one turn of the event loop: whatever is read after it is TLS. False when there was more, and nothing was sent.
    static func startTLS(
        on channel: any Channel,
        _ reply: Reply,
        with tls: NIOSSLContext,
        consumed: Int
    ) async throws -> Bool {
        try await channel.eventLoop.submit {
            let pipeline = channel.pipeline.syncOperations
            let wire = try pipeline.handler(type: Wire.self)
            guard wire.received == consumed, let context = wire.context else { return false }
            context.writeAndFlush(wire.wrapOutboundOut(ByteBuffer(bytes: reply.bytes)), promise: nil)
            try pipeline.addHandler(NIOSSLServerHandler(context: tls), position: .first)
            return true
        }.get()
    }

    /// Bytes that the client has said so far.
    static func received(on channel: any Channel) async throws -> Int {
        try await channel.eventLoop.submit {
            try channel.pipeline.syncOperations.handler(type: Wire.self).received
        }.get()
    }
}
