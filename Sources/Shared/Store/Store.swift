// All SQL about mail, one file a noun. An act that starts work inserts its job in the same transaction.

package import Blobs
package import Database
package import Platform

/// The nouns of the platform in its database.
package struct Store: Sendable {
    package private(set) var database: Database
    package let secrets: SecretBox
    package private(set) var blobs: Blobs
    /// Lets sends of one moment share a transaction; nil for those that already do.
    private(set) var sends: SharedSends?

    /// A store on one database; `secrets` opens what is sealed there, and new attachments go to `s3` if it is given.
    package init(_ database: Database, secrets: SecretBox, s3: S3Configuration? = nil) {
        self.database = database
        self.secrets = secrets
        blobs = Blobs(database, s3: s3)
        sends = SharedSends(self)
    }

    /// The same store as a limited key sees it; nil is no limit.
    package func limited(to limits: KeyLimits?) -> Store {
        limits == nil ? self : on(database.limited(to: limits))
    }

    /// The same store through another door to its database.
    func on(_ database: Database) -> Store {
        var store = self
        store.database = database
        store.blobs = blobs.through(database)
        return store
    }
}

/// What a caller asked for cannot be done, and why.
package enum StoreFault: Error, Sendable, Equatable {
    /// The noun does not exist for this organization.
    case unknown(String)
    /// Somebody has it already.
    case taken(String)
    /// It exists but does not allow this; the sentence says why.
    case refused(String)
    /// Not this organization's to use.
    case forbidden(String)
    /// Every recipient is suppressed; their addresses.
    case suppressed([String])
    /// More than a message may hold.
    case tooLarge(String)
}
