import Database
import Platform
import Testing

@Suite("The operator's settings")
struct ConfigurationTests {
    @Test("the URL is required and checked without being repeated")
    func url() {
        var missing = Settings([:])
        _ = Database.Configuration(reading: &missing)
        #expect(missing.faults.map(\.variable) == ["DATABASE_URL"])
        var broken = Settings(["DATABASE_URL": "https://u:hush@host/"])
        _ = Database.Configuration(reading: &broken)
        #expect(broken.faults.map(\.variable) == ["DATABASE_URL"])
        #expect(broken.faults.allSatisfy { !$0.description.contains("hush") })
    }

    @Test("every setting is read, and faults are collected")
    func settings() {
        var settings = Settings([
            "DATABASE_DIRECT_URL": "postgres://u@h/d?sslmode=require", "COMMUNE_DB_CONNECTIONS": "20",
            "COMMUNE_DB_PREPARED": "on", "COMMUNE_DB_STATEMENT_TIMEOUT": "2.5",
        ])
        let configuration = Database.Configuration(reading: &settings, url: "DATABASE_DIRECT_URL")
        #expect(settings.faults.isEmpty)
        #expect(configuration.connectionsMax == 20)
        #expect(configuration.prepared)
        #expect(configuration.statementTimeout == .milliseconds(2500))
        var wrong = Settings([
            "DATABASE_URL": "postgres://h/d", "COMMUNE_DB_CONNECTIONS": "0", "COMMUNE_DB_PREPARED": "?",
        ])
        _ = Database.Configuration(reading: &wrong)
        #expect(wrong.faults.count == 2)
    }
}
