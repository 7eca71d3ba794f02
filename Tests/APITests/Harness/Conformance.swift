// Whether an answer is one that docs/openapi.yaml tells of: its status, and every field. The harness asks it of every
// answer that any test gets, so that a field or a status that the document lacks fails the test that sees it.

import APIReference
import Foundation
import HTTPTypes
import Testing

@testable import API

/// The document, as tests ask it.
struct Conformance: Sendable {
    static let document = Result { try Conformance() }

    private let root: JSON

    private init() throws { root = try JSONDecoder().decode(JSON.self, from: APIReference().json) }

    /// Every `METHOD /path` of the document.
    var operations: Set<String> {
        var found: Set<String> = []
        for path in root["paths"].names {
            for method in root["paths"][path].names where method != "parameters" {
                found.insert("\(method.uppercased()) \(path)")
            }
        }
        return found
    }

    /// The document's query parameters of a route.
    func queryParameters(_ route: Route) -> Set<String> {
        Set(
            operation(route)["parameters"].elements.map(resolved)
                .filter { $0["in"].string == "query" }.compactMap { $0["name"].string }
        )
    }

    private func operation(_ route: Route) -> JSON {
        root["paths"][route.path][route.method.rawValue.lowercased()]
    }

    /// What the document lacks of an answer, and of the request that was accepted with it.
    func faults(_ method: HTTPRequest.Method, _ target: String, body: JSON?, reply: Reply) -> [String] {
        guard let route = Self.route(method, target) else { return [] }
        let operation = operation(route)
        let answers = operation["responses"]
        let name = "\(method.rawValue) \(route.path)"
        guard answers.names.contains(String(reply.status)) else {
            return ["\(name) answered \(reply.status), which the document does not list"]
        }
        var faults: [String] = []
        let content = resolved(answers[String(reply.status)])["content"]
        if content["application/json"] != .null {
            check(reply.body, content["application/json"]["schema"], "\(name) \(reply.status): $", &faults)
        } else if reply.body != .null {
            faults.append("\(name) \(reply.status) has a body, which the document does not list")
        }
        if reply.status < 300, let body, body != .null {
            let schema = resolved(operation["requestBody"])["content"]["application/json"]["schema"]
            if schema != .null { check(body, schema, "\(name) request: $", &faults) }
        }
        return faults
    }

    /// The route of the table that a request target goes to.
    private static func route(_ method: HTTPRequest.Method, _ target: String) -> Route? {
        let path = target.prefix { $0 != "?" }.split(separator: "/", omittingEmptySubsequences: false)
        let fitting = routeTable.filter { route in
            let parts = route.path.split(separator: "/", omittingEmptySubsequences: false)
            return parts.count == path.count
                && zip(parts, path).allSatisfy { $0.hasPrefix("{") ? !$1.isEmpty : $0 == $1 }
        }
        // `/v1/messages/send` before `/v1/messages/{message_id}`, as the router has it.
        // A word is a path of its own for every method: of GET /v1/attachments/upload the answer is 405.
        let words = fitting.filter { !$0.path.contains("{") }
        return (words.isEmpty ? fitting : words).first { $0.method == method }
    }

    private func resolved(_ node: JSON) -> JSON {
        guard let reference = node["$ref"].string else { return node }
        return reference.dropFirst(2).split(separator: "/").reduce(root) { $0[String($1)] }
    }

    // MARK: Schemas

    private func check(_ value: JSON, _ schema: JSON, _ place: String, _ faults: inout [String]) {
        let schema = resolved(schema)
        let members = self.members(of: schema, for: value)
        for part in schema["allOf"].elements { checkOwn(value, resolved(part), place, &faults) }
        checkOwn(value, schema, place, &faults)
        if case .object = value, members.isClosed {
            for name in value.names.subtracting(members.properties.keys) {
                faults.append("\(place).\(name) is not in the document")
            }
        }
        for name in members.required.subtracting(value.names) where value != .null {
            faults.append("\(place).\(name) is missing, though the document requires it")
        }
        for (name, property) in members.properties where value.names.contains(name) {
            check(value[name], property, "\(place).\(name)", &faults)
        }
    }

    /// What a schema says by itself: type, values, pattern, items, and the choices.
    private func checkOwn(_ value: JSON, _ schema: JSON, _ place: String, _ faults: inout [String]) {
        if schema["const"] != .null, schema["const"] != value {
            faults.append("\(place) is not \(schema["const"])")
        }
        if case .array(let values) = schema["enum"], !values.contains(value) {
            faults.append("\(place) is \(value), which the document does not list")
        }
        let types = schema["type"].string.map { [$0] } ?? schema["type"].elements.compactMap(\.string)
        if !types.isEmpty, !types.contains(where: value.isOfType) {
            faults.append("\(place) is \(value), not \(types.joined(separator: " or "))")
        }
        if let pattern = schema["pattern"].string, let text = value.string,
            text.range(of: pattern, options: .regularExpression) == nil
        {
            faults.append("\(place) is \(text), which does not match \(pattern)")
        }
        if case .array(let elements) = value, schema["items"] != .null {
            for (index, element) in elements.enumerated() {
                check(element, schema["items"], "\(place)[\(index)]", &faults)
            }
        }
        for choice in ["oneOf", "anyOf"] where schema[choice] != .null {
            let fits = schema[choice].elements.contains { part in
                var own: [String] = []
                check(value, part, place, &own)
                return own.isEmpty
            }
            if !fits { faults.append("\(place) fits none of the document's choices: \(value)") }
        }
    }

    private struct Members {
        var properties: [String: JSON] = [:]
        var required: Set<String> = []
        var isClosed = false
    }

    /// The members of an object schema and of the parts it is made of; closed unless it lets others in.
    private func members(of schema: JSON, for value: JSON) -> Members {
        var members = Members()
        for part in [schema] + schema["allOf"].elements.map(resolved) {
            for name in part["properties"].names { members.properties[name] = part["properties"][name] }
            members.required.formUnion(part["required"].elements.compactMap(\.string))
            if part["properties"] != .null, part["additionalProperties"] == .null { members.isClosed = true }
        }
        return members
    }
}

extension JSON {
    fileprivate func isOfType(_ name: String) -> Bool {
        switch (self, name) {
        case (.null, "null"), (.bool, "boolean"), (.string, "string"), (.array, "array"), (.object, "object"),
            (.number, "number"):
            true
        case (.number(let value), "integer"): value == value.rounded()
        default: false
        }
    }
}
