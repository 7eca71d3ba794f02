// The thread that owns a libunbound context: asks, waits for answers and time limits, and resumes whoever asked.
// libunbound has no time limit of its own, so each query is cancelled at its deadline.

import CUnbound
import Foundation
import Glibc
import Platform

/// Everything that only the thread touches.
///
/// `@unchecked Sendable` to be handed, once, to that thread: its one owner.
final class UnboundOwner: @unchecked Sendable {
    private struct Asked {
        let request: UnboundContext.Request
        let query: Int32
        /// libunbound holds its address until it answers or the query is cancelled.
        let ticket: Ticket
    }

    private let context: UnboundContext
    private let handle: UnboundHandle
    private let concurrentMax: Int
    private var waiting: [UInt: UnboundContext.Request] = [:]
    /// Numbers in the order they came; those no longer in `waiting` are passed over.
    private var order: ArraySlice<UInt> = []
    private var asked: [UInt: Asked] = [:]
    /// No deadline lies before this one, so that not every turn looks at all of them.
    private var nextDeadline: ContinuousClock.Instant?

    init(context: UnboundContext, handle: UnboundHandle, concurrentMax: Int) {
        self.context = context
        self.handle = handle
        self.concurrentMax = concurrentMax
    }

    func run() {
        var descriptors = [
            pollfd(fd: context.wakened, events: Int16(POLLIN), revents: 0),
            pollfd(fd: ub_fd(handle.pointer), events: Int16(POLLIN), revents: 0),
        ]
        var bell = [UInt8](repeating: 0, count: 256)
        while takeMail() {
            expire()
            askNext()
            poll(&descriptors, 2, millisecondsToDeadline())
            // Nothing to read when an answer woke us; the socket does not block.
            _ = read(context.wakened, &bell, bell.count)
            ub_process(handle.pointer)
        }
    }

    /// Takes what others left; false once the context is closed.
    private func takeMail() -> Bool {
        let mail = context.takeMail()
        for request in mail.requests {
            waiting[request.number] = request
            order.append(request.number)
            nextDeadline = min(nextDeadline ?? request.deadline, request.deadline)
        }
        for number in mail.cancelled { finish(number, .cancelled) }
        guard mail.isClosed else { return true }
        for number in Array(waiting.keys) + Array(asked.keys) {
            finish(number, .serverFailure("the resolver is closed"))
        }
        return false
    }

    private func expire() {
        let now = ContinuousClock.now
        guard let nextDeadline, nextDeadline <= now else { return }
        let requests = Array(waiting.values) + asked.values.map(\.request)
        for request in requests where request.deadline <= now { finish(request.number, .timedOut) }
        self.nextDeadline = requests.map(\.deadline).filter { $0 > now }.min()
    }

    private func askNext() {
        while asked.count < concurrentMax, let number = order.popFirst() {
            if let request = waiting.removeValue(forKey: number) { ask(request) }
        }
        // A slice keeps the room of what was popped.
        if order.isEmpty { order = [] }
    }

    private func ask(_ request: UnboundContext.Request) {
        let ticket = Ticket(owner: self, request: request)
        var query: Int32 = 0
        let status = ub_resolve_async(
            handle.pointer,
            request.name,
            Int32(request.type.rawValue),
            1,
            Unmanaged.passUnretained(ticket).toOpaque(),
            answerCame,
            &query
        )
        if status == UB_NOERROR.rawValue {
            asked[request.number] = Asked(request: request, query: query, ticket: ticket)
        } else {
            context.answer(request, .failure(.serverFailure(String(cString: ub_strerror(status)))))
        }
    }

    fileprivate func answered(_ number: UInt, _ result: Result<DNSAnswer, DNSFault>) {
        guard let entry = asked.removeValue(forKey: number) else { return }
        context.answer(entry.request, result)
    }

    /// Ends a request without libunbound's answer.
    private func finish(_ number: UInt, _ fault: DNSFault) {
        if let request = waiting.removeValue(forKey: number) {
            context.answer(request, .failure(fault))
        } else if let entry = asked.removeValue(forKey: number) {
            // On this very thread, so the callback cannot be under way, and never comes after this.
            ub_cancel(handle.pointer, entry.query)
            context.answer(entry.request, .failure(fault))
        }
    }

    private func millisecondsToDeadline() -> Int32 {
        guard let nextDeadline else { return -1 }
        let left = ContinuousClock.now.duration(to: nextDeadline)
        // Rounded up, or the last millisecond would be spent turning in circles.
        return Int32(clamping: max(0, left.milliseconds + 1))
    }
}

/// What libunbound gives back to us with an answer.
private final class Ticket {
    unowned let owner: UnboundOwner
    let request: UnboundContext.Request

    init(owner: UnboundOwner, request: UnboundContext.Request) {
        self.owner = owner
        self.request = request
    }
}

/// libunbound's callback, on the owner's thread, within `ub_process`.
private func answerCame(
    _ data: UnsafeMutableRawPointer?,
    _ status: Int32,
    _ result: UnsafeMutablePointer<ub_result>?
) {
    defer { ub_resolve_free(result) }
    guard let data else { return }
    let ticket = Unmanaged<Ticket>.fromOpaque(data).takeUnretainedValue()
    guard status == UB_NOERROR.rawValue, let result else {
        let reason = String(cString: ub_strerror(status))
        return ticket.owner.answered(ticket.request.number, .failure(.serverFailure(reason)))
    }
    let answer = DNSAnswer.read(result.pointee, name: ticket.request.name, type: ticket.request.type)
    ticket.owner.answered(ticket.request.number, answer)
}
