// Listens for SMTP clients and runs one connection each, as many as it is allowed to.

import Foundation
import Logging
import NIOCore
import NIOPosix
import Platform
import Queue
import ServiceLifecycle
import Store
import Synchronization

/// The SMTP port.
final class SMTPListener: Service {
    struct Configuration: Sendable {
        let listen: HostPort
        /// Our name in the banner and in Received fields.
        let hostname: String
        /// Connections at a time; more hear 421.
        let connectionsMax: Int
        /// A client that says nothing for this long hears 421.
        let idleTimeout: Duration

        init(reading settings: inout Settings) {
            listen = HostPort(
                host: settings.text("COMMUNE_SMTP_HOST") ?? "0.0.0.0",
                port: settings.integer("COMMUNE_SMTP_PORT", in: 1...65_535, default: 25)
            )
            hostname = settings.text("COMMUNE_MAIL_HOST") ?? ProcessInfo.processInfo.hostName
            connectionsMax = settings.integer("COMMUNE_SMTP_CONNECTIONS", in: 1...100_000, default: 2_000)
            idleTimeout = settings.seconds("COMMUNE_SMTP_IDLE_SECONDS", in: 1...3600, default: .seconds(300))
        }
    }

    private let configuration: Configuration
    private let store: Store
    private let pusher: Pusher
    private let logger: Logger
    private let open = Atomic<Int>(0)

    init(_ configuration: Configuration, store: Store, pusher: Pusher, logger: Logger) {
        self.configuration = configuration
        self.store = store
        self.pusher = pusher
        self.logger = logger
    }

    func run() async throws {
        let server = try await bind()
        logger.notice("Listening.", metadata: ["address": "\(configuration.listen)"])
        try await withGracefulShutdownHandler {
            try await withThrowingDiscardingTaskGroup { group in
                try await server.executeThenClose { clients in
                    for try await client in clients {
                        group.addTask { await self.serve(client) }
                    }
                }
            }
        } onGracefulShutdown: {
            server.channel.close(promise: nil)
        }
    }

    private typealias Client = NIOAsyncChannel<ByteBuffer, ByteBuffer>

    private func bind() async throws -> NIOAsyncChannel<Client, Never> {
        let idle = TimeAmount.nanoseconds(configuration.idleTimeout.microseconds * 1000)
        return try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .bind(host: configuration.listen.host, port: configuration.listen.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(IdleStateHandler(allTimeout: idle))
                    try channel.pipeline.syncOperations.addHandler(IdleClients())
                    return try Client(wrappingChannelSynchronously: channel)
                }
            }
    }

    private func serve(_ client: Client) async {
        let count = open.add(1, ordering: .relaxed).newValue
        defer { open.subtract(1, ordering: .relaxed) }
        let address = client.channel.remoteAddress?.ipAddress ?? "unknown"
        var connection = SMTPConnection(
            hostname: configuration.hostname,
            clientAddress: address,
            isOverloaded: count > configuration.connectionsMax,
            store: store,
            pusher: pusher,
            logger: logger
        )
        do {
            try await client.executeThenClose { inbound, outbound in
                try await connection.run(inbound, outbound)
            }
        } catch {
            // Clients go away in the middle of anything; what was not committed they send again.
            logger.debug("A connection broke off.", metadata: ["client": "\(address)", "error": "\(error)"])
        }
    }
}

/// Says goodbye to clients that have been silent for too long.
private final class IdleClients: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundOut = ByteBuffer

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is IdleStateHandler.IdleStateEvent else {
            context.fireUserInboundEventTriggered(event)
            return
        }
        let goodbye = ByteBuffer(bytes: SMTPConnection.idleGoodbye)
        context.writeAndFlush(wrapOutboundOut(goodbye), promise: nil)
        context.close(promise: nil)
    }
}
