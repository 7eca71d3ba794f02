// How mail leaves this installation.

import DNS
import Mail
import Platform

extension Delivery {
    /// Routes, name, limits and times.
    struct Configuration: Sendable {
        /// COMMUNE_SMTP_ROUTES.
        var routes = Routes()
        /// COMMUNE_INBOUND_DELIVERY: our own inbound server, for our own domains.
        var inbound: Route?
        /// COMMUNE_SITE_RATES.
        var rates = SiteRates()
        /// COMMUNE_MAIL_HOST: our name in EHLO, which our addresses should resolve to and back from.
        var hostname = SystemNames.machineName
        /// COMMUNE_DELIVERY_ALLOW: networks that MX may name although they are not public.
        var allowed = AddressFilter()
        /// COMMUNE_DELIVERY_PORT: where MX hosts are called; other than 25 in a test lab only.
        var exchangerPort = 25
        /// COMMUNE_SMTP_CA_FILE: certificates that `tls=require` trusts in place of the system's.
        var certificatesFile: String?
        var timeouts = ClientSession.Timeouts()
        /// How long a try may take up to its final dot, whatever each reply may take.
        ///
        /// With ten minutes for the answer to the dot it ends before a job's deadline of twenty.
        var beforeDot = Duration.seconds(540)
        var connectTimeout = Duration.seconds(10)
        /// The same when several addresses can be tried.
        var connectTimeoutOfSeveral = Duration.seconds(5)
        var idle = Duration.seconds(5)
        var messagesPerConnectionMax = 100
        var addressesMax = 5
        var sessionsMax = 2
        var sites = Sites.Limits()

        init() {}

        /// Reads the variables named above and `COMMUNE_DELIVERY_SITE_MAX`, the most sessions that one MX site
        /// gets from this process.
        init(reading settings: inout Settings) {
            routes = Routes(reading: "COMMUNE_SMTP_ROUTES", of: &settings)
            rates = SiteRates(reading: "COMMUNE_SITE_RATES", of: &settings)
            if let text = settings.text("COMMUNE_INBOUND_DELIVERY") {
                do throws(RouteFault) {
                    inbound = try Route(text)
                } catch {
                    settings.fault("COMMUNE_INBOUND_DELIVERY", "\(error.message).")
                }
            }
            if let name = settings.text("COMMUNE_MAIL_HOST") {
                if let host = try? DomainName(name) {
                    hostname = host.ascii
                } else {
                    settings.fault("COMMUNE_MAIL_HOST", "must be a host name such as mail.example.com.")
                }
            }
            allowed = AddressFilter(allowing: "COMMUNE_DELIVERY_ALLOW", reading: &settings)
            exchangerPort = settings.integer("COMMUNE_DELIVERY_PORT", in: 1...65_535, default: exchangerPort)
            sites.exchangersMax = settings.integer(
                "COMMUNE_DELIVERY_SITE_MAX",
                in: 1...10_000,
                default: sites.exchangersMax
            )
            sites.exchangersStart = min(sites.exchangersStart, sites.exchangersMax)
            certificatesFile = settings.text("COMMUNE_SMTP_CA_FILE")
            if let certificatesFile, !TLSContexts.canRead(certificatesFile) {
                settings.fault("COMMUNE_SMTP_CA_FILE", "names a file without certificates that can be read.")
            }
        }
    }
}
