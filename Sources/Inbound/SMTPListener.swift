// Listens for SMTP clients and runs one connection each, as many as it is allowed to.

import Foundation
import Logging
import Mail
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
            let name = settings.text("COMMUNE_MAIL_HOST")
            if let name, (try? DomainName(name)) == nil {
                settings.fault("COMMUNE_MAIL_HOST", "must be a host name such as mail.example.com.")
            }
            hostname = name ?? ProcessInfo.processInfo.hostName
            connectionsMax = settings.integer("COMMUNE_SMTP_CONNECTIONS", in: 1...100_000, default: 2_000)
            idleTimeout = settings.seconds("COMMUNE_SMTP_IDLE_SECONDS", in: 1...3600, default: .seconds(300))
        }
    }

    private let configuration: Configuration
    private let store: Store
    private let pusher: Pusher
    private let logger: Logger
    /// At shutdown a client has this long to end what it is in the middle of.
    private static let grace = TimeAmount.seconds(5)

    private let clients = Mutex<[ObjectIdentifier: any Channel]>([:])

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
            self.sayGoodbye()
        }
    }

    /// Clients that wait for nothing must not hold the end up until they are idle for too long.
    private func sayGoodbye() {
        for client in clients.withLock({ Array($0.values) }) {
            client.eventLoop.scheduleTask(in: Self.grace) {
                client.pipeline.fireUserInboundEventTriggered(ShuttingDown())
            }
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
                    try channel.pipeline.syncOperations.addHandler(Goodbyes())
                    return try Client(wrappingChannelSynchronously: channel)
                }
            }
    }

    private func serve(_ client: Client) async {
        let key = ObjectIdentifier(client.channel)
        let count = clients.withLock { clients in
            clients[key] = client.channel
            return clients.count
        }
        defer { clients.withLock { $0[key] = nil } }
        let address = client.channel.remoteAddress?.ipAddress ?? "unknown"
        var connection = SMTPConnection(
            hostname: configuration.hostname,
            clientAddress: address,
            isOverloaded: count > configuration.connectionsMax || Task.isShuttingDownGracefully,
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

/// Told to the pipelines of clients that are still here at shutdown.
private struct ShuttingDown: Sendable {}

/// Says goodbye to clients that have been silent for too long, and at shutdown to all.
private final class Goodbyes: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundOut = ByteBuffer

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        let goodbye: Reply
        switch event {
        case is IdleStateHandler.IdleStateEvent: goodbye = Reply.idleTooLong
        case is ShuttingDown: goodbye = Reply.shuttingDown
        default: return context.fireUserInboundEventTriggered(event)
        }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: goodbye.bytes)), promise: nil)
        context.close(promise: nil)
    }
}
