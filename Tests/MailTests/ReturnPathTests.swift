// `bounce+<token>@send.<domain>`, written and read.

import Mail
import Testing

@Suite("Return path")
struct ReturnPathTests {
    private let token = String(repeating: "abcdefg7", count: 6) + "abcde"

    @Test("it is an address whose local part is within the limit, and it is read back")
    func roundTrip() throws {
        let path = ReturnPath(token: token, domain: "agents.example.com")
        let address = try EmailAddress(path.address)
        #expect(address.description == "bounce+\(token)@send.agents.example.com")
        #expect(address.local.utf8.count <= EmailAddress.localOctetsMax)
        #expect(token.utf8.count <= ReturnPath.tokenOctetsMax)
        #expect(ReturnPath(address) == path)
    }

    @Test("servers that fold case do no harm")
    func folded() throws {
        let address = try EmailAddress("BOUNCE+\(token.uppercased())@SEND.Agents.Example.COM")
        #expect(ReturnPath(address) == ReturnPath(token: token, domain: "agents.example.com"))
    }

    @Test(
        "other addresses are none",
        arguments: [
            "bounce@send.example.com", "bounce+x@example.com", "bounces+x@send.example.com",
            "x+bounce@send.example.com",
            "bounce+x@sender.example.com", "bounce+x@xsend.example.com",
        ]
    )
    func others(_ text: String) throws {
        #expect(ReturnPath(try EmailAddress(text)) == nil)
    }

    @Test("the longest token that fits, and one more")
    func longest() throws {
        let most = String(repeating: "a", count: ReturnPath.tokenOctetsMax)
        #expect((try? EmailAddress(ReturnPath(token: most, domain: "example.com").address)) != nil)
        #expect((try? EmailAddress(ReturnPath(token: most + "a", domain: "example.com").address)) == nil)
    }
}
