// commune queues limit: caps, rates and weights, durably.

import ArgumentParser
import Platform
import Queue
import Store

struct QueueLimit: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "limit",
        abstract:
            "Limits how many jobs run at a time, how many start a second, or how often one has its turn.",
        discussion: """
            Of an organization, of a lane, or, with neither, of every organization in the queue that has no limit of its \
            own. What is not named stays as it was; --clear lifts all three. Limits last until they are cleared, over \
            restarts of everything, and hold within seconds at the latest. They are shown by status.

            An organization without a --concurrency of its own may take three jobs for each slot that it leaves free: \
            alone three quarters of all slots of all workers. One of its own takes the place of that rule.

            Example: commune queues limit send --org acme --concurrency 10 --rate 50
            Example: commune queues limit send --org acme --weight 3
            Example: commune queues limit send --org acme --clear
            """
    )

    @OptionGroup var selection: QueueSelection

    @Option(help: "Jobs that run at a time, 1 to 1000000.")
    var concurrency: Int?

    @Option(help: "Jobs that start a second, 0.001 to 1000000.")
    var rate: Double?

    @Option(help: "Turns to the others' one, 1 to 1000; of an organization only.")
    var weight: Int?

    @Flag(help: "Lift concurrency, rate and weight.")
    var clear = false

    func validate() throws {
        guard clear == (concurrency == nil && rate == nil && weight == nil) else {
            throw ValidationError("Give --concurrency, --rate or --weight; or --clear alone.")
        }
        // Nothing at all is a pause, which says so.
        if let concurrency, !(1...1_000_000).contains(concurrency) {
            throw ValidationError(
                "--concurrency must be from 1 to 1000000; none at all is: commune queues pause"
            )
        }
        if let rate, !(0.001...1_000_000).contains(rate) {
            throw ValidationError(
                "--rate must be from 0.001 to 1000000; none at all is: commune queues pause"
            )
        }
        if let weight, !(1...1000).contains(weight) {
            throw ValidationError("--weight must be from 1 to 1000.")
        }
        if weight != nil, selection.org == nil {
            throw ValidationError("--weight needs --org: turns belong to organizations.")
        }
    }

    func run() async throws {
        try await Installation.open { installation in
            var limits: QueueControl.Limits?
            if !clear {
                var given = QueueControl.Limits()
                (given.concurrencyMax, given.ratePerSecond, given.weight) = (concurrency, rate, weight)
                limits = given
            }
            try await installation.withControl { control, _ in
                try await control.limit(
                    limits,
                    selection.queue,
                    selection.scope(installation),
                    defaults: .of(selection.queue)
                )
            }
            let isOfEach = selection.org == nil && selection.lane == nil
            let whom = isOfEach ? "every organization in \(selection.queue)" : selection.name
            print(clear ? "Lifted the limits of \(whom)." : "Limited \(whom).")
        }
    }
}
