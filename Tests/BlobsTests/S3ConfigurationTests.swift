// COMMUNE_BLOBS: what is understood, and what is refused by name.

import Platform
import Testing

@testable import Blobs

@Suite("COMMUNE_BLOBS")
struct S3ConfigurationTests {
    private let secrets = ["COMMUNE_S3_ACCESS_KEY_ID": "id", "COMMUNE_S3_SECRET_ACCESS_KEY": "secret"]

    private func read(_ text: String?, secrets: Bool = true) -> (S3Configuration?, [String]) {
        var values = secrets ? self.secrets : [:]
        values["COMMUNE_BLOBS"] = text
        var settings = Settings(values)
        let configuration = S3Configuration(reading: &settings)
        return (configuration, settings.faults.map(\.variable))
    }

    @Test("unset and database are the database, without secrets", arguments: [nil, "", "database"])
    func database(_ text: String?) {
        let (configuration, faults) = read(text, secrets: false)
        #expect(configuration == nil)
        #expect(faults.isEmpty)
    }

    @Test(
        "bucket, prefix and place make the URL of a key",
        arguments: [
            ("s3://mail", "https://mail.s3.us-east-1.amazonaws.com/k"),
            ("s3://mail/a/b/?region=eu-central-1", "https://mail.s3.eu-central-1.amazonaws.com/a/b/k"),
            ("s3://mail?endpoint=http://127.0.0.1:9000", "http://127.0.0.1:9000/mail/k"),
            ("s3://mail/p?endpoint=https://s3.test:443", "https://s3.test/mail/p/k"),
            ("s3://mail?endpoint=https://s3.test&style=virtual", "https://mail.s3.test/k"),
            ("s3://mail?style=path", "https://s3.us-east-1.amazonaws.com/mail/k"),
        ]
    )
    func places(_ text: String, _ url: String) throws {
        let (configuration, faults) = read(text)
        #expect(faults.isEmpty)
        let found = try #require(configuration)
        #expect(found.place(of: "k", under: found.endpoint).url == url)
    }

    @Test("the public endpoint is another one when it is given")
    func publicEndpoint() throws {
        let found = try #require(
            read("s3://mail?endpoint=http://minio:9000&public=https://files.example.com").0
        )
        #expect(found.endpoint == "http://minio:9000")
        #expect(found.publicEndpoint == "https://files.example.com")
    }

    @Test(
        "what is wrong is a fault of the variable",
        arguments: [
            "disk", "s3://", "s3://UPPER", "s3://ab", "http://mail", "s3://mail?endpoint=minio:9000",
            "s3://mail?endpoint=http://h/path", "s3://mail?style=both", "s3://mail/a%20b",
            "s3://mail?regoin=x",
            "s3://mail?region=", "s3://mail?endpoint=http://u:p@h",
        ]
    )
    func refused(_ text: String) {
        let (configuration, faults) = read(text)
        #expect(configuration == nil)
        #expect(faults == ["COMMUNE_BLOBS"])
    }

    @Test("a bucket without its secrets names both of them")
    func noSecrets() {
        #expect(
            read("s3://mail", secrets: false).1
                == ["COMMUNE_S3_ACCESS_KEY_ID", "COMMUNE_S3_SECRET_ACCESS_KEY"]
        )
    }
}
