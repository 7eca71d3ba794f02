// AWS Signature Version 4, as S3 asks for it: in the Authorization header, or in the query of a URL that is given away.
//
// Paths here hold only characters that need no escape (S3Configuration.swift), so they are signed as they are.

import Crypto
import Foundation
import Platform

/// Signs requests to S3.
struct SigV4: Sendable {
    /// What is signed instead of a digest when the body is not known yet.
    static let unsignedPayload = "UNSIGNED-PAYLOAD"

    let accessKey: String
    let secretKey: String
    let region: String

    /// The `Authorization` header of a request with these headers, all of which it covers.
    func authorization(
        method: String,
        path: String,
        query: [(name: String, value: String)] = [],
        headers: [(name: String, value: String)],
        payload: String,
        at time: Timestamp
    ) -> String {
        let headers = headers.map { (name: $0.name.lowercased(), value: $0.value) }.sorted {
            $0.name < $1.name
        }
        let names = headers.map(\.name).joined(separator: ";")
        let signature = sign(
            [
                method, path, Self.query(query), headers.map { "\($0.name):\($0.value)\n" }.joined(), names,
                payload,
            ],
            at: time
        )
        return
            "AWS4-HMAC-SHA256 Credential=\(accessKey)/\(scope(time)),SignedHeaders=\(names),Signature=\(signature)"
    }

    /// The query that lets anybody GET a path of a host until `seconds` after `time`.
    func presigned(
        host: String,
        path: String,
        query: [(name: String, value: String)] = [],
        expiresIn seconds: Int,
        at time: Timestamp
    ) -> String {
        let all =
            query + [
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"), ("X-Amz-Credential", "\(accessKey)/\(scope(time))"),
                ("X-Amz-Date", Self.stamp(time)), ("X-Amz-Expires", String(seconds)),
                ("X-Amz-SignedHeaders", "host"),
            ]
        let canonical = Self.query(all)
        let signature = sign(
            ["GET", path, canonical, "host:\(host)\n", "host", Self.unsignedPayload],
            at: time
        )
        return "\(canonical)&X-Amz-Signature=\(signature)"
    }

    /// The time as `20130524T000000Z`.
    static func stamp(_ time: Timestamp) -> String {
        String(time.iso8601.prefix(19).filter { $0 != "-" && $0 != ":" }) + "Z"
    }

    private func scope(_ time: Timestamp) -> String {
        "\(Self.stamp(time).prefix(8))/\(region)/s3/aws4_request"
    }

    private func sign(_ canonicalRequest: [String], at time: Timestamp) -> String {
        let request = canonicalRequest.joined(separator: "\n")
        let digest = Array(SHA256.hash(data: Data(request.utf8))).hexadecimal
        let text = "AWS4-HMAC-SHA256\n\(Self.stamp(time))\n\(scope(time))\n\(digest)"
        var key = Array("AWS4\(secretKey)".utf8)
        for part in [String(Self.stamp(time).prefix(8)), region, "s3", "aws4_request", text] {
            let code = HMAC<SHA256>.authenticationCode(for: Data(part.utf8), using: SymmetricKey(data: key))
            key = Array(code)
        }
        return key.hexadecimal
    }

    /// Sorted and escaped.
    private static func query(_ items: [(name: String, value: String)]) -> String {
        items.map { (escape($0.name), escape($0.value)) }.sorted { $0 < $1 }.map { "\($0)=\($1)" }
            .joined(separator: "&")
    }

    /// Everything but RFC 3986's unreserved characters, in upper-case hexadecimal.
    static func escape(_ text: String) -> String {
        var escaped = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"), UInt8(ascii: "~"):
                escaped.unicodeScalars.append(Unicode.Scalar(byte))
            default: escaped += "%" + [byte].hexadecimal.uppercased()
            }
        }
        return escaped
    }
}
