// Messages a second to a site: by name, over all workers, and while Redis is away.

import Foundation
import Logging
import Mail
import NIOPosix
import Platform
import Redis
import TestSupport
import Testing

@testable import Worker

@Suite("Rates of sites")
struct SiteRateTests {
    private func rates(_ text: String) -> (rates: SiteRates, faults: [Settings.Fault]) {
        var settings = Settings(["COMMUNE_SITE_RATES": text])
        let rates = SiteRates(reading: "COMMUNE_SITE_RATES", of: &settings)
        return (rates, settings.faults)
    }

    private func configured(_ server: String) throws -> Site { Site(try Route(server)) }

    @Test(
        "a name counts for all servers at or below it, the longest one first; a star for each other MX site"
    )
    func limits() throws {
        let rates = rates("google.com=20, aspmx.L.google.com=5,*=0.5,relay.test=3").rates
        func limit(_ site: Site) -> String {
            rates.limit(of: site).map { "\($0.bucket) \($0.perSecond)" } ?? "none"
        }
        #expect(limit(Site(exchangers: ["gmail-smtp-in.l.google.com"])) == "google.com 20.0")
        #expect(
            limit(Site(exchangers: ["aspmx.l.google.com", "alt1.aspmx.l.google.com"]))
                == "aspmx.l.google.com 5.0"
        )
        #expect(limit(Site(itself: "google.com")) == "google.com 20.0")
        #expect(limit(Site(exchangers: ["mx.notgoogle.com"])) == "mx:mx.notgoogle.com 0.5")
        #expect(limit(Site(exchangers: ["b.test", "a.test"])) == "mx:a.test,b.test 0.5")
        #expect(try limit(configured("smtp.relay.test:587")) == "relay.test 3.0")
        // The star is for strangers' servers, not for one's own smart host.
        #expect(try limit(configured("10.0.0.1:25")) == "none")
        #expect(self.rates("").rates.limit(of: Site(itself: "x.test")) == nil)
    }

    @Test(
        "what is no rate is a fault",
        arguments: [
            "google.com", "=5", "google.com=", "google.com=0", "google.com=-1", "x=nan", "a b=5", "*=1000000",
            "x=1=2",
        ]
    )
    func faults(_ text: String) {
        let (rates, faults) = rates("good.test=1,\(text)")
        #expect(faults.count == 1, "\(faults)")
        #expect(rates.byName.keys.sorted() == ["good.test"])
    }

    private func redis(_ url: String, patience: Duration = .seconds(2)) throws -> Redis {
        var configuration = try Redis.Configuration(url: url)
        configuration.connectTimeout = patience
        configuration.commandTimeout = patience
        return Redis(configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    @Test("workers share a site's rate, and who has to wait gets a place in line", .timeLimit(.minutes(1)))
    func shared() async throws {
        // A slow machine must not make it look away: each limiter would then keep its own count.
        let redis = try redis(await RedisServer.sharedURL(), patience: .seconds(30))
        let name = "site-\(UUID().uuidString.lowercased()).test"
        let site = Site(exchangers: ["mx.\(name)"])
        let limiters = (0..<2).map { _ in SiteLimiter(rates("\(name)=0.01").rates, shared: TokenBucket(redis))
        }
        #expect(await limiters[0].wait(for: site) == nil)
        var waits: [Duration] = []
        for _ in 0..<3 { waits.append(try #require(await limiters[1].wait(for: site))) }
        await redis.close()
        for (wait, expected) in zip(waits, [100, 200, 300]) {
            #expect(wait <= .seconds(expected) && wait > .seconds(expected - 50), "\(waits)")
        }
    }

    @Test("while Redis is away a worker keeps to the rate by itself", .timeLimit(.minutes(1)))
    func away() async throws {
        let redis = try redis("redis://127.0.0.1:\(try ServerProcess.freePort())/0")
        let limiter = SiteLimiter(rates("x.test=2").rates, shared: TokenBucket(redis))
        let site = Site(exchangers: ["mx.x.test"])
        var allowed = 0
        for _ in 0..<10 where await limiter.wait(for: site) == nil { allowed += 1 }
        await redis.close()
        #expect((2...4).contains(allowed))
    }

    @Test("nobody is sent away for more than ten minutes, however long the line", .timeLimit(.minutes(1)))
    func longest() async throws {
        let limiter = SiteLimiter(rates("x.test=0.01").rates, shared: nil)
        let site = Site(exchangers: ["x.test"])
        #expect(await limiter.wait(for: site) == nil)
        for _ in 0..<20 {
            let wait = try #require(await limiter.wait(for: site))
            #expect(wait >= .seconds(1) && wait <= SiteLimiter.waitMax)
        }
    }

    @Test(
        "a message without a token is put off, costs no attempt and gives its turn back",
        .timeLimit(.minutes(1))
    )
    func delivery() async throws {
        let peer = try await SMTPPeer([[.serve]])
        var settings = Settings([
            "COMMUNE_SMTP_ROUTES": "*=localhost:\(peer.port)", "COMMUNE_SITE_RATES": "localhost=0.01",
        ])
        let delivery = Delivery(Delivery.Configuration(reading: &settings))
        #expect(settings.faults.isEmpty)
        let parcel = Parcel(
            sender: "",
            recipients: [try EmailAddress("a@example.test")],
            domain: "example.test",
            message: Dialogue.short,
            needsSMTPUTF8: false
        )
        #expect(await delivery.attempt(parcel).first?.summary == "delivered 250 2.0.0 Queued")
        for _ in 0..<3 {
            let outcome = await delivery.attempt(parcel).first
            #expect(outcome?.isPaced == true)
            #expect(outcome?.retryAfter.map { $0 > .seconds(50) } == true)
        }
        await delivery.close()
        await peer.finish()
        #expect(peer.connections == 1)
        #expect(peer.messages.count == 1)
    }
}
