// Making a connection ready: TCP, TLS, AUTH, SELECT, and a PING that must be answered.

import NIOCore
import NIOPosix
import NIOSSL

extension RedisConnection {
    /// Connects within `connectTimeout`.
    ///
    /// `receive` makes it a connection for subscriptions.
    static func open(
        _ configuration: Redis.Configuration,
        on loop: any EventLoop,
        receive: (@Sendable ([RESP]) -> Void)? = nil
    ) -> EventLoopFuture<RedisConnection> {
        let timeout = TimeAmount(configuration.connectTimeout)
        let connected = ClientBootstrap(group: loop)
            .connectTimeout(timeout)
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let tls = configuration.tls {
                        try pipeline.addHandler(tlsHandler(tls, host: configuration.host))
                    }
                    try pipeline.addHandler(RedisHandler(limits: configuration, receive: receive))
                }
            }
            .connect(host: configuration.host, port: configuration.port)
            .flatMapThrowing { channel in
                let handler = try channel.pipeline.syncOperations.handler(type: RedisHandler.self)
                return RedisConnection(channel: channel, handler: handler, limits: configuration)
            }
        return connected.flatMap { connection in
            connection.greet(configuration, timeout: timeout).map { connection }
        }
    }

    private func greet(_ configuration: Redis.Configuration, timeout: TimeAmount) -> EventLoopFuture<Void> {
        let loop = channel.eventLoop
        let greeted = loop.makePromise(of: Void.self)
        let late = loop.scheduleTask(in: timeout) {
            self.closeNow(because: .away("it did not greet in time"))
        }
        let commands = configuration.greeting
        submitAll(commands) { result in
            late.cancel()
            greeted.completeWith(result.flatMap(Self.verdict).mapError { $0 })
        }
        greeted.futureResult.whenComplete { result in
            switch result {
            case .success: self.keepAlive()
            case .failure: self.closeNow(because: .away("the greeting failed"))
            }
        }
        return greeted.futureResult
    }

    /// Formats and submits commands whose replies come together.
    func submitAll(
        _ commands: [[RedisArgument]],
        replies: Int? = nil,
        _ complete: @escaping @Sendable (Result<[RESP], RedisError>) -> Void
    ) {
        var bytes: [UInt8] = []
        for command in commands { appendCommand(command, to: &bytes) }
        submit(bytes, .several(replies ?? commands.count, complete))
    }

    private static func verdict(on replies: [RESP]) -> Result<Void, RedisError> {
        for case .error(let message) in replies { return .failure(.away(message)) }
        guard replies.last?.string == "PONG" else { return .failure(.away("it does not answer PING")) }
        return .success(())
    }

    private static func tlsHandler(_ tls: NIOSSLContext, host: String) throws -> NIOSSLClientHandler {
        // An address cannot be a TLS server name; its certificate is then checked against the address.
        let isAddress = (try? SocketAddress(ipAddress: host, port: 0)) != nil
        return try NIOSSLClientHandler(context: tls, serverHostname: isAddress ? nil : host)
    }
}

extension Redis.Configuration {
    fileprivate var greeting: [[RedisArgument]] {
        var commands: [[RedisArgument]] = []
        if let password {
            commands.append(["AUTH"] + (user.map { [RedisArgument($0)] } ?? []) + [RedisArgument(password)])
        }
        if database != 0 { commands.append(["SELECT", RedisArgument(database)]) }
        // PING last: a server that is still loading its data refuses it, and so is still away.
        return commands + [["PING"]]
    }
}
