// Statements made of statements: a filter that is only sometimes there, a list of columns, an inner query.

extension Statement {
    /// Puts another statement behind this one, its parameters renumbered.
    package static func += (statement: inout Statement, addition: Statement) {
        statement = "\(fragment: statement)\(fragment: addition)"
    }
}

extension Statement.StringInterpolation {
    /// Puts another statement's text here, with its parameters.
    package mutating func appendInterpolation(fragment: Statement) {
        guard !fragment.parameters.isEmpty else {
            text += fragment.text
            return
        }
        text += Self.renumber(fragment.text, by: parameters.count)
        parameters += fragment.parameters
    }

    /// Adds `offset` to every `$n`; a `$` without digits, as in `$$`, stays.
    private static func renumber(_ text: String, by offset: Int) -> String {
        var result = ""
        result.reserveCapacity(text.utf8.count + 16)
        var rest = Substring(text)
        while let dollar = rest.firstIndex(of: "$") {
            result += rest[...dollar]
            rest = rest[rest.index(after: dollar)...]
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            if let number = Int(digits) {
                result += String(number + offset)
                rest = rest[digits.endIndex...]
            }
        }
        return result + rest
    }
}
