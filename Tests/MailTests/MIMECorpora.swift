// Real mail that nobody here wrote; it stays where it is and is read in place.

import Foundation

enum InboundCorpora {
    static let root: String? = {
        let beside = URL(filePath: #filePath).appending(path: "../../../../shared/corpora")
            .standardizedFileURL.path()
        let named = ProcessInfo.processInfo.environment["COMMUNE_CORPORA"]
        return [named, beside].compactMap(\.self).first { FileManager.default.fileExists(atPath: $0) }
    }()

    static var isPresent: Bool { root != nil }

    /// The files below a folder whose names pass, by their path below the corpora, in order.
    static func files(_ folder: String, where isWanted: (String) -> Bool = { _ in true }) -> [String] {
        guard let root, let walker = FileManager.default.enumerator(atPath: "\(root)/\(folder)") else {
            return []
        }
        return walker.compactMap { entry -> String? in
            guard let name = entry as? String, isWanted(name) else { return nil }
            var isFolder: ObjCBool = false
            let path = "\(root)/\(folder)/\(name)"
            guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), !isFolder.boolValue
            else {
                return nil
            }
            return "\(folder)/\(name)"
        }.sorted()
    }

    static func bytes(_ path: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(filePath: "\(root ?? "")/\(path)")))
    }

    static func json(_ path: String) throws -> Any {
        try JSONSerialization.jsonObject(with: Data(try bytes(path)), options: [.fragmentsAllowed])
    }

    static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: "\(root ?? "")/\(path)")
    }
}
