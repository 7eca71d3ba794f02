// COMMUNE_SMTP_ROUTES, read and misread.

import Mail
import Platform
import Testing

@testable import Worker

@Suite("Configured routes")
struct DeliveryRoutesTests {
    private func read(_ text: String) -> (routes: Routes, faults: [Settings.Fault]) {
        var settings = Settings(["COMMUNE_SMTP_ROUTES": text])
        let routes = Routes(reading: "COMMUNE_SMTP_ROUTES", of: &settings)
        return (routes, settings.faults)
    }

    @Test("a domain's own route comes before the star, and the last of several counts")
    func precedence() {
        let (routes, faults) = read(
            "*=relay.example.net:587, Example.COM=10.0.0.1:25,example.com=10.0.0.2:2525"
        )
        #expect(faults == [])
        #expect(routes["example.com"]?.server == HostPort(host: "10.0.0.2", port: 2525))
        #expect(routes["other.test"]?.server == HostPort(host: "relay.example.net", port: 587))
        #expect(read("example.com=10.0.0.1:25").routes["other.test"] == nil)
        #expect(read("").routes["other.test"] == nil)
    }

    @Test(
        "a route says where, how encrypted and as whom",
        arguments: [
            ("mail.test", "mail.test:25", "opportunistic", false, ""),
            ("[::1]:2525", "[::1]:2525", "opportunistic", false, ""),
            ("smtp://mail.test", "mail.test:25", "opportunistic", false, ""),
            ("smtp://mail.test:26?tls=none", "mail.test:26", "none", false, ""),
            ("smtps://mail.test", "mail.test:465", "required", true, ""),
            ("SMTPS://mail.test:4650/?tls=opportunistic", "mail.test:4650", "opportunistic", true, ""),
            ("smtp://u:p@mail.test:587", "mail.test:587", "required", false, "u p"),
            (
                "smtp://u%40x:p%2C%3D%3a%2F@mail.test?tls=require", "mail.test:25", "required", false,
                "u@x p,=:/"
            ),
            ("smtp://u:p@ss@mail.test?tls=none", "mail.test:25", "none", false, "u p@ss"),
            ("smtp://u:@mail.test?tls=opportunistic", "mail.test:25", "opportunistic", false, "u "),
        ]
    )
    func forms(
        _ text: String,
        _ server: String,
        _ tls: String,
        _ isEncrypted: Bool,
        _ credentials: String
    ) throws {
        let route = try Route(text)
        #expect(route.server.description == server)
        #expect(route.tls.rawValue == tls)
        #expect(route.isEncryptedFromStart == isEncrypted)
        #expect((route.credentials.map { "\($0.user) \($0.password)" } ?? "") == credentials)
    }

    @Test(
        "what is wrong is said, all at once and without what may be a password",
        arguments: [
            ("example.com", RouteFault.notAnEntry),
            ("=mail.test:25", .badDomain),
            ("exa mple.com=mail.test:25", .badDomain),
            ("example.com=", .badServer),
            ("example.com=mail.test:70000", .badServer),
            ("example.com=mail.test:0", .badServer),
            ("example.com=127.1:25", .badServer),
            ("example.com=http://u:geheim@mail.test", .badScheme),
            ("example.com=smtp://geheim@mail.test", .badCredentials),
            ("example.com=smtp://:geheim@mail.test", .badCredentials),
            ("example.com=smtp://u:geheim%2@mail.test", .badCredentials),
            ("example.com=smtp://u:geheim%00@mail.test", .badCredentials),
            ("example.com=smtp://u:geheim@", .badServer),
            ("example.com=smtp://u:geheim@mail.test?tls=maybe", .badOption),
            ("example.com=smtps://u:geheim@mail.test?tls=none", .contradictory),
            ("smtp://u:geheim@mail.test?tls=none", .badDomain),
        ]
    )
    func faults(_ entry: String, _ fault: RouteFault) {
        let (routes, faults) = read("good.test=mail.test:25,\(entry),bad")
        #expect(routes["good.test"] != nil)
        #expect(faults.count == 2)
        #expect(faults.first?.message.contains(fault.message) == true, "\(faults)")
        #expect(faults.first?.message.contains("entry 2") == true)
        #expect(!faults.description.contains("geheim"))
    }

    @Test("the whole configuration is read at once, with every fault")
    func configuration() {
        var settings = Settings([
            "COMMUNE_SMTP_ROUTES": "x", "COMMUNE_MAIL_HOST": "not a host",
            "COMMUNE_DELIVERY_ALLOW": "10.0.0.0/99",
            "COMMUNE_DELIVERY_PORT": "0", "COMMUNE_DELIVERY_SITE_MAX": "none",
            "COMMUNE_SMTP_CA_FILE": "/does/not/exist",
        ])
        _ = Delivery.Configuration(reading: &settings)
        #expect(Set(settings.faults.map(\.variable)).count == 6)
        var none = Settings([:])
        let configuration = Delivery.Configuration(reading: &none)
        #expect(none.faults.isEmpty)
        #expect(!configuration.hostname.isEmpty)
        #expect(configuration.exchangerPort == 25)
    }
}
