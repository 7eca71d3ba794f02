// One libunbound context and the one thread that touches it. Everybody else leaves requests in a mutex and wakes
// the thread.

import Foundation
import Glibc
import Synchronization

/// The side of a context that every thread may use.
final class UnboundContext: Sendable {
    struct Request {
        let number: UInt
        let name: String
        let type: RecordType
        let deadline: ContinuousClock.Instant
        let reply: CheckedContinuation<Result<DNSAnswer, DNSFault>, Never>
    }

    /// What other threads leave for the owner.
    struct Mailbox {
        var requests: [Request] = []
        var cancelled: [UInt] = []
        var isClosed = false
        /// Requests without an answer, wherever they are.
        fileprivate var unanswered = 0
        fileprivate var lastNumber: UInt = 0
    }

    /// The end of a pair of sockets that the owner polls; a byte at the other end wakes it.
    let wakened: Int32
    private let waker: Int32
    private let mailbox = Mutex(Mailbox())
    private let unansweredMax: Int

    init(
        _ configuration: UnboundResolver.Configuration,
        stub: UnboundHandle.Stub? = nil
    ) throws(DNSFault) {
        unansweredMax = configuration.concurrentMax + configuration.waitingMax
        let handle = try UnboundHandle(configuration, stub: stub)
        var ends: [Int32] = [-1, -1]
        // `pipe2`, which would do, is hidden from Swift; these flags too must come with the descriptors.
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw .serverFailure("no file descriptor is left")
        }
        (wakened, waker) = (ends[0], ends[1])
        let owner = UnboundOwner(context: self, handle: handle, concurrentMax: configuration.concurrentMax)
        // The thread keeps `self` until `close()`, so the sockets outlive everybody who uses them.
        let thread = Thread { owner.run() }
        thread.name = "unbound"
        thread.start()
    }

    deinit {
        Glibc.close(wakened)
        Glibc.close(waker)
    }

    func lookup(_ name: String, _ type: RecordType, timeout: Duration) async throws(DNSFault) -> DNSAnswer {
        let number = mailbox.withLock { mailbox in
            mailbox.lastNumber += 1
            return mailbox.lastNumber
        }
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { reply in
                submit(
                    Request(number: number, name: name, type: type, deadline: .now + timeout, reply: reply)
                )
            }
        } onCancel: {
            mailbox.withLock { $0.cancelled.append(number) }
            wake()
        }
        return try result.get()
    }

    /// Ends the thread; whoever still waits hears of it.
    func close() {
        mailbox.withLock { $0.isClosed = true }
        wake()
    }

    private func submit(_ request: Request) {
        let fault: DNSFault? = mailbox.withLock { mailbox in
            if mailbox.isClosed { return .serverFailure("the resolver is closed") }
            // A cancellation before this line left its note too early for the owner; one after it comes in order.
            if Task.isCancelled { return .cancelled }
            guard mailbox.unanswered < unansweredMax else {
                return .serverFailure("too many look-ups at once")
            }
            mailbox.unanswered += 1
            mailbox.requests.append(request)
            return nil
        }
        if let fault { return request.reply.resume(returning: .failure(fault)) }
        wake()
    }

    private func wake() {
        var byte: UInt8 = 0
        // Fails only when the socket is full, and then the thread is awake already.
        _ = write(waker, &byte, 1)
    }

    /// Takes what others left; the owner's.
    func takeMail() -> Mailbox {
        mailbox.withLock { mailbox in
            defer {
                mailbox.requests = []
                mailbox.cancelled = []
            }
            return mailbox
        }
    }

    /// Resumes whoever asked; the owner's.
    func answer(_ request: Request, _ result: Result<DNSAnswer, DNSFault>) {
        mailbox.withLock { $0.unanswered -= 1 }
        request.reply.resume(returning: result)
    }
}
