// A libunbound context as we configure it, and its results as our values.

import CUnbound
import Glibc
import Platform

/// Owns the C context; freed with it.
final class UnboundHandle {
    let pointer: OpaquePointer

    /// A zone's own nameservers, to be asked for it directly.
    struct Stub {
        let zone: String
        let addresses: [IPAddress]
        let port: Int
    }

    init(_ configuration: UnboundResolver.Configuration, stub: Stub? = nil) throws(DNSFault) {
        guard let pointer = ub_ctx_create() else { throw .serverFailure("libunbound could not start") }
        self.pointer = pointer
        // A thread, where libunbound would otherwise fork this process at its first query.
        try check(ub_ctx_async(pointer, 1), "ub_ctx_async")
        // A server that failed a while is asked again, instead of being left alone for up to fifteen minutes.
        try set("infra-keep-probing", "yes")
        try set("infra-host-ttl", "60")
        try set("cache-max-negative-ttl", "300")
        if let file = configuration.trustAnchorFile {
            try check(ub_ctx_add_ta_file(pointer, file), "trust anchor")
        }
        if let stub {
            // Which addresses may be asked was decided before; here a lab's may be loopback.
            try set("do-not-query-localhost", "no")
            for address in stub.addresses {
                try check(
                    ub_ctx_set_stub(pointer, "\(stub.zone).", "\(address)@\(stub.port)", 0),
                    "the nameservers of \(stub.zone)"
                )
            }
        }
        if let server = configuration.server {
            try set("do-not-query-localhost", "no")
            try set("unblock-lan-zones", "yes")
            try set("insecure-lan-zones", "yes")
            try check(ub_ctx_set_fwd(pointer, "\(server.host)@\(server.port)"), "COMMUNE_DNS_SERVER")
            // These finalize the context, so they come last.
            for zone in Self.zonesAnsweredLocally { try check(ub_ctx_zone_remove(pointer, zone), zone) }
        } else if access("/etc/resolv.conf", R_OK) == 0 {
            try set("do-not-query-localhost", "no")
            try check(ub_ctx_resolvconf(pointer, nil), "/etc/resolv.conf")
        }
    }

    /// Waits for libunbound's own thread.
    deinit { ub_ctx_delete(pointer) }

    private func set(_ option: String, _ value: String) throws(DNSFault) {
        try check(ub_ctx_set_option(pointer, "\(option):", value), option)
    }

    private func check(_ status: Int32, _ what: String) throws(DNSFault) {
        guard status == UB_NOERROR.rawValue else {
            throw .serverFailure("libunbound, \(what): \(String(cString: ub_strerror(status)))")
        }
    }

    /// Zones that libunbound answers itself and that `unblock-lan-zones` leaves alone.
    ///
    /// A chosen server is asked about these too.
    private static let zonesAnsweredLocally = [
        "localhost.", "test.", "invalid.", "onion.", "127.in-addr.arpa.",
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
    ]
}

extension DNSAnswer {
    /// Reads a result of libunbound.
    static func read(_ result: ub_result, name: String, type: RecordType) -> Result<DNSAnswer, DNSFault> {
        if result.bogus != 0 {
            let reason = result.why_bogus.map { String(cString: $0) } ?? "the signatures are wrong"
            return .failure(.serverFailure("DNSSEC: \(reason.prefix(200))"))
        }
        if result.nxdomain != 0 { return .failure(.noSuchName) }
        guard result.rcode == 0 else {
            return .failure(.serverFailure(rcodeNames[Int(result.rcode)] ?? "RCODE \(result.rcode)"))
        }
        var records: [DNSRecord] = []
        var malformed = 0
        var index = 0
        while result.havedata != 0, let data = result.data[index] {
            let bytes = [UInt8](UnsafeRawBufferPointer(start: data, count: Int(result.len[index])))
            if let record = DNSRecord(type, data: bytes) { records.append(record) } else { malformed += 1 }
            index += 1
        }
        // One bad record does not make the good ones worthless.
        if records.isEmpty, malformed > 0 {
            return .failure(.malformed("the answer holds no valid \(type) record"))
        }
        return .success(
            DNSAnswer(
                records: records,
                secure: result.secure != 0,
                canonicalName: DomainName.normal(result.canonname.map { String(cString: $0) } ?? name),
                ttlSeconds: max(0, Int(result.ttl))
            )
        )
    }

    private static let rcodeNames = [1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"]
}
