//! What lets a package install without force, and work afterwards.
//!
//! Each rule has a name by which the decisions and the documentation call it (ADR 0090). A rule that does not hold is said
//! with what would have to be different; a package that breaks none is one we ship. What the rules cannot show is what a
//! real host does with the package.
//!
//! | module | rules |
//! |---|---|
//! | `archive` | P-1, P-2: containers and checksums |
//! | `description` | P-3, P-5: descriptor |
//! | `files` | P-4, P-10, S-3, L-2: where files are, what is kept, what runs |
//! | `service` | P-6, P-7: init script, service, firewall |
//! | `plugin` | P-8: esxcli |
//! | `depot` | P-9: bundle and component |

mod archive;
mod depot;
mod description;
mod files;
mod plugin;
mod service;

use std::fmt;

use crate::bundle::Bundle;
use crate::error::ReadError;
use crate::vib::Vib;

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The rule's name.
    pub rule: &'static str,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// Collects what is wrong.
#[derive(Debug, Default)]
struct Findings(Vec<Broken>);

impl Findings {
    /// Notes the text, unless it holds.
    fn must(&mut self, holds: bool, rule: &'static str, text: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Broken { rule, text: text() });
        }
    }
}

/// Every rule a package breaks.
///
/// # Errors
/// [`ReadError`] when it is none.
pub fn package(bytes: &[u8]) -> Result<Vec<Broken>, ReadError> {
    let vib = Vib::read(bytes)?;
    let mut findings = Findings::default();
    archive::check(bytes, &vib, &mut findings)?;
    description::check(&vib, &mut findings)?;
    files::check(&vib, &mut findings);
    service::check(&vib, &mut findings);
    plugin::check(&vib, &mut findings);
    Ok(findings.0)
}

/// Every rule a bundle, or a package in it, breaks.
///
/// # Errors
/// [`ReadError`] when it is none.
pub fn bundle(bytes: &[u8]) -> Result<Vec<Broken>, ReadError> {
    let bundle = Bundle::read(bytes)?;
    let mut findings = Findings::default();
    depot::check(&bundle, &mut findings);
    Ok(findings.0)
}

#[cfg(test)]
mod tests;
