// Logs: one line an event on standard error, readable by people, or JSON with COMMUNE_LOG_FORMAT=json.

import Foundation
package import Logging

/// Sets up the program's logging from `COMMUNE_LOG_LEVEL` and `COMMUNE_LOG_FORMAT`; call once, first.
package func bootstrapLogging(reading settings: inout Settings) {
    var level = Logger.Level.info
    if let text = settings.text("COMMUNE_LOG_LEVEL") {
        if let parsed = Logger.Level(rawValue: text.lowercased()) {
            level = parsed
        } else {
            settings.fault(
                "COMMUNE_LOG_LEVEL",
                "must be trace, debug, info, notice, warning, error or critical."
            )
        }
    }
    var json = false
    switch settings.text("COMMUNE_LOG_FORMAT") {
    case nil, "text": break
    case "json": json = true
    default: settings.fault("COMMUNE_LOG_FORMAT", "must be text or json.")
    }
    let chosen = (level: level, json: json)
    LoggingSystem.bootstrap { label in
        LineLogHandler(label: label, logLevel: chosen.level, json: chosen.json)
    }
}

/// Writes a log event as one line.
package struct LineLogHandler: LogHandler {
    package var metadata: Logger.Metadata = [:]
    package var logLevel: Logger.Level
    private let label: String
    private let json: Bool

    /// A handler for one label.
    package init(label: String, logLevel: Logger.Level, json: Bool) {
        self.label = label
        self.logLevel = logLevel
        self.json = json
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let merged = metadata.merging(event.metadata ?? [:]) { _, new in new }
        let line = json ? jsonLine(event, merged) : textLine(event, merged)
        // One write a line, so that lines of several threads and processes do not mix.
        FileHandle.standardError.write(Data(line.utf8))
    }

    private func textLine(_ event: LogEvent, _ merged: Logger.Metadata) -> String {
        var line = "\(Timestamp.now.iso8601) \(event.level.rawValue) \(label): \(oneLine("\(event.message)"))"
        for (key, value) in merged.sorted(by: { $0.key < $1.key }) {
            line += " \(key)=\(oneLine("\(value)"))"
        }
        return line + "\n"
    }

    private func jsonLine(_ event: LogEvent, _ merged: Logger.Metadata) -> String {
        var object = merged.mapValues { "\($0)" }
        object["time"] = Timestamp.now.iso8601
        object["level"] = event.level.rawValue
        object["label"] = label
        object["message"] = "\(event.message)"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(object) else { return textLine(event, merged) }
        return String(decoding: data, as: UTF8.self) + "\n"
    }

    /// What comes from outside may hold line ends; a log line may not, nor be longer than 4 KiB a value.
    private func oneLine(_ text: String) -> String {
        guard text.utf8.count > 4096 || text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) else {
            return text
        }
        return String(
            text.unicodeScalars.prefix(4096).map { $0.value < 0x20 || $0.value == 0x7f ? " " : Character($0) }
        )
    }
}
