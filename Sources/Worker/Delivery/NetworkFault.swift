// What went wrong on the network, in words for the person who sent the message.

import Glibc
import NIOCore
import NIOPosix
import NIOSSL

/// Describes errors of connections and of TLS; at most 200 characters.
enum NetworkFault {
    static func description(of error: any Error) -> String {
        switch error {
        case ChannelError.connectTimeout: "timed out"
        case let error as IOError: String(cString: strerror(error.errnoCode))
        case let error as NIOConnectionError:
            error.connectionErrors.first.map { description(of: $0.error) } ?? "refused"
        case let error as NIOSSLExtraError where error == .failedToValidateHostname:
            "the certificate is for another name"
        case NIOSSLError.handshakeFailed(let reason): handshake(reason)
        case NIOSSLError.uncleanShutdown: "the server closed the connection"
        case NIOSSLError.unableToValidateCertificate: "the certificate is not trusted"
        default: String(String(describing: error).prefix(200))
        }
    }

    // BoringSSL names its reasons inside a longer text.
    private static let reasons = [
        ("CERTIFICATE_VERIFY_FAILED", "the certificate is not trusted"),
        ("WRONG_VERSION_NUMBER", "the server does not speak TLS"),
        ("UNSUPPORTED_PROTOCOL", "the server speaks only an old version of TLS"),
        ("HANDSHAKE_FAILURE", "no common cipher"),
        ("EOF during handshake", "the server closed the connection"),
    ]

    private static func handshake(_ reason: BoringSSLError) -> String {
        let text = String(describing: reason)
        return reasons.first { text.contains($0.0) }?.1 ?? String(text.prefix(200))
    }
}
