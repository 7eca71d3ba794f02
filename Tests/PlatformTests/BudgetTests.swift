// A shared amount: never more is out than there is, in the order of asking, and nobody waits for ever.

import Platform
import Synchronization
import Testing

@Suite("A budget")
struct BudgetTests {
    @Test("gives what it has and refuses what it has not, at once when nobody wants to wait")
    func immediate() async {
        let budget = Budget(10)
        #expect(await budget.take(6, within: .zero))
        #expect(await !budget.take(5, within: .zero))
        #expect(await budget.take(4, within: .zero))
        #expect(budget.left == 0)
        budget.give(6)
        budget.give(4)
        #expect(budget.left == 10)
    }

    @Test("more than there is takes all of it, alone, and gives back no more")
    func moreThanWhole() async {
        let budget = Budget(10)
        #expect(await budget.take(99, within: .zero))
        #expect(await !budget.take(1, within: .zero))
        budget.give(99)
        #expect(budget.left == 10)
    }

    @Test("a wait that is too long ends without anything taken")
    func timeout() async {
        let budget = Budget(1)
        #expect(await budget.take(1, within: .zero))
        #expect(await !budget.take(1, within: .milliseconds(20)))
        budget.give(1)
        #expect(budget.left == 1)
    }

    @Test("who is cancelled while waiting takes nothing")
    func cancelled() async {
        let budget = Budget(1)
        #expect(await budget.take(1, within: .zero))
        let waiter = Task { await budget.take(1, within: .seconds(60)) }
        waiter.cancel()
        #expect(await !waiter.value)
        budget.give(1)
        #expect(budget.left == 1)
    }

    @Test("a large one in line is not passed by small ones, and goes when its time is over")
    func order() async {
        let budget = Budget(10)
        #expect(await budget.take(6, within: .zero))
        let large = Task { await budget.take(10, within: .milliseconds(200)) }
        // It stands in line as soon as a small one, for which there would be room, is refused.
        while await budget.take(1, within: .zero) {
            budget.give(1)
            await Task.yield()
        }
        let small = Task { await budget.take(1, within: .seconds(60)) }
        #expect(await !large.value)
        #expect(await small.value)
        #expect(budget.left == 3)
    }

    @Test("however many take and give, no more is out than there is, and all of it comes back")
    func many() async {
        let budget = Budget(8)
        let out = Count()
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<200 {
                group.addTask {
                    let amount = number % 8 + 1
                    guard await budget.take(amount, within: .seconds(60)) else {
                        Issue.record("nothing was given in a minute")
                        return
                    }
                    let now = out.add(amount)
                    #expect(now <= 8)
                    await Task.yield()
                    _ = out.add(-amount)
                    budget.give(amount)
                }
            }
        }
        #expect(budget.left == 8)
    }

    private final class Count: Sendable {
        private let value = Mutex(0)

        func add(_ amount: Int) -> Int {
            value.withLock { value in
                value += amount
                return value
            }
        }
    }
}
