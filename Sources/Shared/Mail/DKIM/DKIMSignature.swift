// One DKIM-Signature field, read and checked (RFC 6376 §3.5, §6.1.1).

/// What a signature field says, after everything that can be checked without DNS.
struct DKIMSignature {
    /// A reason not to look further at a signature.
    struct Rejection: Error {
        let result: DKIMVerdict.Result
        let reason: String
    }

    static let fieldNamesMax = 200

    let domain: String
    let selector: String
    /// Domain of `i=`, which is the signing domain or below it.
    let identityDomain: String
    let algorithm: DKIMKey.Algorithm
    let headerIsRelaxed: Bool
    let bodyIsRelaxed: Bool
    let fieldNames: [String]
    let bodyHash: [UInt8]
    let signature: [UInt8]
    let bodyLength: Int?
    let signedAt: Int?
    let expiresAt: Int?

    init(_ tags: TagList) throws(Rejection) {
        func required(_ name: String) throws(Rejection) -> String {
            guard let value = tags[name], !value.isEmpty else {
                throw Rejection(result: .permerror, reason: "tag \(name)= is missing")
            }
            return value
        }
        guard try required("v") == "1" else { throw Rejection(result: .permerror, reason: "unknown version") }
        let algorithmName = try required("a").lowercased()
        guard let algorithm = DKIMKey.Algorithm(rawValue: algorithmName) else {
            // RFC 8301 §3.1 takes rsa-sha1 out of use.
            throw Rejection(
                result: .permerror,
                reason: "algorithm \(algorithmName.prefix(40)) is not accepted"
            )
        }
        self.algorithm = algorithm
        guard let domain = try? DomainName(try required("d")).ascii else {
            throw Rejection(result: .permerror, reason: "d= is no domain")
        }
        self.domain = domain
        selector = try required("s").lowercased()
        guard (try? DomainName("\(selector)._domainkey.\(domain)".replacingUnderscores)) != nil else {
            throw Rejection(result: .permerror, reason: "s= is no selector")
        }
        let identity = tags["i"].flatMap { $0.split(separator: "@", omittingEmptySubsequences: false).last }
        identityDomain = identity.map { $0.lowercased() } ?? domain
        guard identityDomain == domain || identityDomain.hasSuffix(".\(domain)") else {
            throw Rejection(result: .permerror, reason: "i= lies outside d=")
        }
        (headerIsRelaxed, bodyIsRelaxed) = try Self.forms(tags["c"] ?? "simple/simple")
        fieldNames = try required("h").lowercased().split(separator: ":").map(String.init)
        guard fieldNames.contains("from"), fieldNames.count <= Self.fieldNamesMax else {
            throw Rejection(result: .permerror, reason: "h= does not sign From")
        }
        guard let bodyHash = tags.base64("bh"), bodyHash.count == 32 else {
            throw Rejection(result: .permerror, reason: "bh= is no SHA-256 hash")
        }
        guard let signature = tags.base64("b"), !signature.isEmpty else {
            throw Rejection(result: .permerror, reason: "b= is no signature")
        }
        self.bodyHash = bodyHash
        self.signature = signature
        if let methods = tags.list("q"), !methods.contains("dns/txt") {
            throw Rejection(result: .permerror, reason: "q= names no known method")
        }
        bodyLength = try Self.number(tags, "l")
        signedAt = try Self.number(tags, "t")
        expiresAt = try Self.number(tags, "x")
        if let signedAt, let expiresAt, expiresAt < signedAt {
            throw Rejection(result: .permerror, reason: "x= lies before t=")
        }
    }

    private static func forms(_ tag: String) throws(Rejection) -> (header: Bool, body: Bool) {
        switch tag.lowercased() {
        case "simple", "simple/simple": (false, false)
        case "relaxed", "relaxed/simple": (true, false)
        case "simple/relaxed": (false, true)
        case "relaxed/relaxed": (true, true)
        default: throw Rejection(result: .permerror, reason: "c= names no known form")
        }
    }

    private static func number(_ tags: TagList, _ name: String) throws(Rejection) -> Int? {
        guard let text = tags[name] else { return nil }
        guard let number = Int(text), number >= 0, text.utf8.count <= 18 else {
            throw Rejection(result: .permerror, reason: "\(name)= is no number")
        }
        return number
    }
}

extension String {
    // Selectors of real senders have underscores, which host names have not.
    fileprivate var replacingUnderscores: String {
        String(map { $0 == "_" ? "x" : $0 })
    }
}
