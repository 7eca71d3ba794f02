// libunbound against a real server with names of our own, and against servers that fail.

import DNS
import Foundation
import Glibc
import Logging
import Platform
import TestSupport
import Testing

let quiet = Logger(label: "dns") { _ in SwiftLogNoOpLogHandler() }

/// A server with these records, and a resolver that asks it.
func withResolver(
    _ records: [String],
    forwarding: [String: String] = [:],
    _ change: (inout UnboundResolver.Configuration) -> Void = { _ in },
    _ body: (UnboundResolver, DNSServer) async throws -> Void
) async throws {
    let server = try await DNSServer(records, forwarding: forwarding)
    var configuration = UnboundResolver.Configuration(server: HostPort(host: "127.0.0.1", port: server.port))
    change(&configuration)
    try await body(try UnboundResolver(configuration, logger: quiet), server)
}

@Suite("Resolver", .timeLimit(.minutes(1)))
struct ResolverTests {
    @Test("every type is answered, TXT joined, and CNAMEs followed")
    func answers() async throws {
        let long = String(repeating: "k", count: 200)
        try await withResolver([
            "a.test. 300 IN A 192.0.2.1", "a.test. 300 IN A 192.0.2.2", "a.test. 300 IN AAAA 2001:db8::1",
            "mx.test. 60 IN MX 10 Mail.A.test.", "ns.test. 60 IN NS ns1.test.",
            "t.test. 60 IN TXT \"v=DKIM1; p=\" \"\(long)\" \"\(long)\"",
            "c.test. 60 IN CNAME d.test.", "d.test. 60 IN CNAME a.test.",
            "1.2.0.192.in-addr.arpa. 60 IN PTR a.test.", "5.0.0.10.in-addr.arpa. 60 IN PTR ten.test.",
            "me.localhost. 60 IN A 127.0.0.9", "_25._tcp.a.test. 60 IN TLSA 3 1 1 abcd",
        ]) { resolver, _ in
            let a = try await resolver.lookup("A.test", .a)
            #expect(Set(a.addresses.map(\.description)) == ["192.0.2.1", "192.0.2.2"])
            #expect(a.canonicalName == "a.test" && a.ttlSeconds > 200 && a.ttlSeconds <= 300 && !a.secure)
            let mx = try await resolver.lookup("mx.test.", .mx)
            #expect(mx.records == [.mx(preference: 10, exchange: "mail.a.test")])
            #expect(try await resolver.lookup("ns.test", .ns).names == ["ns1.test"])
            #expect(try await resolver.lookup("t.test", .txt).texts == ["v=DKIM1; p=" + long + long])
            let c = try await resolver.lookup("c.test", .aaaa)
            #expect(c.addresses.map(\.description) == ["2001:db8::1"])
            #expect(c.canonicalName == "a.test")
            #expect(try await resolver.lookup("c.test", .cname).names == ["d.test"])
            #expect(try await resolver.lookup("1.2.0.192.in-addr.arpa", .ptr).names == ["a.test"])
            // These libunbound would answer itself, had we not removed its zones.
            #expect(try await resolver.lookup("5.0.0.10.in-addr.arpa", .ptr).names == ["ten.test"])
            #expect(
                try await resolver.lookup("me.localhost", .a).addresses.map(\.description) == ["127.0.0.9"]
            )
            let tlsa = try await resolver.lookup("_25._tcp.a.test", .tlsa).records
            #expect(tlsa == [.tlsa(usage: 3, selector: 1, matching: 1, data: [0xab, 0xcd])])
            #expect(try await resolver.addresses(of: "c.test").count == 3)
        }
    }

    @Test("a name without the type is an empty answer, an unknown name a fault, also behind a CNAME")
    func nothingThere() async throws {
        try await withResolver([
            "only-a.test. 60 IN A 192.0.2.1", "dangling.test. 60 IN CNAME gone.test.",
            "six.test. 60 IN AAAA 2001:db8::6",
        ]) { resolver, _ in
            let empty = try await resolver.lookup("only-a.test", .mx)
            #expect(empty.records.isEmpty)
            #expect(try await resolver.lookup("only-a.test", .txt).records.isEmpty)
            await #expect(throws: DNSFault.noSuchName) { try await resolver.lookup("gone.test", .mx) }
            await #expect(throws: DNSFault.noSuchName) { try await resolver.lookup("dangling.test", .a) }
            await #expect(throws: DNSFault.noSuchName) { try await resolver.addresses(of: "gone.test") }
            #expect(try await resolver.addresses(of: "six.test").map(\.description) == ["2001:db8::6"])
        }
    }

    @Test(
        "what is no domain name is refused without asking",
        arguments: ["", ".", "a..b", "ä.test", "a b", "x\\046y"]
    )
    func noName(_ name: String) async throws {
        let nowhere = UnboundResolver.Configuration(server: HostPort(host: "127.0.0.1", port: 1))
        let resolver = try UnboundResolver(nowhere, logger: quiet)
        let fault = await #expect(throws: DNSFault.self) { try await resolver.lookup(name, .a) }
        guard case .malformed = fault else {
            Issue.record("\(String(describing: fault))")
            return
        }
    }

    @Test("a zone whose server is dead is a server failure, not a missing name")
    func serverFailure() async throws {
        let dead = try ServerProcess.freePort()
        let forwarding = ["dead.test": "127.0.0.1@\(dead)"]
        try await withResolver(["live.test. 60 IN A 192.0.2.1"], forwarding: forwarding) { resolver, _ in
            let fault = await #expect(throws: DNSFault.self) { try await resolver.lookup("x.dead.test", .mx) }
            #expect(fault == .serverFailure("SERVFAIL"))
            #expect(fault?.isTransient == true)
            let live = try await resolver.lookup("live.test", .a)
            #expect(live.records.count == 1)
        }
    }

    @Test("a server that never answers is a timeout within the limit, a shorter one if asked for")
    func timeout() async throws {
        let silent = try SilentServer()
        var configuration = UnboundResolver.Configuration(
            server: HostPort(host: "127.0.0.1", port: silent.port)
        )
        configuration.timeout = .milliseconds(600)
        let resolver = try UnboundResolver(configuration, logger: quiet)
        let clock = ContinuousClock()
        var spent = await clock.measure {
            await #expect(throws: DNSFault.timedOut) { try await resolver.lookup("a.test", .a) }
        }
        #expect(spent >= .milliseconds(600) && spent < .seconds(20))
        spent = await clock.measure {
            await #expect(throws: DNSFault.timedOut) {
                try await resolver.lookup("b.test", .a, fresh: false, timeout: .milliseconds(200))
            }
        }
        #expect(spent >= .milliseconds(200) && spent < .seconds(20))
    }

    @Test("a cancelled look-up ends at once, one cancelled before it began too")
    func cancel() async throws {
        let silent = try SilentServer()
        let server = HostPort(host: "127.0.0.1", port: silent.port)
        let resolver = try UnboundResolver(UnboundResolver.Configuration(server: server), logger: quiet)
        let tasks = (0..<50).map { number in
            Task { () -> DNSFault? in
                do throws(DNSFault) {
                    _ = try await resolver.lookup("n\(number).test", .a)
                    return nil
                } catch {
                    return error
                }
            }
        }
        // Half of them are under way by then, as a rule; any other half is as good.
        for task in tasks.prefix(25) { task.cancel() }
        try await silent.waitForQuestion()
        let clock = ContinuousClock()
        let spent = await clock.measure {
            for task in tasks {
                task.cancel()
                #expect(await task.value == .cancelled)
            }
        }
        #expect(spent < .seconds(20))
    }

    @Test("more look-ups than may be under way wait their turn and all are answered")
    func many() async throws {
        let records = (0..<500).map { "n\($0).test. 60 IN A 10.0.\($0 / 250).\($0 % 250)" }
        try await withResolver(records, { $0.concurrentMax = 20 }) { resolver, _ in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<500 {
                    group.addTask {
                        let answer = try await resolver.lookup("n\(number).test", .a)
                        #expect(
                            answer.addresses.map(\.description) == ["10.0.\(number / 250).\(number % 250)"]
                        )
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("more look-ups than may wait are refused")
    func tooMany() async throws {
        let silent = try SilentServer()
        let server = HostPort(host: "127.0.0.1", port: silent.port)
        var configuration = UnboundResolver.Configuration(server: server, timeout: .milliseconds(300))
        configuration.concurrentMax = 5
        configuration.waitingMax = 5
        let resolver = try UnboundResolver(configuration, logger: quiet)
        let faults = await withTaskGroup(of: DNSFault?.self) { group in
            for number in 0..<30 {
                group.addTask {
                    do throws(DNSFault) {
                        _ = try await resolver.lookup("n\(number).test", .a)
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            return await group.reduce(into: [DNSFault?]()) { $0.append($1) }
        }
        #expect(faults.count { $0 == .timedOut } == 10)
        #expect(faults.count { $0 == .serverFailure("too many look-ups at once") } == 20)
    }

    @Test("an answer is kept, and a fresh look-up passes over it")
    func fresh() async throws {
        try await withResolver(["keep.test. 300 IN TXT \"first\""]) { resolver, server in
            let first = try await resolver.lookup("keep.test", .txt)
            #expect(first.texts == ["first"])
            #expect(try await resolver.lookup("keep.test", .txt, fresh: true).texts == ["first"])
            server.kill()
            #expect(try await resolver.lookup("keep.test", .txt).texts == ["first"])
            await #expect(throws: DNSFault.self) {
                try await resolver.lookup("keep.test", .txt, fresh: true, timeout: .milliseconds(500))
            }
        }
    }

    @Test("a server that was away is asked again when it is back")
    func serverReturns() async throws {
        let records = (0..<100).map { "n\($0).test. 300 IN A 192.0.2.1" }
        try await withResolver(records, { $0.timeout = .seconds(1) }) { resolver, server in
            server.kill()
            for number in 0..<5 {
                await #expect(throws: DNSFault.self) { try await resolver.lookup("n\(number).test", .a) }
            }
            try await server.start()
            let clock = ContinuousClock()
            let start = clock.now
            var number = 10
            while (try? await resolver.lookup("n\(number % 90 + 10).test", .a)) == nil {
                number += 1
                try #require(clock.now - start < .seconds(20))
                // Another name each time, because a failure is kept for a while.
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }

    @Test("settings are read, with a fault for a server that is no address")
    func settings() {
        var settings = Settings(["COMMUNE_DNS_SERVER": "[::1]:5353", "COMMUNE_DNS_TIMEOUT_SECONDS": "1.5"])
        let configuration = UnboundResolver.Configuration(reading: &settings)
        #expect(configuration.server == HostPort(host: "::1", port: 5353))
        #expect(configuration.timeout == .milliseconds(1500))
        #expect(settings.faults.isEmpty)
        var bad = Settings(["COMMUNE_DNS_SERVER": "dns.example:53", "COMMUNE_DNS_TRUST_ANCHOR": "/not/there"])
        _ = UnboundResolver.Configuration(reading: &bad)
        #expect(bad.faults.map(\.variable) == ["COMMUNE_DNS_SERVER", "COMMUNE_DNS_TRUST_ANCHOR"])
    }

    @Test("resolvers come and go without leaving descriptors behind")
    func noLeaks() async throws {
        func descriptors() throws -> Int {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
        }
        try await withResolver(["a.test. 1 IN A 192.0.2.1"]) { resolver, _ in
            let before = try descriptors()
            try await withThrowingTaskGroup(of: DNSAnswer.self) { group in
                for _ in 0..<100 { group.addTask { try await resolver.lookup("a.test", .a, fresh: true) } }
                for try await answer in group { #expect(answer.records.count == 1) }
            }
            // Other tests open and close theirs meanwhile; a leak would leave 400 or more.
            #expect(try descriptors() < before + 200)
        }
    }
}

/// A UDP socket that takes questions and never answers.
private final class SilentServer: Sendable {
    let port: Int
    private let socket: Int32

    init() throws {
        socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let socket = socket
        port = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                bind(socket, generic, length)
                getsockname(socket, generic, &length)
                return Int(UnsafeRawPointer(generic).load(as: sockaddr_in.self).sin_port.bigEndian)
            }
        }
        try #require(port > 0)
    }

    deinit { close(socket) }

    /// Returns when somebody has asked, within half a minute.
    func waitForQuestion() async throws {
        for _ in 0..<3000 {
            var descriptor = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            if poll(&descriptor, 1, 0) == 1 { return }
            // A blocking wait would hold one of the few threads that the look-ups need.
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("nobody asked")
    }
}
