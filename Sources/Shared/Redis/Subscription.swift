// Channels of Redis as a stream. Redis keeps nothing for a subscriber that was away, so the stream says when the
// subscription stands: who subscribes first and looks then misses nothing.

import Logging
import NIOCore

/// What a subscriber hears.
package enum SubscriptionEvent: Sendable, Equatable {
    /// The subscription stands (again): what was published before is gone, so look now.
    case subscribed
    /// A message on a channel.
    case message(channel: String, payload: [UInt8])
    /// The connection went; `subscribed` follows when it is back.
    case lost
}

extension Redis {
    /// Events that wait for a slow reader before the oldest are dropped.
    package static let subscriptionEventsMax = 4096

    /// Messages of channels over a connection of its own, which comes back by itself.
    ///
    /// Ends with the client or when the reader stops. A reader that falls `subscriptionEventsMax` behind
    /// loses the oldest events.
    package func subscribe(_ channels: [String]) -> AsyncStream<SubscriptionEvent> {
        let (stream, events) = AsyncStream.makeStream(
            of: SubscriptionEvent.self,
            bufferingPolicy: .bufferingNewest(Self.subscriptionEventsMax)
        )
        let subscription = Subscription(self, channels: channels, events: events)
        // Unstructured, for the stream owns it: it ends when the stream does, or with `close()`.
        let task = Task { await subscription.keep() }
        guard let number = keep(task) else {
            task.cancel()
            events.finish()
            return stream
        }
        events.onTermination = { [weak self] _ in
            task.cancel()
            self?.forget(subscription: number)
        }
        return stream
    }
}

/// Keeps one subscription standing.
private struct Subscription: Sendable {
    let configuration: Redis.Configuration
    let loop: any EventLoop
    let logger: Logger
    let channels: [String]
    let events: AsyncStream<SubscriptionEvent>.Continuation

    init(_ redis: Redis, channels: [String], events: AsyncStream<SubscriptionEvent>.Continuation) {
        configuration = redis.configuration
        loop = redis.loop
        logger = redis.logger
        self.channels = channels
        self.events = events
    }

    func keep() async {
        var failures = 0
        var lossIsLogged = false
        while !Task.isCancelled {
            do {
                let connection = try await stand()
                if lossIsLogged { logger.notice("The Redis subscription is back") }
                failures = 0
                lossIsLogged = false
                let reason = await end(of: connection)
                guard !Task.isCancelled else { break }
                events.yield(.lost)
                logger.warning("The Redis subscription is lost", metadata: ["redis.reason": "\(reason)"])
                lossIsLogged = true
            } catch {
                if !lossIsLogged {
                    logger.warning("Redis cannot be subscribed to", metadata: ["redis.reason": "\(error)"])
                }
                lossIsLogged = true
                failures += 1
            }
            var generator = SystemRandomNumberGenerator()
            // Only cancellation ends the sleep early, and the loop looks for that itself.
            try? await Task.sleep(for: Redis.backoff(after: failures, using: &generator))
        }
        events.finish()
    }

    /// Connects and subscribes; `subscribed` is in the stream before the first message is.
    private func stand() async throws -> RedisConnection {
        let events = events
        let connection = try await RedisConnection.open(configuration, on: loop) { message in
            guard message.count == 3, let channel = message[1].string, let payload = message[2].bytes else {
                return
            }
            events.yield(.message(channel: channel, payload: payload))
        }.get()
        guard !channels.isEmpty else { return connection }
        let command = ["SUBSCRIBE"] + channels.map { RedisArgument($0) }
        let result: Result<[RESP], RedisError> = await withCheckedContinuation { continuation in
            // Redis confirms each channel with a reply of its own, but a refusal is one reply only: the rest of
            // the replies then never comes, and the time limit ends the connection.
            connection.submitAll([command], replies: channels.count) { result in
                if case .success = result { events.yield(.subscribed) }
                continuation.resume(returning: result)
            }
        }
        for case .error(let message) in try result.get() {
            connection.close(because: .away(message))
            throw RedisError.server(message)
        }
        return connection
    }

    private func end(of connection: RedisConnection) async -> String {
        await withTaskCancellationHandler {
            // This future never fails.
            try? await connection.ended.get()
        } onCancel: {
            connection.close(because: .away("nobody reads the subscription"))
        }
        return connection.closed?.reason ?? "the connection was closed"
    }
}
