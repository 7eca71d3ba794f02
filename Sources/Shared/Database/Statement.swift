// SQL text and its parameters. Values are bound by the server and never become part of the text.

import Foundation

/// SQL text with its parameters: `"… WHERE id = \(id)"` binds `$1`.
package struct Statement: Sendable, ExpressibleByStringInterpolation {
    /// The text as PostgreSQL parses it, with `$1`, `$2`, ….
    package let text: String
    /// The values of `$1`, `$2`, … in order.
    package let parameters: [BoundParameter]

    /// The most parameters that one statement can carry: the protocol counts them in sixteen bits.
    static let parametersMax = 65_535

    init(text: String, parameters: [BoundParameter]) {
        self.text = text
        self.parameters = parameters
    }

    /// Takes text without parameters.
    package init(stringLiteral text: String) {
        self.init(text: text, parameters: [])
    }

    /// Takes text with bound values.
    package init(stringInterpolation: StringInterpolation) {
        self.init(text: stringInterpolation.text, parameters: stringInterpolation.parameters)
    }

    /// Why this statement cannot be sent, found before a connection is taken for it.
    var fault: DatabaseError? {
        if parameters.count > Self.parametersMax {
            return .failed(
                sqlstate: "54000",
                message: """
                    a statement takes at most \(Self.parametersMax) parameters and this one has \
                    \(parameters.count): pass arrays and use unnest()
                    """
            )
        }
        // libpq takes the text up to the first NUL; the rest would vanish.
        if text.utf8.contains(0) {
            return .failed(sqlstate: "42601", message: "the statement's text holds a NUL character")
        }
        for parameter in parameters {
            if let fault = parameter.fault { return fault }
        }
        return nil
    }
}

extension Statement {
    /// Collects text and parameters of an interpolated literal.
    package struct StringInterpolation: StringInterpolationProtocol {
        var text = ""
        var parameters: [BoundParameter] = []

        /// Reserves room for what the compiler knows is coming.
        package init(literalCapacity: Int, interpolationCount: Int) {
            text.reserveCapacity(literalCapacity + interpolationCount * 4)
            parameters.reserveCapacity(interpolationCount)
        }

        /// Takes literal SQL.
        package mutating func appendLiteral(_ literal: String) {
            text += literal
        }

        /// Binds a value.
        package mutating func appendInterpolation<Value: Parameter>(_ value: Value) {
            bind(BoundParameter(value))
        }

        /// Binds a value, or NULL.
        package mutating func appendInterpolation<Value: Parameter>(_ value: Value?) {
            bind(BoundParameter(value))
        }

        /// Binds the raw value of an enumeration.
        @_disfavoredOverload
        package mutating func appendInterpolation<Value: RawRepresentable>(_ value: Value)
        where Value.RawValue: Parameter {
            bind(BoundParameter(value.rawValue))
        }

        /// Binds the raw value of an enumeration, or NULL.
        @_disfavoredOverload
        package mutating func appendInterpolation<Value: RawRepresentable>(_ value: Value?)
        where Value.RawValue: Parameter {
            bind(BoundParameter(value?.rawValue))
        }

        /// Binds a value as `jsonb`.
        package mutating func appendInterpolation<Value: Encodable>(json value: Value) {
            do {
                let document = try JSONEncoder().encode(value)
                bind(BoundParameter(type: .jsonb, value: .text(String(decoding: document, as: UTF8.self))))
            } catch {
                bind(BoundParameter(type: .jsonb, value: .invalid("a value could not be written as JSON")))
            }
        }

        /// Puts trusted SQL into the text; never anything that came from outside.
        package mutating func appendInterpolation(raw sql: String) {
            text += sql
        }

        private mutating func bind(_ parameter: BoundParameter) {
            parameters.append(parameter)
            text += "$"
            text += String(parameters.count)
        }
    }
}
