// Which statements one connection has prepared by name.

/// Names of prepared statements; dies with its connection.
struct PreparedStatements {
    /// Text and parameter types: the same text may be used with other types.
    struct Key: Hashable {
        let text: String
        let types: Int

        init(_ statement: Statement) {
            text = statement.text
            var hasher = Hasher()
            for parameter in statement.parameters { hasher.combine(parameter.type) }
            types = hasher.finalize()
        }
    }

    enum Lookup {
        /// Prepared, or about to be by an earlier statement of this exchange.
        case prepared(String)
        /// To be prepared under this name.
        case new(String)
        /// The cache is full: send it unnamed.
        case unnamed
    }

    /// Texts made by hand are few; what is beyond is made by a program and would never be met again.
    private static let countMax = 256

    private var names: [Key: String] = [:]
    private var tentative: [Key: String] = [:]
    private var counter = 0

    mutating func lookUp(_ key: Key) -> Lookup {
        if let name = names[key] ?? tentative[key] { return .prepared(name) }
        guard names.count + tentative.count < Self.countMax else { return .unnamed }
        counter += 1
        let name = "s\(counter)"
        tentative[key] = name
        return .new(name)
    }

    /// PostgreSQL has prepared it.
    mutating func confirm(_ key: Key) {
        names[key] = tentative.removeValue(forKey: key)
    }

    /// What was not confirmed was skipped after an error.
    mutating func endExchange() {
        tentative.removeAll(keepingCapacity: true)
    }
}
