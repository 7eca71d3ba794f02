// JSON Schema as a reader of the page wants it: a flat list of fields, the inner ones set in.

import Yams

/// A field of a request or an answer.
struct SchemaField {
    let name: String
    let type: String
    /// `query`, `path` or `header` for a parameter.
    var place = ""
    let isRequired: Bool
    let description: String
    let depth: Int
}

/// Follows the references of one document.
struct SchemaReader {
    private static let depthMax = 6

    private let document: Node

    init(_ document: Node) { self.document = document }

    /// What a `$ref` into the document points to; anything else is itself.
    func resolved(_ node: Node) -> Node {
        guard let reference = node["$ref"]?.string, reference.hasPrefix("#/") else { return node }
        var place: Node? = document
        for name in reference.dropFirst(2).split(separator: "/") { place = place?[String(name)] }
        return place ?? node
    }

    /// The fields of the first media type of a body.
    func fields(ofContent content: Node?) -> [SchemaField] {
        guard let media = content?.mapping?.first?.value, let schema = media["schema"] else { return [] }
        return fields(of: schema, depth: 0)
    }

    /// A schema in a few words: `string`, `list of Thread`, `open | closed`.
    func type(of schema: Node) -> String {
        if let name = schema["$ref"]?.string?.split(separator: "/").last,
            resolved(schema)["properties"] != nil
        {
            return String(name)
        }
        let schema = resolved(schema)
        if let only = schema["const"]?.string { return only }
        if let values = schema["enum"]?.sequence {
            return values.map { $0.string ?? "null" }.joined(separator: " | ")
        }
        for choice in ["oneOf", "anyOf"] {
            if let parts = schema[choice]?.sequence {
                return parts.map { type(of: $0) }.joined(separator: " or ")
            }
        }
        if schema["allOf"] != nil { return "object" }
        let name: String =
            switch schema["type"] {
            case .scalar(let scalar)?: scalar.string
            case .sequence(let names)?: names.compactMap(\.string).joined(separator: " or ")
            default: "any"
            }
        if name == "array", let items = schema["items"] { return "list of \(type(of: items))" }
        return schema["format"]?.string.map { "\(name) (\($0))" } ?? name
    }

    private func fields(of schema: Node, depth: Int) -> [SchemaField] {
        guard depth < Self.depthMax else { return [] }
        let schema = resolved(schema)
        if let parts = (schema["allOf"] ?? schema["oneOf"] ?? schema["anyOf"])?.sequence {
            return parts.flatMap { fields(of: $0, depth: depth) }
        }
        if let items = schema["items"] { return fields(of: items, depth: depth) }
        let required = Set((schema["required"]?.sequence ?? []).compactMap(\.string))
        return (schema["properties"]?.mapping ?? [:]).flatMap { key, property -> [SchemaField] in
            let name = key.string ?? ""
            let description = property["description"]?.string ?? resolved(property)["description"]?.string
            let field = SchemaField(
                name: name,
                type: type(of: property),
                isRequired: required.contains(name),
                description: Markdown.html(description ?? ""),
                depth: depth
            )
            return [field] + fields(of: property, depth: depth + 1)
        }
    }
}
