// docs/openapi.yaml tells of every route and of nothing else, and is served as JSON and as a page.

import Foundation
import HTTPTypes
import Testing

@testable import API

@Suite("The API reference")
struct ReferenceTests {
    @Test("lists every route of the route table, and no other")
    func routes() throws {
        let table = Set(routeTable.map { "\($0.method.rawValue) \($0.path)" })
        #expect(try Conformance.document.get().operations == table)
    }

    @Test("tells a keyed route's scope, and the refusals that every keyed route can give")
    func refusals() async throws {
        try await withPlatform { platform in
            let document = try await platform.get("/openapi.json", key: nil)
            for route in routeTable {
                let operation = document.body["paths"][route.path][route.method.rawValue.lowercased()]
                #expect(operation["operationId"].string != nil, "\(route.path)")
                guard route.access != .open else {
                    #expect(operation["security"] == .array([]), "\(route.path) asks for no key")
                    continue
                }
                if case .scope(let scope) = route.access {
                    let description = operation["description"].string ?? ""
                    #expect(description.contains("`\(scope)`"), "\(route.method) \(route.path): \(scope)")
                    #expect(operation["responses"].names.contains("403"), "\(route.path)")
                }
                #expect(
                    operation["responses"].names.isSuperset(of: ["401", "429", "500", "503"]),
                    "\(route.path)"
                )
                if route.path.contains("{") {
                    #expect(operation["responses"].names.contains("404"), "\(route.path)")
                }
                if route.isRepeatable {
                    let key: JSON = ["$ref": "#/components/parameters/IdempotencyKey"]
                    #expect(operation["parameters"].elements.contains(key), "\(route.path)")
                    #expect(operation["responses"].names.contains("409"), "\(route.path)")
                }
            }
        }
    }

    @Test("is a page that names every route and asks no other host for anything")
    func page() async throws {
        try await withPlatform { platform in
            let page = try await platform.get("/docs", key: nil)
            #expect(page.status == 200)
            #expect(page.header("Content-Type") == "text/html; charset=utf-8")
            for route in routeTable {
                #expect(page.text.contains("<b>\(route.method.rawValue)</b> \(route.path)<"), "\(route.path)")
            }
            #expect(!page.text.contains("://"), "It links to another host.")
            #expect(page.text.contains("<code>inboxes:write</code>"))
        }
    }

    @Test("a test sees what the document lacks: the check itself fails where it should")
    func checkFails() async throws {
        try await withPlatform { platform in
            let document = try Conformance.document.get()
            let inboxes = try await platform.get("/v1/inboxes")
            func faults(_ body: JSON, status: Int = 200) -> [String] {
                document.faults(
                    .get,
                    "/v1/inboxes",
                    body: nil,
                    reply: Reply(status: status, headers: [:], body: body, text: "")
                )
            }
            #expect(faults(inboxes.body).isEmpty)
            #expect(!faults(["data": [], "more": 1]).isEmpty)
            #expect(!faults(["data": [["id": "x"]]]).isEmpty)
            #expect(!faults(["data": "none"]).isEmpty)
            #expect(!faults([:]).isEmpty)
            #expect(!faults(inboxes.body, status: 418).isEmpty)
        }
    }
}
