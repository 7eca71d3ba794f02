// Record data as it stands in an answer, the hostile kind included.

import TestSupport
import Testing

@testable import DNS

@Suite("Record data")
struct RecordTests {
    @Test("each type is read")
    func types() throws {
        let mail: [UInt8] = [4] + "MAIL".utf8 + [4] + "Test".utf8 + [0]
        #expect(DNSRecord(.mx, data: [0, 10] + mail) == .mx(preference: 10, exchange: "mail.test"))
        #expect(DNSRecord(.mx, data: [0, 0, 0]) == .mx(preference: 0, exchange: "."))
        #expect(DNSRecord(.cname, data: mail) == .name("mail.test"))
        #expect(DNSRecord(.a, data: [127, 0, 0, 1]) == .address(.v4(0x7f00_0001)))
        #expect(DNSRecord(.aaaa, data: Array(repeating: 0, count: 15) + [1]) == .address(.v6(1)))
        let text: [UInt8] = [3] + "v=s".utf8 + [0, 3] + "pf1".utf8
        #expect(DNSRecord(.txt, data: text) == .txt("v=spf1"))
        #expect(DNSRecord(.txt, data: []) == .txt(""))
        #expect(DNSRecord(.txt, data: [1, 0xff]) == .txt("\u{fffd}"))
        #expect(
            DNSRecord(.tlsa, data: [3, 1, 1, 9, 8])
                == .tlsa(usage: 3, selector: 1, matching: 1, data: [9, 8])
        )
    }

    @Test("bytes in labels that could be taken for syntax are escaped")
    func escapes() {
        let name: [UInt8] = [3, 0x2e, 0x00, 0x5c, 2, 0x20, 0xff, 0]
        #expect(DNSRecord(.ns, data: name) == .name("\\.\\000\\\\.\\032\\255"))
    }

    @Test(
        "what is cut, too long or compressed is no record",
        arguments: [
            (RecordType.a, [UInt8]()), (.a, [1, 2, 3]), (.a, [1, 2, 3, 4, 5]), (.aaaa, [1, 2, 3, 4]),
            (.a, Array(repeating: 1, count: 16)), (.mx, [0]), (.mx, [0, 10]), (.mx, [0, 10, 4, 65]),
            (.mx, [0, 10, 1, 65]), (.mx, [0, 10, 0, 0]), (.cname, [0xc0, 0x0c]),
            (.cname, [64] + Array(repeating: 65, count: 64) + [0]),
            (.cname, Array(repeating: [1, 65], count: 128).flatMap { $0 } + [0]), (.txt, [5, 65]),
            (.tlsa, [1, 2]),
        ]
    )
    func malformed(_ type: RecordType, _ data: [UInt8]) {
        #expect(DNSRecord(type, data: data) == nil)
    }

    @Test("no mutation of a record does harm")
    func mutations() {
        var generator = SeededGenerator(seed: 20_260_101)
        let seeds: [(RecordType, [UInt8])] = [
            (.mx, [0, 10, 4] + "mail".utf8 + [4] + "test".utf8 + [0]),
            (.txt, [10] + "v=DKIM1; k".utf8 + [3] + "=rs".utf8),
            (.ptr, [3] + "www".utf8 + [3] + "a\\.".utf8 + [0]),
        ]
        var read = 0
        for _ in 0..<3000 {
            for (type, seed) in seeds {
                var data = seed
                for _ in 0...Int.random(in: 0...3, using: &generator) {
                    let index = Int.random(in: 0..<max(1, data.count), using: &generator)
                    switch Int.random(in: 0..<3, using: &generator) {
                    case 0 where index < data.count:
                        data[index] = UInt8.random(in: 0...255, using: &generator)
                    case 1 where index < data.count: data.remove(at: index)
                    default:
                        data.insert(UInt8.random(in: 0...255, using: &generator), at: min(index, data.count))
                    }
                }
                guard let record = DNSRecord(type, data: data) else { continue }
                read += 1
                if case .name(let name) = record {
                    #expect(name.utf8.allSatisfy { (0x21...0x7e).contains($0) })
                }
            }
        }
        #expect(read > 0)
    }
}
