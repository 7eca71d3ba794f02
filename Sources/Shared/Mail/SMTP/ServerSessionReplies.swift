// What only our server says; the replies that a client of ours may also have to name are in ReplyNames.

extension Reply {
    static let help = Reply(214, EnhancedStatus(2, 0, 0), "See https://www.rfc-editor.org/rfc/rfc5321")
    static let badCharacter = Reply(500, EnhancedStatus(5, 5, 2), "Control character in a command line")
    static let bareLineFeed = Reply(500, EnhancedStatus(5, 5, 2), "Lines end with CR LF")
    static let pipelining = Reply(503, EnhancedStatus(5, 5, 0), "This command must be the last of a group")
    static let earlyTalker = Reply(554, EnhancedStatus(5, 5, 1), "Speak when you are spoken to")

    /// The name is what our logs call the message.
    static func accepted(as name: String) -> Reply {
        Reply(250, EnhancedStatus(2, 0, 0), "OK: queued as \(name)")
    }
}
