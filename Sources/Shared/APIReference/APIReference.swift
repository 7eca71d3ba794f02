// The description of the HTTP API, docs/openapi.yaml, as it is served: as JSON for programs, as a page for people.

package import Foundation
import Yams

/// The OpenAPI 3.1 document of this version.
package struct APIReference: Sendable {
    /// `GET /openapi.json`.
    package let json: Data
    /// `GET /docs`: one page that needs nothing from elsewhere.
    package let page: String

    /// The document cannot be read: a fault of the build, which its tests would have shown.
    package struct Unreadable: Error {
        package let reason: String
    }

    /// Reads the document that was built into the program.
    package init() throws {
        let text = String(decoding: PackageResources.openapi_yaml, as: UTF8.self)
        guard let document = try Yams.compose(yaml: text), let object = try Yams.load(yaml: text) else {
            throw Unreadable(reason: "The document is empty.")
        }
        json = try JSONSerialization.data(
            withJSONObject: object,
            options: [.sortedKeys, .withoutEscapingSlashes]
        )
        page = try ReferencePage(document).html()
    }
}
