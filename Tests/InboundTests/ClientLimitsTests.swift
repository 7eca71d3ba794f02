// One client among many.

import DNS
import Testing

@testable import Inbound

@Suite("Limits of a client")
struct ClientLimitsTests {
    private func limits(connections: Int = 0, perMinute: Int = 0) -> ClientLimits {
        var configuration = ClientLimits.Configuration()
        configuration.connectionsMax = connections
        configuration.connectionsPerMinute = perMinute
        return ClientLimits(configuration)
    }

    @Test("has so many connections at a time, and another when one is over")
    func connections() throws {
        let limits = limits(connections: 2)
        let (one, other) = (IPAddress("192.0.2.1"), IPAddress("192.0.2.2"))
        #expect(limits.admit(one))
        #expect(limits.admit(one))
        #expect(!limits.admit(one))
        #expect(limits.admit(other))
        limits.release(one)
        #expect(limits.admit(one))
        #expect(!limits.admit(one))
    }

    @Test("an IPv6 client is its /64, an IPv4 one the same in either form")
    func addresses() throws {
        let limits = limits(connections: 1)
        #expect(limits.admit(IPAddress("2001:db8:0:1::1")))
        #expect(!limits.admit(IPAddress("2001:db8:0:1:ffff::2")))
        #expect(limits.admit(IPAddress("2001:db8:0:2::1")))
        #expect(limits.admit(IPAddress("192.0.2.1")))
        #expect(!limits.admit(IPAddress("::ffff:192.0.2.1")))
    }

    @Test("opens so many a minute, whether they are over or not")
    func rate() throws {
        let limits = limits(perMinute: 3)
        let client = IPAddress("192.0.2.1")
        for _ in 0..<3 {
            #expect(limits.admit(client))
            limits.release(client)
        }
        #expect(!limits.admit(client))
        #expect(limits.admit(IPAddress("192.0.2.2")))
    }

    @Test("without limits everybody may come")
    func none() throws {
        let limits = limits()
        for _ in 0..<5_000 { #expect(limits.admit(IPAddress("192.0.2.1"))) }
    }
}
