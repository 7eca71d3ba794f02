// The environment: all faults at once, and no value of a secret in them.

import Platform
import Testing

@Suite("Settings")
struct SettingsTests {
    @Test("every fault is reported, in reading order, with the variable's name")
    func allFaults() {
        var settings = Settings([
            "PORT": "http", "SECONDS": "-1", "FLAG": "maybe", "LISTEN": "no-port", "EMPTY": "",
            "COMMUNE_SECRET_KEY": "hunter2",
        ])
        #expect(settings.required("MISSING", purpose: "names it") == nil)
        #expect(settings.required("EMPTY", purpose: "names it") == nil)
        #expect(settings.integer("PORT", in: 1...65_535, default: 8080) == 8080)
        #expect(settings.seconds("SECONDS", in: 0.1...10, default: .seconds(3)) == .seconds(3))
        let flag = settings.flag("FLAG", default: true)
        #expect(flag)
        #expect(settings.hostPort("LISTEN") == nil)
        #expect(SecretBox(reading: &settings) == nil)
        let variables = settings.faults.map(\.variable)
        #expect(
            variables == ["MISSING", "EMPTY", "PORT", "SECONDS", "FLAG", "LISTEN", "COMMUNE_SECRET_KEY"]
        )
        #expect(settings.faults.first?.description == "MISSING is not set: it names it.")
        #expect(!settings.faults.contains { $0.description.contains("hunter2") })
    }

    @Test("what is unset has its default and is no fault")
    func defaults() {
        var settings = Settings(["EMPTY": ""])
        #expect(settings.text("EMPTY") == nil)
        #expect(settings.integer("EMPTY", in: 1...9, default: 5) == 5)
        #expect(settings.seconds("NONE", in: 1...9, default: .seconds(5)) == .seconds(5))
        let flag = settings.flag("NONE", default: false)
        #expect(!flag)
        #expect(settings.hostPort("NONE") == nil)
        #expect(settings.list("NONE").isEmpty)
        #expect(settings.faults.isEmpty)
    }

    @Test(
        "the ends of a range are within it",
        arguments: [("1", 1), ("9", 9), ("0", 5), ("10", 5), ("3x", 5)]
    )
    func ranges(_ text: String, _ number: Int) {
        var settings = Settings(["N": text])
        #expect(settings.integer("N", in: 1...9, default: 5) == number)
        #expect(settings.faults.isEmpty == (text == String(number)))
    }

    @Test(
        "a flag knows its words",
        arguments: [
            ("on", true), ("TRUE", true), ("1", true), ("yes", true), ("off", false), ("False", false),
            ("0", false), ("no", false),
        ]
    )
    func flags(_ text: String, _ value: Bool) {
        var settings = Settings(["F": text])
        #expect(settings.flag("F", default: !value) == value)
        #expect(settings.faults.isEmpty)
    }

    @Test("a list has its elements between commas, trimmed")
    func lists() {
        #expect(Settings(["L": " a, b ,,c "]).list("L") == ["a", "b", "c"])
    }

    @Test("seconds may have a fraction, and no number that is none")
    func seconds() {
        var settings = Settings(["S": "0.25", "NAN": "nan", "INF": "inf"])
        #expect(settings.seconds("S", in: 0.1...10, default: .seconds(3)) == .milliseconds(250))
        #expect(settings.seconds("NAN", in: 0.1...10, default: .seconds(3)) == .seconds(3))
        #expect(settings.seconds("INF", in: 0.1...10, default: .seconds(3)) == .seconds(3))
        #expect(settings.faults.map(\.variable) == ["NAN", "INF"])
    }

    @Test(
        "host and port are read",
        arguments: [
            ("mail.test:25", "mail.test", 25), ("127.0.0.1:65535", "127.0.0.1", 65_535),
            ("[::1]:2525", "::1", 2525),
        ]
    )
    func hostPorts(_ text: String, _ host: String, _ port: Int) {
        #expect(HostPort(text) == HostPort(host: host, port: port))
        #expect(HostPort(text)?.description == text)
    }

    @Test(
        "what is no host and port is refused",
        arguments: [
            "", ":25", "host", "host:", "host:0", "host:65536", "host:-1", "host:smtp", "[::1", "[::1]",
            "[::1]x25",
            "[]:25", "::1:25",
        ]
    )
    func notHostPorts(_ text: String) {
        #expect(HostPort(text) == nil, "\(text)")
    }

    @Test("a default port stands in for one that is left out")
    func defaultPort() {
        #expect(HostPort("host", defaultPort: 53) == HostPort(host: "host", port: 53))
        #expect(HostPort("[::1]", defaultPort: 53) == HostPort(host: "::1", port: 53))
        #expect(HostPort("host:5353", defaultPort: 53)?.port == 5353)
    }
}
