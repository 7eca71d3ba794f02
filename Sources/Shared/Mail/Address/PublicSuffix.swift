// Where registrations happen: libpsl with its built-in copy of the Public Suffix List.

import CPublicSuffix

/// Questions to the Public Suffix List, for names in the form that `DomainName.ascii` has.
package enum PublicSuffix {
    /// Whether others may register names directly below this one (`com`, `co.uk`, `github.io`); every unlisted top-level name is one.
    package static func isPublicSuffix(_ domain: String) -> Bool {
        psl_is_public_suffix(psl_builtin(), domain) == 1
    }

    /// The public suffix and one label more, which is the organizational domain of DMARC; nil for a suffix itself.
    package static func registrableDomain(of domain: String) -> String? {
        domain.withCString { name in
            // The answer points into the name that was passed, so it must not outlive this closure.
            psl_registrable_domain(psl_builtin(), name).map { String(cString: $0) }
        }
    }
}
