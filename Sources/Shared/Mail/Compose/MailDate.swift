// Dates as header fields carry them, without a formatter: this runs for each message.

import FoundationEssentials

/// RFC 5322 §3.3 date-time in UTC.
enum MailDate {
    private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    /// `Wed, 21 Oct 2026 07:28:00 +0000`.
    static func bytes(_ date: Date) -> [UInt8] {
        // Years 1970 to 9999; outside them the grammar has no four digits.
        let seconds = Int(min(max(date.timeIntervalSince1970, 0), 253_402_300_799))
        let day = seconds / 86_400
        let (year, month, dayOfMonth) = civil(day)
        var output: [UInt8] = []
        output.reserveCapacity(31)
        output.append(contentsOf: days[(day + 4) % 7].utf8)
        output.append(contentsOf: ", ".utf8)
        output.append(contentsOf: String(dayOfMonth).utf8)
        output.append(UInt8(ascii: " "))
        output.append(contentsOf: months[month - 1].utf8)
        output.append(UInt8(ascii: " "))
        output.append(contentsOf: String(year).utf8)
        output.append(UInt8(ascii: " "))
        two(seconds % 86_400 / 3_600, &output)
        output.append(UInt8(ascii: ":"))
        two(seconds % 3_600 / 60, &output)
        output.append(UInt8(ascii: ":"))
        two(seconds % 60, &output)
        output.append(contentsOf: " +0000".utf8)
        return output
    }

    // Days since 1970 to the Gregorian calendar, in eras of 400 years that begin in March (H. Hinnant).
    private static func civil(_ days: Int) -> (year: Int, month: Int, day: Int) {
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (
            era * 400 + yearOfEra + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        )
    }

    private static func two(_ value: Int, _ output: inout [UInt8]) {
        output.append(UInt8(ascii: "0") + UInt8(value / 10))
        output.append(UInt8(ascii: "0") + UInt8(value % 10))
    }
}
