// Signatures against the examples that AWS publishes ("Signature Calculations for the Authorization Header", "…Query
// Parameters" in the S3 API reference); a server that checks them is in Tests/interop/test_s3.py.

import Foundation
import Platform
import Testing

@testable import Blobs

@Suite("AWS Signature Version 4")
struct SigV4Tests {
    private let signer = SigV4(
        accessKey: "AKIAIOSFODNN7EXAMPLE",
        secretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        region: "us-east-1"
    )
    private let host = "examplebucket.s3.amazonaws.com"
    private let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    private func day() throws -> Timestamp { try #require(Timestamp(iso8601: "2013-05-24T00:00:00Z")) }

    @Test("a GET with a range is signed as in the example")
    func getObject() throws {
        let header = signer.authorization(
            method: "GET",
            path: "/test.txt",
            headers: [
                ("Host", host), ("Range", "bytes=0-9"), ("x-amz-content-sha256", empty),
                ("x-amz-date", "20130524T000000Z"),
            ],
            payload: empty,
            at: try day()
        )
        #expect(
            header == "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
                + "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
                + "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        )
    }

    @Test("a query is sorted and signed as in the example")
    func listObjects() throws {
        let header = signer.authorization(
            method: "GET",
            path: "/",
            query: [("prefix", "J"), ("max-keys", "2")],
            headers: [
                ("host", host), ("x-amz-content-sha256", empty), ("x-amz-date", "20130524T000000Z"),
            ],
            payload: empty,
            at: try day()
        )
        #expect(
            header.hasSuffix(
                "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
            )
        )
    }

    @Test("a URL that is given away is signed as in the example")
    func presigned() throws {
        let query = signer.presigned(host: host, path: "/test.txt", expiresIn: 86_400, at: try day())
        #expect(
            query == "X-Amz-Algorithm=AWS4-HMAC-SHA256"
                + "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
                + "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
                + "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        )
    }

    @Test("everything but unreserved characters is escaped, byte by byte")
    func escape() {
        #expect(SigV4.escape("a-b_c.d~e") == "a-b_c.d~e")
        #expect(SigV4.escape("attachment; filename=\"ü/\"") == "attachment%3B%20filename%3D%22%C3%BC%2F%22")
    }
}
