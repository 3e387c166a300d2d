//! What a package says about itself.
//!
//! The order of elements is the one hosts expect; [`ORDER`] is the whole list, and writing keeps to it. Reading takes them in
//! any order and lets unknown ones be: real packages have more than we need.

mod read;
mod write;

use std::fmt;

use crate::error::BuildError;

pub use read::MOST_FILES;

/// The elements in the order hosts expect.
pub const ORDER: &[&str] = &[
    "type",
    "name",
    "version",
    "vendor",
    "summary",
    "description",
    "release-date",
    "urls",
    "relationships",
    "software-tags",
    "system-requires",
    "file-list",
    "acceptance-level",
    "live-install-allowed",
    "live-remove-allowed",
    "cimom-restart",
    "stateless-ready",
    "overlay",
    "payloads",
];
/// What the copy in a bundle has behind them.
pub const IN_DEPOT: &[&str] = &["relative-path", "packed-size", "checksum"];

/// How far a host has to trust a package to take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Acceptance {
    /// Nobody vouches for it.
    Community,
    /// A partner signed it.
    Partner,
    /// The vendor accepted it.
    Accepted,
    /// The vendor certified it.
    Certified,
}

impl Acceptance {
    /// All, the least trusted first.
    pub const ALL: [Self; 4] = [
        Self::Community,
        Self::Partner,
        Self::Accepted,
        Self::Certified,
    ];

    /// As descriptors write it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Community => "community",
            Self::Partner => "partner",
            Self::Accepted => "accepted",
            Self::Certified => "certified",
        }
    }

    /// Reads a descriptor's word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.text() == text)
    }
}

/// A package's version, `x.y.z-a.b.c`: what it is, and which build of it. A host takes a package of the same version for
/// the same package, so every build needs a higher one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// Reads one.
    ///
    /// # Errors
    /// [`BuildError::Value`].
    pub fn new(text: impl Into<String>) -> Result<Self, BuildError> {
        let text = text.into();
        let number = |n: &str| {
            (1..=10).contains(&n.len())
                && n.bytes().all(|b| b.is_ascii_digit())
                && (n == "0" || !n.starts_with('0'))
        };
        let three = |part: &str| part.split('.').count() == 3 && part.split('.').all(number);
        let halves = text.split_once('-');
        if halves.is_some_and(|(what, build)| three(what) && three(build)) {
            return Ok(Self(text));
        }
        Err(BuildError::Value {
            what: "version of a package",
            value: text,
            why: "it is written x.y.z-a.b.c, all of them numbers",
        })
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One side of a relation to other packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// The other package, or a name it provides.
    pub name: String,
    /// `>=` and its like, with a version; none: any.
    pub version: Option<(String, String)>,
}

impl Constraint {
    /// From this version on.
    #[must_use]
    pub fn at_least(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: Some((">=".to_owned(), version.to_owned())),
        }
    }
}

/// Relations to other packages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relationships {
    /// Must be there.
    pub depends: Vec<Constraint>,
    /// Must not be there.
    pub conflicts: Vec<Constraint>,
    /// Are removed by the installation.
    pub replaces: Vec<Constraint>,
    /// Other names of this package.
    pub provides: Vec<Constraint>,
    /// What it works with.
    pub compatible_with: Vec<Constraint>,
}

/// A checksum of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// `sha-256` or `sha-1`.
    pub kind: String,
    /// `gunzip`: of the content; none: of the payload as it is stored.
    pub process: Option<String>,
    /// In lower-case hexadecimal.
    pub hex: String,
}

/// What the descriptor says of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadInfo {
    /// Its name in the archive.
    pub name: String,
    /// `tgz`, `vgz`, …
    pub kind: String,
    /// Its size as it is stored.
    pub size: u64,
    /// Its checksums.
    pub checksums: Vec<Checksum>,
}

/// A descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// `bootbank`, for everything but VMware's tools for guests.
    pub kind: String,
    /// The package's name.
    pub name: String,
    /// Its version, as it stands there.
    pub version: String,
    /// Who made it.
    pub vendor: String,
    /// One line.
    pub summary: String,
    /// More lines.
    pub description: String,
    /// RFC 3339.
    pub release_date: String,
    /// Keys and addresses.
    pub urls: Vec<(String, String)>,
    /// Relations to other packages.
    pub relationships: Relationships,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether VMs must leave the host first.
    pub maintenance_mode: bool,
    /// Files, relative to the root.
    pub files: Vec<String>,
    /// `community` and up, as it stands there.
    pub acceptance: String,
    /// No reboot to install.
    pub live_install: bool,
    /// No reboot to remove.
    pub live_remove: bool,
    /// Restarts CIM.
    pub cimom_restart: bool,
    /// Works on hosts that boot over the network.
    pub stateless_ready: bool,
    /// Lies over files of others.
    pub overlay: bool,
    /// Payloads.
    pub payloads: Vec<PayloadInfo>,
}

impl Descriptor {
    /// The identity by which hosts and bundles call it.
    #[must_use]
    pub fn id(&self) -> String {
        let Self {
            vendor,
            kind,
            name,
            version,
            ..
        } = self;
        format!("{vendor}_{kind}_{name}_{version}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_six_numbers() {
        assert_eq!(
            Version::new("0.1.0-1.0.1795271000").unwrap().to_string(),
            "0.1.0-1.0.1795271000"
        );
        for text in [
            "0.1.0",
            "0.1.0-1",
            "0.1.0-1.0.07",
            "0.1-1.0.0",
            "a.b.c-d.e.f",
            "1.2.3-4.5.6 ",
            "1.2.3-4.5.",
            "",
        ] {
            assert!(Version::new(text).is_err(), "{text}");
        }
    }
}
