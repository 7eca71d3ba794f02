// Whose request it is behind proxies, and who is not believed.

import DNS
import HTTPTypes
import NIOCore
import Testing

@testable import API

@Suite("The client's address")
struct ClientAddressTests {
    private func client(
        _ peer: String,
        _ headers: [String],
        trusted: [String] = ["10.0.0.0/8"]
    ) throws -> String {
        let proxies = Proxies(trusted: try trusted.map { try #require(Network($0)) })
        var fields = HTTPFields()
        for header in headers {
            fields.append(HTTPField(name: try #require(HTTPField.Name("X-Forwarded-For")), value: header))
        }
        let address = proxies.client(of: fields, peer: try SocketAddress(ipAddress: peer, port: 4711))
        return address.map { "\($0)" } ?? "none"
    }

    @Test(
        "is the nearest one that is no proxy of ours",
        arguments: [
            ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
            // What the client itself wrote stands to the left of what proxies added.
            ("10.0.0.1", ["203.0.113.9, 192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", ["192.0.2.7, 10.0.0.2"], "192.0.2.7"),
            ("10.0.0.1", ["192.0.2.7", "10.0.0.2"], "192.0.2.7"),
            ("::ffff:10.0.0.1", ["192.0.2.7:1234"], "192.0.2.7"),
            ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
            ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
            // Who is no proxy of ours is the client, whatever it says.
            ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
            ("10.0.0.1", [], "10.0.0.1"),
            ("10.0.0.1", ["unknown"], "10.0.0.1"),
            ("10.0.0.1", ["192.0.2.7, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", ["", ", ,"], "10.0.0.1"),
        ]
    )
    func nearest(_ peer: String, _ headers: [String], _ expected: String) throws {
        #expect(try client(peer, headers) == expected)
    }

    @Test("is the peer's where no proxy is named")
    func noProxies() throws {
        #expect(try client("10.0.0.1", ["192.0.2.7"], trusted: []) == "10.0.0.1")
    }
}
