// The certificate for STARTTLS, from files that are read again when they change: renewing one needs no restart.

import Foundation
import Logging
import NIOSSL
import Platform
import Synchronization

/// Certificate chain and key in PEM, as an ACME client leaves them.
final class Certificates: Sendable {
    struct Files: Sendable, Equatable {
        let chain: String
        let key: String

        /// Reads `COMMUNE_SMTP_TLS_CERT` and `COMMUNE_SMTP_TLS_KEY`; nil when neither is set.
        init?(reading settings: inout Settings) {
            switch (settings.text("COMMUNE_SMTP_TLS_CERT"), settings.text("COMMUNE_SMTP_TLS_KEY")) {
            case (nil, nil): return nil
            case (let chain?, let key?):
                (self.chain, self.key) = (chain, key)
                do {
                    _ = try context()
                } catch {
                    settings.fault(
                        "COMMUNE_SMTP_TLS_CERT",
                        "cannot be used with COMMUNE_SMTP_TLS_KEY: \(error)"
                    )
                }
            case (nil, _?):
                settings.fault("COMMUNE_SMTP_TLS_CERT", "is needed beside COMMUNE_SMTP_TLS_KEY.")
                return nil
            case (_?, nil):
                settings.fault("COMMUNE_SMTP_TLS_KEY", "is needed beside COMMUNE_SMTP_TLS_CERT.")
                return nil
            }
        }

        fileprivate func context() throws -> NIOSSLContext {
            var configuration = TLSConfiguration.makeServerConfiguration(
                certificateChain: try NIOSSLCertificate.fromPEMFile(chain).map { .certificate($0) },
                privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))
            )
            // RFC 8996: what came before 1.2 is no protection.
            configuration.minimumTLSVersion = .tlsv12
            return try NIOSSLContext(configuration: configuration)
        }

        /// When either file was written last.
        fileprivate var written: [Date?] {
            [chain, key].map {
                try? FileManager.default.attributesOfItem(atPath: $0)[.modificationDate] as? Date
            }
        }
    }

    private struct Loaded {
        var context: NIOSSLContext
        var written: [Date?]
        var lookedAt: ContinuousClock.Instant
    }

    private static let lookEvery = Duration.seconds(1)

    private let files: Files
    private let logger: Logger
    private let loaded: Mutex<Loaded>

    init(_ files: Files, logger: Logger) throws {
        self.files = files
        self.logger = logger
        loaded = Mutex(Loaded(context: try files.context(), written: files.written, lookedAt: .now))
    }

    /// The context for the next handshake; of files that are broken at the moment, the one before.
    var context: NIOSSLContext {
        loaded.withLock { loaded in
            guard .now - loaded.lookedAt >= Self.lookEvery else { return loaded.context }
            loaded.lookedAt = .now
            let written = files.written
            guard written != loaded.written else { return loaded.context }
            do {
                loaded.context = try files.context()
                logger.notice("The certificate was read again.")
            } catch {
                // Half-written, most likely: the next change is looked at again.
                logger.error("The changed certificate cannot be used.", metadata: ["error": "\(error)"])
            }
            loaded.written = written
            return loaded.context
        }
    }
}
