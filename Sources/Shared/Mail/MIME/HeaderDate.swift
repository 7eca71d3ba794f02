// RFC 5322 §3.3 and §4.3: dates, as strangers write them.

package import Foundation

/// The date of a header field: the wall clock and its zone, as the sender wrote them.
package struct HeaderDate: Sendable, Hashable {
    package let year: Int
    package let month: Int
    package let day: Int
    package let hour: Int
    package let minute: Int
    package let second: Int
    /// Minutes east of Greenwich.
    package let offset: Int

    /// The moment; clients lie, so never order by it alone.
    package var date: Date {
        let days = Self.daysSince1970(year: year, month: month, day: day)
        return Date(
            timeIntervalSince1970: Double(days * 86_400 + hour * 3_600 + (minute - offset) * 60 + second)
        )
    }

    /// Reads a date in any order of its words; nil where no day, month or year can be found.
    package init?(_ value: [UInt8]) {
        var reader = Reader()
        for word in Self.words(value).prefix(20) { reader.take(word) }
        guard let date = reader.finish() else { return nil }
        self = date
    }

    fileprivate init?(year: Int, month: Int, day: Int, clock: (Int, Int, Int), offset: Int) {
        guard (1...12).contains(month), (1...31).contains(day), (1900...9999).contains(year) else {
            return nil
        }
        guard clock.0 < 24, clock.1 < 60, clock.2 <= 60, abs(offset) <= 24 * 60 else { return nil }
        self.year = year
        self.month = month
        self.day = day
        (hour, minute, second) = clock
        self.offset = offset
    }

    /// Days from the civil calendar, as Howard Hinnant's days_from_civil counts them.
    private static func daysSince1970(year: Int, month: Int, day: Int) -> Int {
        let shifted = month <= 2 ? year - 1 : year
        let era = shifted / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }

    /// Split at blanks, commas and dashes between a day and a month; comments are no part of it.
    private static func words(_ value: [UInt8]) -> [String] {
        var words: [String] = []
        var word: [UInt8] = []
        var depth = 0
        for byte in value.prefix(1_000) + [ASCII.space] {
            if byte == UInt8(ascii: "(") { depth += 1 }
            let isSeparator = byte.isSpace || byte == UInt8(ascii: ",") || byte == UInt8(ascii: "(")
            if depth > 0 || isSeparator {
                if !word.isEmpty { words.append(String(decoding: word, as: UTF8.self).lowercased()) }
                word = []
            } else {
                word.append(byte)
            }
            if byte == UInt8(ascii: ")"), depth > 0 { depth -= 1 }
        }
        return words
    }

    private static let months = [
        "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10,
        "nov": 11,
        "dec": 12,
    ]

    /// RFC 5322 §4.3; military letters mean nothing there, so they are zero.
    private static let zones = [
        "ut": 0, "utc": 0, "gmt": 0, "z": 0, "est": -300, "edt": -240, "cst": -360, "cdt": -300, "mst": -420,
        "mdt": -360, "pst": -480, "pdt": -420, "cet": 60, "cest": 120, "bst": 60, "jst": 540, "msk": 180,
    ]

    private struct Reader {
        var day: Int?
        var month: Int?
        var year: Int?
        var clock: (Int, Int, Int)?
        var offset: Int?
        var numbers: [Int] = []

        mutating func take(_ word: String) {
            if clock == nil, word.contains(":") {
                takeClock(word)
            } else if let month = HeaderDate.months[String(word.prefix(3))], self.month == nil {
                self.month = month
            } else if let first = word.utf8.first, first == UInt8(ascii: "+") || first == ASCII.dash {
                if offset == nil { takeOffset(word) }
            } else if let zone = HeaderDate.zones[String(word.prefix { $0.isLetter })], clock != nil {
                // EST5EDT counts as EST.
                if offset == nil { offset = zone }
            } else if word.contains("-"), let first = word.utf8.first, first.isDigit {
                takeDashed(word)
            } else if let number = Int(word), word.utf8.count <= 4 {
                takeNumber(number, digits: word.utf8.count)
            }
        }

        private mutating func takeClock(_ word: String) {
            var text = word[...]
            // 10:52:37+0200 and 10:52:37.123
            if let sign = text.lastIndex(where: { $0 == "+" || $0 == "-" }) {
                takeOffset(String(text[sign...]))
                text = text[..<sign]
            } else if text.hasSuffix("z") {
                offset = 0
                text = text.dropLast()
            }
            var fields = text.split(separator: ":").map { Int($0.prefix { $0.isNumber }) ?? -1 }
            while fields.count < 3 { fields.append(0) }
            guard fields.allSatisfy({ $0 >= 0 }) else { return }
            clock = (fields[0], fields[1], fields[2])
        }

        private mutating func takeOffset(_ word: String) {
            let digits = word.utf8.dropFirst().filter(\.isDigit).map { Int($0 - 0x30) }
            guard digits.count == 4 else { return }
            let minutes = (digits[0] * 10 + digits[1]) * 60 + digits[2] * 10 + digits[3]
            // A zone that no clock has, such as -9999, says nothing.
            guard minutes <= 15 * 60, digits[2] < 6 else { return }
            offset = word.hasPrefix("-") ? -minutes : minutes
        }

        /// 2003-07-01, 01-Jul-2003, and 2003-07-01t10:00:00 whose clock another word would not give.
        private mutating func takeDashed(_ word: String) {
            let fields = word.split(separator: "-").map(String.init)
            guard fields.count == 3 else { return }
            for (position, field) in fields.enumerated() {
                if let month = HeaderDate.months[String(field.prefix(3))] {
                    self.month = month
                } else if let number = Int(field.prefix { $0.isNumber }) {
                    if position == 1 { month = number } else { takeNumber(number, digits: field.utf8.count) }
                }
            }
        }

        private mutating func takeNumber(_ number: Int, digits: Int) {
            if digits >= 3, year == nil {
                year = number
            } else if day == nil {
                day = number
            } else if month == nil {
                month = number
            } else if year == nil {
                year = number
            } else {
                numbers.append(number)
            }
        }

        func finish() -> HeaderDate? {
            guard let day, let month, let year else { return nil }
            // A clock written as three numbers.
            let written =
                numbers.count >= 2 ? (numbers[0], numbers[1], numbers.count > 2 ? numbers[2] : 0) : (0, 0, 0)
            // RFC 5322 §4.3: two and three digits.
            let full = year < 50 ? year + 2000 : year < 1000 ? year + 1900 : year
            return HeaderDate(
                year: full,
                month: month,
                day: day,
                clock: clock ?? written,
                offset: offset ?? 0
            )
        }
    }
}
