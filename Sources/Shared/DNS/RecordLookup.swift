// The records that a domain of ours must have, asked for.

package import Mail

extension Resolver {
    /// What the DNS says about each of these records, in their order; asked all at once.
    package func answers(to records: [DomainRecord]) async -> [RecordAnswer] {
        await withTaskGroup(of: (Int, RecordAnswer).self) { group in
            for (index, record) in records.enumerated() {
                group.addTask { (index, await self.answer(to: record)) }
            }
            var answers = [RecordAnswer](repeating: .noAnswer("it was not asked"), count: records.count)
            for await (index, answer) in group { answers[index] = answer }
            return answers
        }
    }

    private func answer(to record: DomainRecord) async -> RecordAnswer {
        do throws(DNSFault) {
            switch record.type {
            case .txt: return .texts(try await lookup(record.fqdn, .txt).texts)
            case .mx: return .exchangers(try await lookup(record.fqdn, .mx).exchangers)
            }
        } catch .noSuchName {
            return .noSuchName
        } catch {
            return .noAnswer(error.description)
        }
    }
}

extension DNSAnswer {
    fileprivate var exchangers: [RecordAnswer.Exchanger] {
        records.compactMap {
            guard case .mx(let preference, let exchange) = $0 else { return nil }
            return .init(preference: Int(preference), host: exchange)
        }
    }
}
