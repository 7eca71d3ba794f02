// Lua scripts, called by their hash and loaded again when Redis forgot them.

import Crypto
import Platform

/// A Lua script.
package struct Script: Sendable {
    /// What it is called in logs.
    package let name: String
    /// The hash by which Redis knows it, in hexadecimal.
    package let sha1: String
    let source: [UInt8]

    /// Takes the bytes of an embedded file.
    package init(name: String, source: [UInt8]) {
        self.name = name
        self.source = source
        sha1 = [UInt8](Insecure.SHA1.hash(data: source)).hexadecimal
    }

    /// Takes the text.
    package init(name: String, source: String) {
        self.init(name: name, source: [UInt8](source.utf8))
    }
}

extension Redis {
    /// Runs a script by its hash; where Redis does not know it (restart, `SCRIPT FLUSH`), loads it and runs it.
    @discardableResult
    package func run(
        _ script: Script,
        keys: [String],
        arguments: [RedisArgument] = []
    ) async throws(RedisError) -> RESP {
        var call: [RedisArgument] = ["EVALSHA", RedisArgument(script.sha1), RedisArgument(keys.count)]
        call.reserveCapacity(3 + keys.count + arguments.count)
        for key in keys { call.append(RedisArgument(key)) }
        call.append(contentsOf: arguments)
        do throws(RedisError) {
            return try await command(call)
        } catch .server(let message) where message.hasPrefix("NOSCRIPT") {
            // Both in one write, so that no flush of another client comes between them in practice.
            let replies = try await pipeline([["SCRIPT", "LOAD", RedisArgument(script.source)], call])
            for case .error(let message) in replies { throw .server("\(script.name): \(message)") }
            return replies.last ?? .null
        }
    }
}
