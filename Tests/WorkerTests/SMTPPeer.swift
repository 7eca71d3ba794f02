// A live SMTP server on loopback that plays the parts of a dialogue, one part a connection.

import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization

/// The server's side of a dialogue.
final class SMTPPeer: Sendable {
    /// One line of a part.
    enum Step: Sendable {
        /// The next line must begin with this, or match it as a regular expression when that begins with `~`.
        case expectLine(String)
        /// The client must send something, anything: the beginning of a handshake, say.
        case expectBytes
        /// Everything up to the final dot; with its dots undone it must be the message that was handed in.
        case expectMessage
        /// Everything up to the final dot, whatever it is; it is found in `messages`.
        case takeMessage
        /// The client must close.
        case expectEnd
        case send([UInt8])
        /// Lets this much time pass on the clock of the delivery.
        case wait(Duration)
        case close
        /// Ends the connection by a TCP reset.
        case reset
        /// Does the server's half of a TLS handshake.
        case handshake
        /// Does the server's half of a handshake that the client must break off.
        case failHandshake
        /// Takes every message, as a good server does, until the client leaves.
        case serve
        /// Tells the test that it came here.
        case signal(AsyncStream<Void>.Continuation)
        /// Goes on when the test calls `openGate`.
        case gate
        /// Reads nothing while this much time passes.
        case stall(Duration)
    }

    /// What the dialogue did not foresee.
    var faults: [String] { state.withLock { $0.faults } }
    /// Commands that came, of all connections.
    var lines: [String] { state.withLock { $0.lines } }
    /// Messages that came up to their final dot by `serve` or `takeMessage`, their dots undone.
    var messages: [[UInt8]] { state.withLock { $0.messages } }
    /// Connections that came.
    var connections: Int { state.withLock { $0.connections } }
    /// The most that were open at once.
    var openMax: Int { state.withLock { $0.openMax } }
    let port: Int

    private struct State {
        var parts: [[Step]]
        var faults: [String] = []
        var lines: [String] = []
        var messages: [[UInt8]] = []
        var connections = 0
        var open = 0
        var openMax = 0
        var tasks: [Task<Void, Never>] = []
    }

    private let state: Mutex<State>
    private let clock: ManualClock
    private let message: [UInt8]
    private let listener: any Channel
    private let gate = AsyncStream<Void>.makeStream()

    /// Listens on a free port, unless one is given.
    ///
    /// More connections than parts are closed at once and are a fault.
    init(
        _ parts: [[Step]],
        clock: ManualClock = ManualClock(),
        message: [UInt8] = Dialogue.short,
        host: String = "127.0.0.1",
        port: Int = 0
    ) async throws {
        state = Mutex(State(parts: parts))
        self.clock = clock
        self.message = message
        let accepted = AsyncStream<any Channel>.makeStream()
        listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.socketOption(.so_rcvbuf), value: 64 * 1024)
            // Only what the part asks for is read: the rest may be TLS, or more than the buffers hold.
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = PeerHandler { accepted.continuation.yield($0) }
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }
            .bind(host: host, port: port)
            .get()
        self.port = listener.localAddress?.port ?? 0
        let accepting = Task { [self] in
            for await channel in accepted.stream { accept(channel) }
        }
        state.withLock { $0.tasks.append(accepting) }
    }

    /// Waits until every part that began has ended, then stops.
    func finish() async {
        try? await listener.close()
        let tasks = state.withLock { $0.tasks.dropFirst() }
        for task in tasks { await task.value }
        state.withLock { $0.tasks.first?.cancel() }
    }

    /// Lets one part go on that waits at its gate.
    func openGate() { gate.continuation.yield() }

    private func accept(_ channel: any Channel) {
        let (part, number) = state.withLock { state -> ([Step]?, Int) in
            state.connections += 1
            state.open += 1
            state.openMax = max(state.open, state.openMax)
            return (state.parts.isEmpty ? nil : state.parts.removeFirst(), state.connections)
        }
        guard let part else {
            note("connection \(number) was not expected")
            channel.close(promise: nil)
            return
        }
        let task = Task {
            await play(part, on: channel, number)
            state.withLock { $0.open -= 1 }
        }
        state.withLock { $0.tasks.append(task) }
    }

    private func note(_ fault: String) { state.withLock { $0.faults.append(fault) } }

    private func play(_ part: [Step], on channel: any Channel, _ number: Int) async {
        guard let events = try? await PeerHandler.events(of: channel) else {
            note("connection \(number) ended before it began")
            return
        }
        var input = PeerInput(channel, events)
        let late = channel.eventLoop.scheduleTask(in: .seconds(20)) {
            self.note("connection \(number) took too long")
            channel.close(promise: nil)
        }
        defer { late.cancel() }
        do {
            for step in part { try await play(step, on: channel, &input) }
        } catch {
            note("connection \(number): \(error)")
        }
        try? await channel.close()
    }

    private func play(_ step: Step, on channel: any Channel, _ input: inout PeerInput) async throws {
        switch step {
        case .expectLine(let pattern):
            let line = try await input.line()
            state.withLock { $0.lines.append(line) }
            guard Self.matches(line, pattern) else { throw PeerFault("expected “\(pattern)”, got “\(line)”") }
        case .expectBytes: try await input.bytes()
        case .expectMessage:
            let received = try await input.message()
            guard received == message else {
                throw PeerFault("the message differs: \(received.count) octets for \(message.count)")
            }
        case .takeMessage:
            let received = try await input.message()
            state.withLock { $0.messages.append(received) }
        case .expectEnd: try await input.end()
        case .send(let bytes): try await channel.writeAndFlush(ByteBuffer(bytes: bytes))
        case .wait(let time): await clock.advance(by: time)
        case .close: try? await channel.close()
        case .reset:
            let linger = linger(l_onoff: 1, l_linger: 0)
            if let channel = channel as? any SocketOptionProvider {
                try await channel.setSoLinger(linger).get()
            }
            try await channel.close()
        case .handshake:
            try await input.handshake()
        case .failHandshake:
            if (try? await input.handshake()) != nil { throw PeerFault("the handshake should have failed") }
        case .serve: try await serve(channel, &input)
        case .signal(let here): here.yield()
        case .gate:
            for await _ in gate.stream { return }
        case .stall(let time):
            // Until the buffers between client and peer are full, which nobody can see.
            try await Task.sleep(for: .seconds(2))
            await clock.advance(by: time)
            await input.drain()
        }
    }

    private func serve(_ channel: any Channel, _ input: inout PeerInput) async throws {
        func say(_ text: String) async throws {
            try await channel.writeAndFlush(ByteBuffer(string: "\(text)\r\n"))
        }
        try await say("220 mail.example.test ESMTP")
        while let line = try? await input.line() {
            state.withLock { $0.lines.append(line) }
            switch line.prefix(4) {
            case "EHLO": try await say("250-mail.example.test\r\n250 PIPELINING")
            case "DATA":
                try await say("354 Go on")
                let received = try await input.message()
                state.withLock { $0.messages.append(received) }
                try await say("250 2.0.0 Queued")
            case "QUIT":
                try? await say("221 Bye")
                return
            default: try await say("250 2.0.0 Ok")
            }
        }
    }

    private static func matches(_ line: String, _ pattern: String) -> Bool {
        guard pattern.hasPrefix("~") else { return line.hasPrefix(pattern) }
        return line.range(of: "^(?:\(pattern.dropFirst()))$", options: .regularExpression) != nil
    }
}

/// Why a part could not be played.
struct PeerFault: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// What happened on a connection.
private enum PeerEvent: Sendable {
    case bytes([UInt8])
    case handshakeDone
    case failed(String)
}

/// Hands a channel's events to a task.
private final class PeerHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private let events = AsyncStream<PeerEvent>.makeStream()
    private let active: (any Channel) -> Void

    init(active: @escaping (any Channel) -> Void) { self.active = active }

    func channelActive(context: ChannelHandlerContext) { active(context.channel) }

    static func events(of channel: any Channel) async throws -> AsyncStream<PeerEvent> {
        try await channel.eventLoop.submit {
            try channel.pipeline.syncOperations.handler(type: PeerHandler.self).events.stream
        }.get()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        events.continuation.yield(.bytes([UInt8](unwrapInboundIn(data).readableBytesView)))
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted? = event as? TLSUserEvent { events.continuation.yield(.handshakeDone) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        events.continuation.yield(.failed("\(error)"))
    }

    func channelInactive(context: ChannelHandlerContext) { events.continuation.finish() }
}

/// What the client sent, read piece by piece.
private struct PeerInput {
    private let channel: any Channel
    private var iterator: AsyncStream<PeerEvent>.Iterator
    private var buffer: [UInt8] = []

    init(_ channel: any Channel, _ events: AsyncStream<PeerEvent>) {
        self.channel = channel
        iterator = events.makeAsyncIterator()
    }

    mutating func line() async throws -> String {
        while true {
            if let end = buffer.firstIndex(of: 0x0A) {
                let line = buffer[...end]
                buffer.removeFirst(line.count)
                guard line.suffix(2) == [0x0D, 0x0A] else { throw PeerFault("a line ended without CRLF") }
                return String(decoding: line.dropLast(2), as: UTF8.self)
            }
            try await more()
        }
    }

    mutating func bytes() async throws {
        if buffer.isEmpty { try await more() }
        buffer = []
    }

    mutating func message() async throws -> [UInt8] {
        let end = Array("\r\n.\r\n".utf8)
        var searched = 0
        while true {
            if buffer == end.suffix(3) { throw PeerFault("the message is empty") }
            if let range = Data(buffer[searched...]).range(of: Data(end)) {
                let stuffed = buffer[..<(searched + range.lowerBound + 2)]
                buffer.removeFirst(searched + range.upperBound)
                return Self.unstuffed(stuffed)
            }
            searched = max(0, buffer.count - end.count)
            try await more()
        }
    }

    private static func unstuffed(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var output: [UInt8] = []
        var previous: UInt8 = 0x0A
        for byte in bytes {
            let isExtra = byte == UInt8(ascii: ".") && previous == 0x0A
            if !isExtra { output.append(byte) }
            previous = byte
        }
        return output
    }

    mutating func end() async throws {
        while true {
            switch await next() {
            case nil, .failed: return
            case .handshakeDone: continue
            case .bytes(let bytes):
                let text = String(decoding: bytes.prefix(80), as: UTF8.self)
                // Records of a handshake that the peer did not take part in.
                if bytes.first == 0x16 || bytes.first == 0x15 { continue }
                guard text.hasPrefix("QUIT") else { throw PeerFault("expected the end, got “\(text)”") }
            }
        }
    }

    mutating func drain() async {
        while await next() != nil {}
    }

    /// Does our half.
    mutating func handshake() async throws {
        let tls = try await TestCertificates.shared.server
        try await channel.eventLoop.submit { [channel] in
            let handler = NIOSSLServerHandler(context: tls)
            try channel.pipeline.syncOperations.addHandler(handler, position: .first)
        }.get()
        try await channel.setOption(.autoRead, value: true).get()
        try await handshakeDone()
        try await channel.setOption(.autoRead, value: false).get()
    }

    private mutating func handshakeDone() async throws {
        switch await next() {
        case .handshakeDone: return
        case .failed(let reason): throw PeerFault("the handshake failed: \(reason)")
        case .bytes: throw PeerFault("bytes in place of a handshake")
        case nil: throw PeerFault("the client closed during the handshake")
        }
    }

    private mutating func next() async -> PeerEvent? {
        channel.read()
        return await iterator.next(isolation: #isolation)
    }

    private mutating func more() async throws {
        switch await next() {
        case .bytes(let bytes): buffer += bytes
        case .failed(let reason): throw PeerFault(reason)
        case .handshakeDone: return
        case nil:
            throw PeerFault(
                "the client closed; “\(String(decoding: buffer.prefix(80), as: UTF8.self))” was left"
            )
        }
    }
}

/// A certificate for `localhost` and for no address, made afresh for each run.
struct TestCertificates: Sendable {
    let server: NIOSSLContext
    /// What a client has to trust.
    let file: String

    static var shared: TestCertificates { get async throws { try await made.value } }
    private static let made = Task { try TestCertificates() }

    private init() throws {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("commune-tls-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder.appendingPathComponent("key.pem")) }
        let (key, certificate) = (folder.path + "/key.pem", folder.path + "/certificate.pem")
        let openssl = Process()
        openssl.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
        openssl.arguments = [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
            "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
            "-keyout", key, "-out", certificate,
        ]
        openssl.standardError = FileHandle.nullDevice
        try openssl.run()
        openssl.waitUntilExit()
        let chain = try NIOSSLCertificate.fromPEMFile(certificate).map {
            NIOSSLCertificateSource.certificate($0)
        }
        let privateKey = try NIOSSLPrivateKeySource.privateKey(NIOSSLPrivateKey(file: key, format: .pem))
        server = try NIOSSLContext(
            configuration: .makeServerConfiguration(certificateChain: chain, privateKey: privateKey)
        )
        file = certificate
    }
}
