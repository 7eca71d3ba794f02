// The environment, read once at the start of a program. Each module reads its own part; every fault is
// collected, so that an operator sees all of them at once and not one a restart.

import Foundation

/// Reads variables of the environment and remembers what was wrong with them.
package struct Settings: Sendable {
    /// One fault: the variable's name and what is wrong, as a sentence without the value.
    package struct Fault: Error, Sendable, Equatable, CustomStringConvertible {
        package let variable: String
        package let message: String
        package var description: String { "\(variable) \(message)" }
    }

    /// Faults found so far, in reading order.
    package private(set) var faults: [Fault] = []
    private let values: [String: String]

    /// Reads from `values`; a program passes its environment.
    package init(_ values: [String: String] = ProcessInfo.processInfo.environment) {
        self.values = values
    }

    /// Notes a fault of a variable.
    package mutating func fault(_ variable: String, _ message: String) {
        faults.append(Fault(variable: variable, message: message))
    }

    /// The text of a variable; an empty one counts as unset.
    package func text(_ variable: String) -> String? {
        guard let value = values[variable], !value.isEmpty else { return nil }
        return value
    }

    /// A variable that must be set; `purpose` completes "is not set: it …".
    package mutating func required(_ variable: String, purpose: String) -> String? {
        guard let value = text(variable) else {
            fault(variable, "is not set: it \(purpose).")
            return nil
        }
        return value
    }

    /// A whole number within `range`, or `fallback` when unset.
    package mutating func integer(
        _ variable: String,
        in range: ClosedRange<Int>,
        default fallback: Int
    ) -> Int {
        guard let value = text(variable) else { return fallback }
        guard let number = Int(value), range.contains(number) else {
            fault(
                variable,
                "must be a whole number from \(range.lowerBound) to \(range.upperBound), not “\(value.prefix(40))”."
            )
            return fallback
        }
        return number
    }

    /// Seconds, with a fraction if need be, or `fallback` when unset.
    package mutating func seconds(
        _ variable: String,
        in range: ClosedRange<Double>,
        default fallback: Duration
    ) -> Duration {
        guard let value = text(variable) else { return fallback }
        guard let number = Double(value), range.contains(number) else {
            fault(
                variable,
                "must be seconds from \(range.lowerBound) to \(range.upperBound), not “\(value.prefix(40))”."
            )
            return fallback
        }
        return .microseconds(Int64(number * 1_000_000))
    }

    /// `on` or `off` (also true/false, 1/0), or `fallback` when unset.
    package mutating func flag(_ variable: String, default fallback: Bool) -> Bool {
        switch text(variable)?.lowercased() {
        case nil: return fallback
        case "on", "true", "1", "yes": return true
        case "off", "false", "0", "no": return false
        default:
            fault(variable, "must be on or off.")
            return fallback
        }
    }

    /// `host:port`, IPv6 in brackets, or nil when unset.
    package mutating func hostPort(_ variable: String) -> HostPort? {
        guard let value = text(variable) else { return nil }
        guard let parsed = HostPort(value) else {
            fault(variable, "must be host:port, not “\(value.prefix(80))”.")
            return nil
        }
        return parsed
    }

    /// Elements between commas, trimmed, empty ones left out.
    package func list(_ variable: String) -> [String] {
        (text(variable) ?? "").split(separator: ",")
            .map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { !$0.isEmpty }
    }

    /// Ends the program with status 78 (`EX_CONFIG` of sysexits) and the list of faults, if there are any.
    package func exitOnFaults() {
        guard !faults.isEmpty else { return }
        let lines = faults.map { "  \($0)\n" }.joined()
        FileHandle.standardError.write(
            Data("Commune cannot start: the configuration has faults.\n\(lines)".utf8)
        )
        exit(78)
    }
}

/// A host name or address with a port.
package struct HostPort: Sendable, Hashable, CustomStringConvertible {
    package let host: String
    package let port: Int

    /// Takes both parts.
    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Reads `host:port`, `[v6]:port`, or, with a default port, the host alone.
    package init?(_ text: String, defaultPort: Int? = nil) {
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { return nil }
            let rest = text[text.index(after: end)...]
            let port = rest.hasPrefix(":") ? Int(rest.dropFirst()) : (rest.isEmpty ? defaultPort : nil)
            self.init(String(text[text.index(after: text.startIndex)..<end]), checking: port)
        } else if let colon = text.firstIndex(of: ":") {
            // With a second colon it is an IPv6 address, whose port nobody could tell without brackets.
            guard text.lastIndex(of: ":") == colon else { return nil }
            self.init(String(text[..<colon]), checking: Int(text[text.index(after: colon)...]))
        } else {
            self.init(text, checking: defaultPort)
        }
    }

    private init?(_ host: String, checking port: Int?) {
        guard let port, (1...65_535).contains(port), !host.isEmpty, host.utf8.count <= 255 else { return nil }
        self.init(host: host, port: port)
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
