// A server that a test starts for itself. It dies with the test program, however that ends.

package import Foundation
import Glibc
import Synchronization

/// A running child process, behind a shell that kills it when this program is gone.
package final class ServerProcess: Sendable {
    /// Why a server did not come up.
    package struct Fault: Error, CustomStringConvertible {
        package let description: String

        /// Says why.
        package init(description: String) { self.description = description }
    }

    /// The server's process id.
    package let pid: Int32
    private let shell: pid_t
    /// Our end of the shell's standard input, whose closing is the sign to kill; nil once that was done.
    private let leash: Mutex<Int32?>

    /// Starts a program; its output goes to `log`.
    package init(_ program: String, _ arguments: [String], log: URL) throws {
        let script = """
            log=$1; shift
            "$@" </dev/null >"$log" 2>&1 & child=$!
            echo $child >&0
            read -r _
            kill -KILL $child
            wait $child
            """
        var ends: [Int32] = [-1, -1]
        // Closed in children: another server's leash in this one's hands would keep that one alive.
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw Fault(description: "no descriptor is left")
        }
        defer { close(ends[1]) }
        shell = try Self.spawn(
            ["/bin/sh", "-c", script, "server", log.path, program] + arguments,
            input: ends[1]
        )
        leash = Mutex(ends[0])
        var answer = [UInt8](repeating: 0, count: 32)
        let count = read(ends[0], &answer, answer.count)
        let text = String(decoding: answer.prefix(max(0, count)), as: UTF8.self)
        pid = Int32(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
        guard pid > 0 else { throw Fault(description: "\(program) did not start") }
    }

    deinit { end() }

    /// Foundation's `Process` would hand down the blocked signals of whatever thread it is called on, and with them a
    /// shell that never hears of its child's end.
    private static func spawn(_ words: [String], input: Int32) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, input, 0)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var pointers: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        pointers.append(nil)
        var shell: pid_t = 0
        let status = posix_spawn(&shell, words[0], &actions, &attributes, pointers, environ)
        guard status == 0 else { throw Fault(description: "\(words[0]) does not start: \(status)") }
        return shell
    }

    /// Whether the process still exists.
    package var isRunning: Bool { Glibc.kill(pid, 0) == 0 }

    /// Sends a signal to the server itself.
    package func signal(_ number: Int32) { Glibc.kill(pid, number) }

    /// Kills the server (SIGKILL) and returns when it is gone.
    package func end() {
        leash.withLock { leash in
            guard let open = leash else { return }
            close(open)
            leash = nil
            var status: Int32 = 0
            waitpid(shell, &status, 0)
        }
    }

    /// Starts a server on a free port, on another one where somebody took the first in between.
    package static func onFreePort<Server>(
        _ start: (Int) async throws -> Server
    ) async throws -> (port: Int, server: Server) {
        for _ in 0..<2 {
            let port = try freePort()
            if let server = try? await start(port) { return (port, server) }
        }
        let port = try freePort()
        return (port, try await start(port))
    }

    /// A port that was free a moment ago, on every local address.
    ///
    /// It is below those that Linux gives to outgoing connections, so that none of the other tests' takes it meanwhile.
    package static func freePort() throws -> Int {
        for _ in 0..<100 {
            let port = Int.random(in: 10_000..<32_768)
            if try isFree(port) { return port }
        }
        throw Fault(description: "no port is free")
    }

    private static func isFree(_ port: Int) throws -> Bool {
        let socket = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw Fault(description: "no socket") }
        defer { close(socket) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }

    /// An empty folder of its own under the temporary one.
    package static func makeFolder(_ name: String) throws -> URL {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("commune-\(name)-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder
    }

    /// Tries `isReady` every 20 ms for half a minute, as long as the process runs; false when it never was.
    package func waits(until isReady: () async -> Bool) async -> Bool {
        for _ in 0..<1500 where isRunning {
            if await isReady() { return true }
            // The server tells nobody when it is up, so it is asked again and again.
            try? await Task.sleep(for: .milliseconds(20))
        }
        return false
    }
}
