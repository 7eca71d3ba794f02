// The page of the API reference: sections by tag, each route with its fields and answers.

import Mustache
import Yams

/// What the template `page.mustache` is filled with.
struct ReferencePage {
    struct Section {
        let name: String
        let operations: [Operation]
    }

    struct Operation {
        let id: String
        let method: String
        let path: String
        let summary: String
        let description: String
        let parameters: [SchemaField]
        let body: [SchemaField]
        let answers: [Answer]
        // Stored, because templates see no computed members.
        let hasParameters: Bool
        let hasBody: Bool
    }

    struct Answer {
        let status: String
        let description: String
        let fields: [SchemaField]
    }

    private static let methods = ["get", "post", "put", "patch", "delete"]

    let title: String
    let summary: String
    let introduction: String
    let sections: [Section]

    init(_ document: Node) {
        title = document["info"]?["title"]?.string ?? ""
        summary = document["info"]?["summary"]?.string ?? ""
        introduction = Markdown.html(document["info"]?["description"]?.string ?? "")
        let schemas = SchemaReader(document)
        let tags = (document["tags"]?.sequence ?? []).compactMap { $0["name"]?.string }
        var byTag: [String: [Operation]] = [:]
        for (path, item) in document["paths"]?.mapping ?? [:] {
            for (method, operation) in item.mapping ?? [:] {
                guard let path = path.string, let method = method.string, Self.methods.contains(method)
                else { continue }
                let tag = operation["tags"]?[0]?.string ?? ""
                byTag[tag, default: []].append(Self.operation(operation, method, path, schemas))
            }
        }
        sections = tags.compactMap { tag in byTag[tag].map { Section(name: tag, operations: $0) } }
    }

    func html() throws -> String {
        var library = MustacheLibrary()
        try library.register(String(decoding: PackageResources.page_mustache, as: UTF8.self), named: "page")
        try library.register(String(decoding: PackageResources.field_mustache, as: UTF8.self), named: "field")
        return library.render(self, withTemplate: "page") ?? ""
    }

    private static func operation(
        _ operation: Node,
        _ method: String,
        _ path: String,
        _ schemas: SchemaReader
    ) -> Operation {
        let parameters = (operation["parameters"]?.sequence ?? []).map(schemas.resolved).map { parameter in
            SchemaField(
                name: parameter["name"]?.string ?? "",
                type: schemas.type(of: parameter["schema"] ?? [:]),
                place: parameter["in"]?.string ?? "",
                isRequired: parameter["required"]?.bool ?? false,
                description: Markdown.html(parameter["description"]?.string ?? ""),
                depth: 0
            )
        }
        let answers = (operation["responses"]?.mapping ?? [:]).map { status, answer in
            let answer = schemas.resolved(answer)
            return Answer(
                status: status.string ?? "",
                description: Markdown.html(answer["description"]?.string ?? ""),
                fields: schemas.fields(ofContent: answer["content"])
            )
        }
        let body = schemas.fields(ofContent: operation["requestBody"].map(schemas.resolved)?["content"])
        return Operation(
            id: operation["operationId"]?.string ?? "\(method)\(path)",
            method: method.uppercased(),
            path: path,
            summary: operation["summary"]?.string ?? "",
            description: Markdown.html(operation["description"]?.string ?? ""),
            parameters: parameters,
            body: body,
            answers: answers,
            hasParameters: !parameters.isEmpty,
            hasBody: !body.isEmpty
        )
    }
}
