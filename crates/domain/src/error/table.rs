//! Kinds of failure: the table that maps each to the wire, to scripts and to the shell.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The kind.
    pub kind: ErrorKind,
    /// gRPC status code (its number in the gRPC specification).
    pub grpc: u8,
    /// Stable machine string.
    pub reason: &'static str,
    /// Exit code of `vdvs`.
    pub exit: u8,
    /// Whether the same request may succeed later without anybody changing it.
    pub retry: bool,
    /// When it happens, for the documentation.
    pub when: &'static str,
}

macro_rules! kinds {
    ($($kind:ident = $grpc:literal, $reason:literal, $exit:literal, $retry:literal, $when:literal;)+) => {
        /// What kind of failure an [`Error`] is. The set only grows; strings and numbers never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum ErrorKind {
            $(#[doc = $when] $kind,)+
        }

        impl ErrorKind {
            /// All kinds, in the order of the table.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind,)+];

            /// The kind's row.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(ErrorKind::$kind => Row {
                        kind: ErrorKind::$kind, grpc: $grpc, reason: $reason, exit: $exit,
                        retry: $retry, when: $when,
                    },)+
                }
            }
        }
    };
}

kinds! {
    NotFound = 5, "NOT_FOUND", 3, false, "No volume of that name, after a fresh look at every datastore where it could be, or another one than is meant; or no such vmgroup, VM, privilege or policy.";
    AlreadyExists = 6, "ALREADY_EXISTS", 4, false, "A volume of that name exists with other options; or a vmgroup, member, privilege or policy exists already.";
    InvalidArgument = 3, "INVALID_ARGUMENT", 2, false, "A name, size, option or message that is malformed.";
    PermissionDenied = 7, "PERMISSION_DENIED", 5, false, "The caller's vmgroup may not do this on that datastore.";
    UnknownCaller = 16, "UNKNOWN_CALLER", 5, false, "The hypervisor could not say which VM is calling, or two VMs claim one identity.";
    NotConfigured = 9, "NOT_CONFIGURED", 5, false, "The datastore is governed by a configuration this host does not have; access is closed.";
    InUse = 9, "IN_USE", 6, true, "The volume is attached to another VM, or mounted.";
    Superseded = 10, "SUPERSEDED", 6, false, "The message speaks of an attachment that a newer one replaced.";
    RequestMismatch = 3, "REQUEST_MISMATCH", 2, false, "A request id was used twice for different things.";
    Conflict = 9, "CONFLICT", 4, false, "What there is does not allow the change: a vmgroup that is not empty, a VM of another vmgroup, a privilege that is needed.";
    Ambiguous = 9, "AMBIGUOUS", 4, false, "Two things have that name: volumes on two datastores, or VMs.";
    Unavailable = 14, "UNAVAILABLE", 7, true, "The answer is not known now: a datastore, the host or an unfinished operation stands in the way.";
    Timeout = 4, "TIMEOUT", 7, true, "The wait ended before the volume was free.";
    Overloaded = 8, "OVERLOADED", 7, true, "Too many requests of this VM are under way.";
    NoSpace = 8, "NO_SPACE", 8, false, "The datastore, or the VM's controllers, are full.";
    QuotaExceeded = 8, "QUOTA_EXCEEDED", 8, false, "The vmgroup's total on that datastore would be exceeded.";
    FormatRefused = 9, "FORMAT_REFUSED", 9, false, "Formatting could destroy data.";
    Damaged = 15, "DAMAGED", 9, false, "A record or disk is damaged; nothing was changed.";
    NewerFormat = 12, "NEWER_FORMAT", 9, false, "A newer version of this program wrote that; this one leaves it untouched.";
    VersionMismatch = 12, "VERSION_MISMATCH", 10, false, "Guest and host speak no common protocol version.";
    HostFailed = 14, "HOST_FAILED", 7, true, "The hypervisor refused or failed a call.";
    Internal = 13, "INTERNAL", 1, false, "A defect of this program.";
}

impl ErrorKind {
    /// The kind with this machine string.
    #[must_use]
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.row().reason == reason)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().reason)
    }
}

/// The table as Markdown: the body of `docs/error-codes.md`.
#[must_use]
pub fn table_as_markdown() -> String {
    let mut out = String::from(
        "| reason | gRPC code | exit code | try again | when |\n|---|---|---|---|---|\n",
    );
    for kind in ErrorKind::ALL {
        let row = kind.row();
        let retry = if row.retry { "yes" } else { "no" };
        out.push_str(&format!(
            "| `{}` | {} | {} | {retry} | {} |\n",
            row.reason, row.grpc, row.exit, row.when
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn machine_strings_are_unique_and_found_again() {
        let reasons: HashSet<_> = ErrorKind::ALL.iter().map(|k| k.row().reason).collect();
        assert_eq!(reasons.len(), ErrorKind::ALL.len());
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_reason(kind.row().reason), Some(*kind));
            assert!((1..=16).contains(&kind.row().grpc), "{kind}");
            assert!(kind.row().exit != 0, "{kind}");
        }
    }

    #[test]
    fn the_documentation_lists_this_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/error-codes.md");
        let doc = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            doc.contains(&table_as_markdown()),
            "docs/error-codes.md differs from the table; it should contain:\n{}",
            table_as_markdown()
        );
    }
}
