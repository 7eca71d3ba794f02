// Who we are to Redis, and whom we trust to be Redis.

import Foundation
import Platform
import Redis
import TestSupport
import Testing

@Suite("Access")
struct AccessTests {
    @Test("AUTH with user and password, with the password alone, and SELECT of a database")
    func auth() async throws {
        let server = try await RedisServer(["--requirepass", "p@ss word"])
        let admin = Redis(
            try Redis.Configuration(url: "redis://:p%40ss%20word@127.0.0.1:\(server.port)/3"),
            logger: quiet
        )
        try await admin.command("SET", "where", "three")
        try await admin.command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
        let app = Redis(
            try Redis.Configuration(url: "redis://app:secret@127.0.0.1:\(server.port)/3"),
            logger: quiet
        )
        #expect(try await app.command("ACL", "WHOAMI").string == "app")
        #expect(try await app.command("GET", "where").string == "three")
        let zero = Redis(
            try Redis.Configuration(url: "redis://app:secret@localhost:\(server.port)"),
            logger: quiet
        )
        #expect(try await zero.command("GET", "where") == .null)
        for redis in [admin, app, zero] { await redis.close() }
    }

    @Test(
        "a refused log-in is told as the reason for being away",
        arguments: [("redis://:wrong@", "WRONGPASS"), ("redis://", "NOAUTH")]
    )
    func refused(_ start: String, _ code: String) async throws {
        let server = try await RedisServer(["--requirepass", "right"])
        let url = "\(start)127.0.0.1:\(server.port)"
        let redis = Redis(try Redis.Configuration(url: url), logger: quiet)
        let error = await #expect(throws: RedisError.self) { try await redis.command("PING") }
        guard case .away(let reason) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.contains(code))
        #expect(!reason.contains("wrong@"))
        await redis.close()
    }

    @Test("rediss:// verifies the certificate against cafile, by name and by address, and refuses another")
    func tls() async throws {
        let certificates = try Certificates()
        let server = try await RedisServer(certificates.redisArguments, usesTLS: true)
        let address = "127.0.0.1:\(server.port)"
        for host in ["localhost:\(server.port)", address] {
            let url = "rediss://\(host)/?cafile=\(certificates.authority.path)"
            let redis = Redis(try Redis.Configuration(url: url), logger: quiet)
            #expect(try await redis.command("ECHO", "sealed").string == "sealed")
            var events = redis.subscribe(["c"]).makeAsyncIterator()
            #expect(await events.next() == .subscribed)
            await redis.close()
        }
        // The system's roots do not know our authority, nor does our server know clear text.
        for url in ["rediss://\(address)", "redis://\(address)"] {
            let redis = Redis(try Redis.Configuration(url: url), logger: quiet)
            let error = await #expect(throws: RedisError.self) { try await redis.command("PING") }
            #expect(error?.meansAway == true)
            #expect(!redis.isReachable)
            await redis.close()
        }
    }

    @Test("a certificate for another name is refused")
    func tlsName() async throws {
        let certificates = try Certificates(names: "DNS:elsewhere.test")
        let server = try await RedisServer(certificates.redisArguments, usesTLS: true)
        let url = "rediss://localhost:\(server.port)?cafile=\(certificates.authority.path)"
        let redis = Redis(try Redis.Configuration(url: url), logger: quiet)
        await #expect(throws: RedisError.self) { try await redis.command("PING") }
        await redis.close()
    }

    @Test(
        "a URL that cannot be right is refused with a sentence and without the URL",
        arguments: [
            "http://h", "redis://", "127.0.0.1:6379", "redis://h:70000", "redis://h/x", "redis://h/-1",
            "redis://h?cafile=/x", "rediss://h?cafile=/does/not/exist", "redis://u:secret@h/0?weird=1", "",
        ]
    )
    func badURL(_ url: String) {
        var settings = Settings(["REDIS_URL": url])
        #expect(Redis.Configuration(reading: &settings) == nil)
        #expect(settings.faults.map(\.variable) == ["REDIS_URL"])
        #expect(settings.faults.first?.message.contains("secret") == false)
    }

    @Test("settings are read, with faults for each bad one")
    func settings() throws {
        var settings = Settings(["REDIS_URL": "redis://[::1]/7", "COMMUNE_REDIS_TIMEOUT_SECONDS": "0.5"])
        let configuration = try #require(Redis.Configuration(reading: &settings))
        #expect(configuration.host == "::1")
        #expect(configuration.port == 6379)
        #expect(configuration.database == 7)
        #expect(configuration.commandTimeout == .milliseconds(500))
        #expect(settings.faults.isEmpty)
        var bad = Settings(["COMMUNE_REDIS_TIMEOUT_SECONDS": "x", "COMMUNE_REDIS_PENDING_MAX": "0"])
        #expect(Redis.Configuration(reading: &bad) == nil)
        #expect(bad.faults.count == 3)
    }
}

/// An authority of our own and a server's certificate, made by openssl.
private final class Certificates {
    let authority: URL
    private let folder: URL
    private let certificate: URL
    private let key: URL

    init(names: String = "DNS:localhost,IP:127.0.0.1") throws {
        folder = try ServerProcess.makeFolder("tls")
        authority = folder.appendingPathComponent("ca.pem")
        certificate = folder.appendingPathComponent("server.pem")
        key = folder.appendingPathComponent("server.key")
        let script = """
            cd "$1" && set -e
            new="openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
            $new -x509 -days 2 -subj '/CN=Test authority' -keyout ca.key -out ca.pem
            $new -subj /CN=redis -keyout server.key -out server.csr
            printf 'subjectAltName=%s\\n' "$2" >extensions
            openssl x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
                -extfile extensions -out server.pem
            """
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        shell.arguments = ["-c", script, "certificates", folder.path, names]
        shell.standardError = FileHandle.nullDevice
        shell.standardOutput = FileHandle.nullDevice
        try shell.run()
        shell.waitUntilExit()
        try #require(shell.terminationStatus == 0)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    var redisArguments: [String] {
        [
            "--tls-cert-file", certificate.path, "--tls-key-file", key.path,
            "--tls-ca-cert-file", authority.path, "--tls-auth-clients", "no",
        ]
    }
}
