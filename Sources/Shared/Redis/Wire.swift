// The wire format, which is hiredis' work: commands to bytes, bytes to replies. No sockets here.

import CHiredis

/// Appends one command in the form that Redis reads.
func appendCommand(_ arguments: [RedisArgument], to bytes: inout [UInt8]) {
    let total = arguments.reduce(0) { $0 + $1.count }
    // hiredis wants pointers to all words at once, so the words are laid side by side first.
    withUnsafeTemporaryAllocation(byteCount: max(total, 1), alignment: 1) { words in
        withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: arguments.count) { starts in
            withUnsafeTemporaryAllocation(of: Int.self, capacity: arguments.count) { lengths in
                guard let base = words.baseAddress else { return }
                var offset = 0
                for (index, argument) in arguments.enumerated() {
                    let start = base + offset
                    let count = argument.withBytes { source in
                        if let first = source.baseAddress {
                            start.copyMemory(from: first, byteCount: source.count)
                        }
                        return source.count
                    }
                    starts.initializeElement(
                        at: index,
                        to: UnsafePointer(start.assumingMemoryBound(to: CChar.self))
                    )
                    lengths.initializeElement(at: index, to: count)
                    offset += count
                }
                var formatted: UnsafeMutablePointer<CChar>?
                let length = redisFormatCommandArgv(
                    &formatted,
                    Int32(arguments.count),
                    starts.baseAddress,
                    lengths.baseAddress
                )
                // Negative only when memory is out, where Swift's own allocations end the program too.
                guard length > 0, let formatted else {
                    preconditionFailure("hiredis could not format a command")
                }
                bytes.append(contentsOf: UnsafeRawBufferPointer(start: formatted, count: Int(length)))
                redisFreeCommand(formatted)
            }
        }
    }
}

/// Bytes that are no RESP, or a reply larger than we hold.
struct ProtocolFault: Error, CustomStringConvertible {
    let description: String
}

/// Reads replies from bytes as they come.
///
/// Owned by one connection, on its event loop alone.
final class ReplyParser {
    private let reader: UnsafeMutablePointer<redisReader>
    private let replyBytesMax: Int
    private var bytesSinceReply = 0

    /// Holds at most `replyBytesMax` bytes of an unfinished reply.
    init(replyBytesMax: Int) {
        guard let reader = redisReaderCreate() else { preconditionFailure("hiredis could not make a reader") }
        self.reader = reader
        self.replyBytesMax = replyBytesMax
    }

    deinit { redisReaderFree(reader) }

    /// Takes bytes and gives each reply that they complete.
    func feed(_ bytes: UnsafeRawBufferPointer, _ receive: (RESP) throws -> Void) throws {
        // hiredis moves what is left of its buffer down after every kilobyte of replies, so it gets small bites.
        let bite = 16 * 1024
        for start in stride(from: 0, to: bytes.count, by: bite) {
            let slice = UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + bite, bytes.count)])
            bytesSinceReply += slice.count
            guard bytesSinceReply <= replyBytesMax else {
                throw ProtocolFault(description: "a reply is larger than \(replyBytesMax) bytes")
            }
            let address = slice.baseAddress?.assumingMemoryBound(to: CChar.self)
            guard redisReaderFeed(reader, address, slice.count) == REDIS_OK else { throw fault() }
            while let reply = try next() {
                bytesSinceReply = 0
                try receive(reply)
            }
        }
    }

    private func next() throws -> RESP? {
        var object: UnsafeMutableRawPointer?
        guard redisReaderGetReply(reader, &object) == REDIS_OK else { throw fault() }
        guard let object else { return nil }
        defer { freeReplyObject(object) }
        return RESP(object.assumingMemoryBound(to: redisReply.self).pointee)
    }

    private func fault() -> ProtocolFault {
        let text = withUnsafeBytes(of: reader.pointee.errstr) { raw in
            String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
        return ProtocolFault(description: text)
    }
}

extension RESP {
    /// Copies a reply out of hiredis, whose reader allows at most seven levels.
    fileprivate init(_ reply: redisReply) {
        switch reply.type {
        case REDIS_REPLY_INTEGER: self = .integer(Int(reply.integer))
        case REDIS_REPLY_STRING, REDIS_REPLY_STATUS:
            self = .string([UInt8](UnsafeRawBufferPointer(start: reply.str, count: reply.len)))
        case REDIS_REPLY_ERROR:
            let bytes = UnsafeRawBufferPointer(start: reply.str, count: reply.len)
            self = .error(String(decoding: bytes, as: UTF8.self))
        case REDIS_REPLY_ARRAY:
            let elements = UnsafeBufferPointer(start: reply.element, count: reply.elements)
            self = .array(elements.map { element in element.map { RESP($0.pointee) } ?? .null })
        default: self = .null
        }
    }
}
