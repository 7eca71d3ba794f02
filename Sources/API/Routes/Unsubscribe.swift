// One-click unsubscribe (RFC 8058): whoever has the link of a message may stop the mail, without a key or a login.
//
// GET only asks, since mail filters and previews follow links; POST acts, from a mail program's button or ours.

import Foundation
import Hummingbird
import Store

enum UnsubscribeRoutes {
    /// Asks, and changes nothing.
    static func page(_ call: Call) async throws -> Answer {
        guard try await call.store.unsubscriber(try token(call)) != nil else { throw unknownLink }
        // The form goes to this very address, which has the token.
        return Answer(
            page: html(
                "Unsubscribe",
                """
                <p>Do you want no more mail from this sender to the address that this message was sent to?</p>
                <form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">
                <button type="submit">Unsubscribe</button></form>
                """
            )
        )
    }

    /// Suppresses the address for the organization that wrote to it; again changes nothing.
    static func unsubscribe(_ call: Call) async throws -> Answer {
        guard try await call.store.unsubscribe(try token(call)) else { throw unknownLink }
        return Answer(page: html("Unsubscribed", "<p>You will get no more mail from this sender.</p>"))
    }

    private static let unknownLink = APIError(
        .notFound,
        "This unsubscribe link is not known here: it is incomplete, or its message was deleted."
    )

    private static func token(_ call: Call) throws -> String {
        guard let token = call.query("token") else {
            throw APIError.invalid([.init(path: "token", message: "is required.")])
        }
        return token
    }

    // Nothing of the message or of the caller stands in the page, so there is nothing to escape.
    private static func html(_ title: String, _ body: String) -> String {
        """
        <!doctype html>
        <html lang="en"><head><meta charset="utf-8"><title>\(title)</title>
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <style>body{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem}
        button{font:inherit;padding:.5rem 1rem}</style></head>
        <body><h1>\(title)</h1>\(body)</body></html>
        """
    }
}
