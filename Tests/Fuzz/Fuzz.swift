// The entry point that libFuzzer calls; it brings the main function. Only built by scripts/fuzz.

import Foundation
import FuzzTargets

private let target = ProcessInfo.processInfo.environment["COMMUNE_FUZZ_TARGET"].flatMap(FuzzTarget.init)

/// One input; what does not hold ends the process, so that libFuzzer keeps the input.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard let target else {
        FileHandle.standardError.write(Data("COMMUNE_FUZZ_TARGET names no target\n".utf8))
        exit(64)
    }
    if let fault = target.fault(in: Array(UnsafeBufferPointer(start: start, count: count))) {
        FileHandle.standardError.write(Data("\(target.rawValue): \(fault)\n".utf8))
        abort()
    }
    return 0
}
