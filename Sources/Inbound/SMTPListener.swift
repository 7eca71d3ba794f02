// Listens for SMTP or LMTP clients and runs one connection each, as many as it is allowed to.

import Logging
import Mail
import NIOCore
import NIOPosix
import Platform
import ServiceLifecycle
import Synchronization

/// One port, SMTP or LMTP.
final class SMTPListener: Service {
    /// A client's connection, and whose turn it is.
    private struct Client: Sendable {
        let channel: NIOAsyncChannel<ByteBuffer, ByteBuffer>
        let turn: Turn
    }

    /// At shutdown a client has this long to end what it is in the middle of.
    private static let grace = TimeAmount.seconds(5)

    private let listen: HostPort
    private let dialect: ServerSession.Dialect
    private let reception: Reception
    private let clients = Mutex<[ObjectIdentifier: any Channel]>([:])

    init(_ listen: HostPort, _ dialect: ServerSession.Dialect, _ reception: Reception) {
        self.listen = listen
        self.dialect = dialect
        self.reception = reception
    }

    func run() async throws {
        let server = try await bind()
        reception.logger.notice("Listening.", metadata: ["address": "\(listen)", "protocol": "\(dialect)"])
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

    private func bind() async throws -> NIOAsyncChannel<Client, Never> {
        let (patience, load) = (reception.patience, reception.load)
        return try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            // Thousands may send at once: what is read ahead for each is little.
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(minimum: 512, initial: 1024, maximum: 32 * 1024)
            )
            .bind(host: listen.host, port: listen.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    let turn = Turn()
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(Wire())
                    try pipeline.addHandler(Patience(patience, load, turn))
                    let configuration = NIOAsyncChannel<ByteBuffer, ByteBuffer>.Configuration(
                        backPressureStrategy: .init(lowWatermark: 1, highWatermark: 2)
                    )
                    return Client(
                        channel: try NIOAsyncChannel(
                            wrappingChannelSynchronously: channel,
                            configuration: configuration
                        ),
                        turn: turn
                    )
                }
            }
    }

    private func serve(_ client: Client) async {
        let channel = client.channel.channel
        clients.withLock { $0[ObjectIdentifier(channel)] = channel }
        defer { _ = clients.withLock { $0.removeValue(forKey: ObjectIdentifier(channel)) } }
        let hasRoom = reception.load.admit() && !Task.isShuttingDownGracefully
        defer { reception.load.release() }
        var connection = SMTPConnection(channel, dialect, reception, client.turn, hasRoom: hasRoom)
        do {
            try await client.channel.executeThenClose { inbound, outbound in
                try await connection.run(inbound, outbound)
            }
        } catch {
            // Clients go away in the middle of anything; what was not committed they send again.
            reception.logger.debug(
                "A connection broke off.",
                metadata: ["client": "\(connection.clientAddress)", "error": "\(error)"]
            )
        }
    }
}
