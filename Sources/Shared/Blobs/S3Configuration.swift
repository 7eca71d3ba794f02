// What the operator can set about S3-compatible storage: `COMMUNE_BLOBS=s3://bucket/prefix?…` and two secrets.

import Foundation
package import Platform

/// A bucket, how it is reached, and who we are there.
package struct S3Configuration: Sendable {
    /// Where the bucket's name stands.
    package enum Style: String, Sendable {
        /// `https://endpoint/bucket/key`
        case path
        /// `https://bucket.endpoint/key`
        case virtual
    }

    package let bucket: String
    /// Before every key, with its slash; may be empty.
    package let prefix: String
    package let region: String
    package let style: Style
    /// Scheme, host and port that we call, without a slash at the end.
    package let endpoint: String
    /// The same for URLs that are given to callers.
    package let publicEndpoint: String
    package let accessKey: String
    package let secretKey: String

    /// Takes every part as it is.
    package init(
        bucket: String,
        prefix: String = "",
        region: String = "us-east-1",
        style: Style,
        endpoint: String,
        publicEndpoint: String? = nil,
        accessKey: String,
        secretKey: String
    ) {
        self.bucket = bucket
        self.prefix = prefix
        self.region = region
        self.style = style
        self.endpoint = endpoint
        self.publicEndpoint = publicEndpoint ?? endpoint
        self.accessKey = accessKey
        self.secretKey = secretKey
    }

    /// Reads `COMMUNE_BLOBS`; nil for `database`, and after a fault.
    package init?(reading settings: inout Settings) {
        let variable = "COMMUNE_BLOBS"
        guard let text = settings.text(variable), text != "database" else { return nil }
        guard let components = URLComponents(string: text), components.scheme == "s3",
            let bucket = components.host, Self.isBucket(bucket)
        else {
            settings.fault(variable, "must be database, or s3://bucket/prefix?endpoint=…&region=….")
            return nil
        }
        var options: [String: String] = [:]
        for item in components.queryItems ?? [] {
            guard ["endpoint", "region", "style", "public"].contains(item.name) else {
                settings.fault(
                    variable,
                    "knows endpoint, region, style and public, not “\(item.name.prefix(40))”."
                )
                return nil
            }
            options[item.name] = item.value ?? ""
        }
        let prefix = components.path.split(separator: "/").joined(separator: "/")
        let region = options["region"] ?? "us-east-1"
        guard prefix.utf8.allSatisfy(Self.isPlain), region.utf8.allSatisfy(Self.isPlain), !region.isEmpty
        else {
            settings.fault(variable, "takes letters, digits and . _ ~ - in prefix and region.")
            return nil
        }
        let endpoint = options["endpoint"] ?? "https://s3.\(region).amazonaws.com"
        guard Self.isOrigin(endpoint), options["public"].map(Self.isOrigin) ?? true else {
            settings.fault(variable, "takes endpoint and public as http(s)://host[:port], without a path.")
            return nil
        }
        let styleName = options["style"] ?? (options["endpoint"] == nil ? "virtual" : "path")
        guard let style = Style(rawValue: styleName) else {
            settings.fault(variable, "takes style as path or virtual.")
            return nil
        }
        let purpose = "opens the bucket that COMMUNE_BLOBS names"
        let accessKey = settings.required("COMMUNE_S3_ACCESS_KEY_ID", purpose: purpose)
        let secretKey = settings.required("COMMUNE_S3_SECRET_ACCESS_KEY", purpose: purpose)
        guard let accessKey, let secretKey else { return nil }
        self.init(
            bucket: bucket,
            prefix: prefix.isEmpty ? "" : prefix + "/",
            region: region,
            style: style,
            endpoint: endpoint,
            publicEndpoint: options["public"],
            accessKey: accessKey,
            secretKey: secretKey
        )
    }

    private static func isBucket(_ name: String) -> Bool {
        (3...63).contains(name.utf8.count)
            && name.utf8.allSatisfy {
                isLowerOrDigit($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: ".")
            }
    }

    private static func isOrigin(_ text: String) -> Bool {
        guard let parts = URLComponents(string: text), let host = parts.host, !host.isEmpty else {
            return false
        }
        return ["http", "https"].contains(parts.scheme) && parts.path.isEmpty && parts.query == nil
            && parts.fragment == nil && parts.user == nil
    }

    /// What needs no escape in a path (RFC 3986 §2.3), and the slash.
    private static func isPlain(_ byte: UInt8) -> Bool {
        isLowerOrDigit(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
            || "._~-/".utf8.contains(byte)
    }

    private static func isLowerOrDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
}

extension S3Configuration {
    /// The host header and the path of a key under one of the endpoints.
    func place(of key: String, under origin: String) -> (url: String, host: String, path: String) {
        let scheme = origin.hasPrefix("https://") ? "https://" : "http://"
        var host = String(origin.dropFirst(scheme.count))
        // Clients leave a scheme's own port out of the Host header, and the signature covers that header.
        let usual = scheme == "https://" ? ":443" : ":80"
        if host.hasSuffix(usual) { host = String(host.dropLast(usual.count)) }
        switch style {
        case .path:
            let path = "/\(bucket)/\(prefix)\(key)"
            return (scheme + host + path, host, path)
        case .virtual:
            let path = "/\(prefix)\(key)"
            return ("\(scheme)\(bucket).\(host)\(path)", "\(bucket).\(host)", path)
        }
    }
}
