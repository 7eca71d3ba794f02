// Times as the API writes and reads them.

import Foundation
import Platform
import TestSupport
import Testing

@Suite("Timestamp")
struct TimestampTests {
    @Test(
        "a time is written in UTC with milliseconds",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"),
            (999, "1970-01-01T00:00:00.000Z"),
            (1_000, "1970-01-01T00:00:00.001Z"),
            (-1_000, "1969-12-31T23:59:59.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999_000, "2000-02-29T23:59:59.999Z"),
            (1_742_027_191_238_000, "2025-03-15T08:26:31.238Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999_000, "9999-12-31T23:59:59.999Z"),
            (-2_208_988_800_000_000, "1900-01-01T00:00:00.000Z"),
        ]
    )
    func writes(_ microseconds: Int64, _ text: String) {
        #expect(Timestamp(microseconds: microseconds).iso8601 == text)
    }

    @Test(
        "every form of ISO 8601 that clients send is read",
        arguments: [
            ("2025-03-15T08:26:31.238Z", 1_742_027_191_238_000),
            ("2025-03-15T08:26:31Z", 1_742_027_191_000_000),
            ("2025-03-15T08:26:31", 1_742_027_191_000_000),
            ("2025-03-15T08:26:31.238", 1_742_027_191_238_000),
            ("2025-03-15", 1_741_996_800_000_000),
            ("2025-03-15T09:26:31+01:00", 1_742_027_191_000_000),
            ("2025-03-15T03:26:31.238-05:00", 1_742_027_191_238_000),
            ("2025-03-15T09:26:31+0100", 1_742_027_191_000_000),
            ("2025-03-15T09:26:31+01", 1_742_027_191_000_000),
            ("2025-03-15 08:26:31.238Z", 1_742_027_191_238_000),
            ("2025-03-15t08:26:31,238z", 1_742_027_191_238_000),
            ("2025-03-15T08:26", 1_742_027_160_000_000),
            ("2025-03-15T08:26:31.238123999Z", 1_742_027_191_238_123),
            ("2025-03-15T08:26:31.5Z", 1_742_027_191_500_000),
            // What Python's isoformat() writes.
            ("2025-03-15T08:26:31.238123+00:00", 1_742_027_191_238_123),
            ("2025-03-15T08:26:31.238123", 1_742_027_191_238_123),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
            ("1969-12-31T23:59:59.999Z", -1_000),
        ]
    )
    func reads(_ text: String, _ microseconds: Int64) {
        #expect(Timestamp(iso8601: text)?.microseconds == microseconds, "\(text)")
    }

    @Test(
        "what is no date is refused",
        arguments: [
            "", " ", "yesterday", "2025", "2025-03", "2025-13-01", "2025-02-30", "2025-02-29T00:00:00Z",
            "2025-03-15T25:00:00Z", "2025-03-15T08:61:00Z", "2025-03-15T08:26:31Zoo", "2025-03-15x",
            "2025-03-15T08:26:31.238Z and more", "15.03.2025", "1742027191",
            "2025-03-15T08:26:31.238123456789012345678901234567890Z", "2025-03-15T08:26:31+99:00",
            "\u{0662}\u{0660}25-03-15", "2025-03-15T08:26:31.Z", "-2025-03-15", "2025-3-15", "2025-03-15T",
            "2025-03-15T08", "2025-03-15T08:26:31+1",
            "2025-03-15T08:26:31+01:", "2025-03-15T24:00:00Z", "2025-00-10", "2025-01-00", "20250315",
            "2100-02-29",
            "2025-03-15T8:26:31Z",
        ]
    )
    func refuses(_ text: String) {
        #expect(Timestamp(iso8601: text) == nil, "\(text)")
    }

    @Test("what was written is read again, at any time of four-digit years")
    func roundTrip() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<5_000 {
            let milliseconds = Int64.random(
                in: -62_135_596_800_000...253_402_300_799_999,
                using: &generator
            )
            let time = Timestamp(microseconds: milliseconds * 1000)
            #expect(Timestamp(iso8601: time.iso8601) == time, "\(time.iso8601), seed \(seed)")
        }
    }

    @Test("durations keep their microseconds")
    func durations() {
        let time = Timestamp(microseconds: 1_000_000)
        #expect((time + .microseconds(1)).microseconds == 1_000_001)
        #expect((time + .seconds(-2)).microseconds == -1_000_000)
        #expect(Timestamp(microseconds: 5) - Timestamp(microseconds: 8) == .microseconds(-3))
        #expect(Duration.milliseconds(1_500).inSeconds == 1.5)
        #expect(
            Timestamp(Timestamp(microseconds: 1_742_027_191_238_123).date).microseconds
                == 1_742_027_191_238_123
        )
    }
}
