// The API's own description: for programs at /openapi.json, for people at /docs.

import APIReference
import Foundation
import Hummingbird

enum ReferenceRoutes {
    // Read once: it is part of the program.
    private static let reference = Result { try APIReference() }

    static func document(_ call: Call) async throws -> Answer {
        Answer(contentType: "application/json; charset=utf-8", try reference.get().json)
    }

    /// A page that a browser shows without asking anybody else for anything.
    static func page(_ call: Call) async throws -> Answer {
        var answer = Answer(contentType: "text/html; charset=utf-8", Data(try reference.get().page.utf8))
        answer.headers[.contentSecurityPolicy] = "default-src 'none'; style-src 'unsafe-inline'"
        return answer
    }
}
