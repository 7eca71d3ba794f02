// The whole surface on one screen: what a request passes through, and every route.

import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import Platform

/// Every route: what it needs, and where it goes.
///
/// Tests walk this table, so that a new route cannot escape them.
let routeTable: [Route] = [
    Route(.get, "/healthz", .open, Health.live),
    Route(.get, "/readyz", .open, Health.ready),
    Route(.get, "/openapi.json", .open, ReferenceRoutes.document),
    Route(.get, "/docs", .open, ReferenceRoutes.page),
    Route(.get, "/unsubscribe", .open, UnsubscribeRoutes.page),
    Route(.post, "/unsubscribe", .open, bodyMax: 64 << 10, UnsubscribeRoutes.unsubscribe),

    Route(.get, "/v1/domains", .scope("domains:read"), DomainRoutes.list),
    Route(.post, "/v1/domains", .scope("domains:write"), isRepeatable: true, DomainRoutes.create),
    Route(.get, "/v1/domains/{domain_id}", .scope("domains:read"), DomainRoutes.show),
    Route(.post, "/v1/domains/{domain_id}/verify", .scope("domains:write"), DomainRoutes.verify),
    Route(.get, "/v1/domains/{domain_id}/records", .scope("domains:read"), DomainRoutes.records),

    Route(.get, "/v1/inboxes", .scope("inboxes:read"), InboxRoutes.list),
    Route(.post, "/v1/inboxes", .scope("inboxes:write"), isRepeatable: true, InboxRoutes.create),
    Route(.get, "/v1/inboxes/{inbox_id}", .scope("inboxes:read"), InboxRoutes.show),
    Route(.patch, "/v1/inboxes/{inbox_id}", .scope("inboxes:write"), InboxRoutes.update),
    Route(.get, "/v1/domains/{domain_id}/inboxes", .scope("inboxes:read"), InboxRoutes.listOfDomain),
    Route(
        .post,
        "/v1/domains/{domain_id}/inboxes",
        .scope("inboxes:write"),
        isRepeatable: true,
        InboxRoutes.createInDomain
    ),
    Route(
        .get,
        "/v1/domains/{domain_id}/inboxes/{inbox_id}",
        .scope("inboxes:read"),
        InboxRoutes.showOfDomain
    ),
    Route(
        .put,
        "/v1/domains/{domain_id}/inboxes/{inbox_id}",
        .scope("inboxes:write"),
        InboxRoutes.updateInDomain
    ),
    Route(
        .delete,
        "/v1/domains/{domain_id}/inboxes/{inbox_id}",
        .scope("inboxes:write"),
        InboxRoutes.delete
    ),
    Route(
        .post,
        "/v1/domains/{domain_id}/inboxes/{inbox_id}/webhook",
        .scope("inboxes:write"),
        InboxRoutes.setWebhook
    ),

    Route(.get, "/v1/threads", .scope("threads:read"), ThreadRoutes.list),
    Route(.get, "/v1/threads/{thread_id}", .scope("threads:read"), ThreadRoutes.show),
    Route(.patch, "/v1/threads/{thread_id}", .scope("threads:write"), ThreadTriageRoutes.update),
    Route(.get, "/v1/threads/{thread_id}/messages", .scope("threads:read"), ThreadRoutes.messages),
    Route(.get, "/v1/threads/{thread_id}/metadata", .scope("threads:read"), ThreadRoutes.metadata),
    Route(.put, "/v1/threads/{thread_id}/status", .scope("threads:write"), ThreadTriageRoutes.setStatus),
    Route(.put, "/v1/threads/{thread_id}/assign", .scope("threads:write"), ThreadTriageRoutes.assign),
    Route(.post, "/v1/threads/{thread_id}/tags", .scope("threads:write"), ThreadTriageRoutes.addTags),
    Route(.delete, "/v1/threads/{thread_id}/tags", .scope("threads:write"), ThreadTriageRoutes.removeTags),
    Route(
        .post,
        "/v1/threads/{thread_id}/tags/remove",
        .scope("threads:write"),
        ThreadTriageRoutes.removeTags
    ),

    Route(.get, "/v1/search/threads", .scope("threads:read"), SearchRoutes.threads),

    Route(.get, "/v1/messages", .scope("messages:read"), MessageRoutes.list),
    Route(
        .post,
        "/v1/messages/send",
        .scope("messages:write"),
        bodyMax: 10 << 20,
        isRepeatable: true,
        sends: true,
        MessageRoutes.send
    ),
    Route(.get, "/v1/messages/{message_id}", .scope("messages:read"), MessageRoutes.show),

    Route(.get, "/v1/delivery/metrics", .scope("messages:read"), DeliveryRoutes.metrics),
    Route(.get, "/v1/delivery/events", .scope("messages:read"), DeliveryRoutes.events),
    Route(.get, "/v1/delivery/suppressions", .scope("messages:read"), SuppressionRoutes.list),
    Route(
        .post,
        "/v1/delivery/suppressions",
        .scope("messages:write"),
        isRepeatable: true,
        SuppressionRoutes.add
    ),
    Route(.delete, "/v1/delivery/suppressions/{email}", .scope("messages:write"), SuppressionRoutes.remove),

    Route(.get, "/v1/alerts", .scope("messages:read"), AlertRoutes.list),
    Route(.get, "/v1/events/wait", .scope("messages:read"), EventRoutes.wait),

    Route(
        .post,
        "/v1/attachments/upload",
        .scope("attachments:write"),
        bodyMax: AttachmentRoutes.jsonBodyMax,
        streamsBody: true,
        isRepeatable: true,
        AttachmentRoutes.upload
    ),
    Route(.get, "/v1/attachments/{attachment_id}", .scope("attachments:read"), AttachmentRoutes.show),
    Route(.get, "/v1/attachments/{attachment_id}/url", .scope("attachments:read"), AttachmentRoutes.url),
    // A signature in the query stands for the key.
    Route(.get, "/v1/attachments/{attachment_id}/download", .open, AttachmentDownload.get),

    Route(.get, "/v1/dmarc/reports", .scope("domains:read"), DMARCRoutes.list),
    Route(
        .post,
        "/v1/dmarc/reports",
        .scope("domains:write"),
        bodyMax: DMARCRoutes.bodyMax,
        isRepeatable: true,
        DMARCRoutes.add
    ),
    Route(.get, "/v1/dmarc/summary", .scope("domains:read"), DMARCRoutes.summary),

    Route(.get, "/v1/agent/org", .anyKey, KeyRoutes.organization),
    Route(.get, "/v1/agent/api-keys", .scope("admin"), KeyRoutes.list),
    Route(.post, "/v1/agent/api-keys", .scope("admin"), isRepeatable: true, KeyRoutes.create),
    Route(.delete, "/v1/agent/api-keys/{key_id}", .scope("admin"), KeyRoutes.revoke),
]

/// Builds the server around the route table.
func makeApplication(
    _ backend: Backend,
    _ configuration: APIConfiguration,
    logger: Logger
) -> Application<RouterResponder<APIContext>> {
    let router = Router(context: APIContext.self)
    router.add(middleware: Answering(logger: backend.logger))
    for route in routeTable {
        router.on(RouterPath(route.path), method: route.method) { request, context in
            try await route.respond(to: request, context, backend)
        }
    }
    for (path, methods) in Dictionary(grouping: routeTable, by: \.path).mapValues({ $0.map(\.method) }) {
        for method in Route.allMethods where !methods.contains(method) {
            router.on(RouterPath(path), method: method) { _, _ -> Response in
                throw APIError.methodNotAllowed(methods)
            }
        }
    }
    return Application(
        router: router,
        server: .http1(configuration: .init(idleTimeout: .seconds(75))),
        configuration: .init(
            address: .hostname(configuration.listen.host, port: configuration.listen.port),
            backlog: 1024
        ),
        onServerRunning: { _ in
            backend.logger.notice("Listening.", metadata: ["address": "\(configuration.listen)"])
        },
        logger: logger
    )
}
