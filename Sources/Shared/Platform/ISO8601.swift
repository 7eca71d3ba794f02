// Reading ISO 8601 dates to the letter: Foundation takes 30 February for 2 March, stops reading where it likes, and
// carries fractions in a Double.

extension Timestamp {
    private static let textOctetsMax = 40

    /// Reads an ISO 8601 date, with or without time, fraction and zone (UTC when none is given).
    package init?(iso8601 text: String) {
        guard text.utf8.count <= Self.textOctetsMax else { return nil }
        var reader = DateReader(rest: Array(text.utf8)[...])
        guard let days = reader.days() else { return nil }
        var microseconds = days * 86_400_000_000
        if reader.take("T", "t", " ") {
            guard let time = reader.microsecondsOfDay(), let zone = reader.zoneSeconds() else { return nil }
            microseconds += time - zone * 1_000_000
        }
        guard reader.rest.isEmpty else { return nil }
        self.init(microseconds: microseconds)
    }
}

/// Takes an ISO 8601 text from its beginning, part by part.
private struct DateReader {
    var rest: ArraySlice<UInt8>

    /// Takes one of these characters, if it is next.
    mutating func take(_ characters: Unicode.Scalar...) -> Bool {
        guard let next = rest.first, characters.contains(where: { UInt8(ascii: $0) == next }) else {
            return false
        }
        rest = rest.dropFirst()
        return true
    }

    /// Takes exactly so many digits.
    private mutating func number(digits: Int, in range: ClosedRange<Int64>) -> Int64? {
        let taken = rest.prefix(digits)
        guard taken.count == digits, taken.allSatisfy(Self.isDigit) else { return nil }
        let number = taken.reduce(0) { $0 * 10 + Int64($1 - UInt8(ascii: "0")) }
        rest = rest.dropFirst(digits)
        return range.contains(number) ? number : nil
    }

    /// `YYYY-MM-DD`, as days since 1970.
    mutating func days() -> Int64? {
        guard let year = number(digits: 4, in: 0...9999), take("-"),
            let month = number(digits: 2, in: 1...12), take("-"),
            let day = number(digits: 2, in: 1...Self.length(of: month, year))
        else { return nil }
        // The era arithmetic of Howard Hinnant's `days_from_civil`, on years that begin in March.
        let shifted = month <= 2 ? year - 1 : year
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    /// `hh:mm`, `hh:mm:ss` or `hh:mm:ss.fraction`; digits below the microsecond are dropped.
    mutating func microsecondsOfDay() -> Int64? {
        guard let hour = number(digits: 2, in: 0...23), take(":"), let minute = number(digits: 2, in: 0...59)
        else { return nil }
        var microseconds = (hour * 60 + minute) * 60_000_000
        guard take(":") else { return microseconds }
        guard let second = number(digits: 2, in: 0...59) else { return nil }
        microseconds += second * 1_000_000
        guard take(".", ",") else { return microseconds }
        let fraction = rest.prefix(while: Self.isDigit)
        guard !fraction.isEmpty else { return nil }
        rest = rest.dropFirst(fraction.count)
        var unit: Int64 = 100_000
        for digit in fraction.prefix(6) {
            microseconds += Int64(digit - UInt8(ascii: "0")) * unit
            unit /= 10
        }
        return microseconds
    }

    /// `Z`, `+hh`, `+hhmm` or `+hh:mm`; nothing is UTC.
    mutating func zoneSeconds() -> Int64? {
        if rest.isEmpty || take("Z", "z") { return 0 }
        let isWest = rest.first == UInt8(ascii: "-")
        guard take("+", "-"), let hours = number(digits: 2, in: 0...23) else { return nil }
        var seconds = hours * 3600
        if take(":") || !rest.isEmpty {
            guard let minutes = number(digits: 2, in: 0...59) else { return nil }
            seconds += minutes * 60
        }
        return isWest ? -seconds : seconds
    }

    private static func length(of month: Int64, _ year: Int64) -> Int64 {
        switch month {
        case 2: year.isMultiple(of: 4) && (!year.isMultiple(of: 100) || year.isMultiple(of: 400)) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
}
