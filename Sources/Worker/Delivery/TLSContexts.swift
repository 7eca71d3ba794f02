// The two ways to use TLS: with anybody, and only with whom a certificate proves.

import NIOSSL

/// TLS contexts, made once since they are costly.
struct TLSContexts: Sendable {
    /// Takes any certificate: better than clear text, which is what the alternative would be (RFC 7435).
    let opportunistic: NIOSSLContext?
    /// Checks chain and name.
    let verifying: NIOSSLContext?

    /// Where TLS cannot be set up, a context is nil and sessions that need it fail with a reason.
    init(certificatesFile: String?) {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        if let certificatesFile { configuration.trustRoots = .file(certificatesFile) }
        verifying = try? NIOSSLContext(configuration: configuration)
        configuration.trustRoots = nil
        configuration.certificateVerification = .none
        // An old server's TLS is still harder to read than none.
        configuration.minimumTLSVersion = .tlsv1
        opportunistic = try? NIOSSLContext(configuration: configuration)
    }

    static func canRead(_ file: String) -> Bool {
        (try? NIOSSLCertificate.fromPEMFile(file))?.isEmpty == false
    }
}
