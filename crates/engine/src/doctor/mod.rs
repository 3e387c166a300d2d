//! What differs between four views of the same volumes, and its repair: `vdvs doctor`.
//!
//! ```text
//!   records and what lies beside them ─┐
//!   configurations of this host's VMs ─┤
//!   locks on the disks ────────────────┼─► findings: kind, object, text, since when ─► fix: looks again ─► repair ─► looks again
//!   what guests and other hosts said ──┘
//! ```
//! * Looking changes nothing. What cannot be looked at is a finding itself (`not-looked-at`): *clean* is said only of what
//!   was seen.
//! * A repair is the reconciler's, asked for by name: it looks again under the volume's key, and does nothing that is not
//!   safe any more. Whether it helped is found out by looking, not by believing it.
//! * What is seen twice is said once, by the kind that knows more.
//! * Times of findings are those of the records where these have one, else of the first look that saw it.
//!
//! | module | concept |
//! |---|---|
//! | [`kinds`] | the table of all kinds |
//! | `views` | the four views, looked at once |
//! | `owners`, `locks`, `disks`, `folders`, `records`, `hosts`, `datastores`, `guests` | what is found in them |
//! | `repair` | what is done about it |

mod datastores;
mod disks;
mod folders;
mod guests;
mod hosts;
mod kinds;
mod locks;
mod owners;
mod records;
mod repair;
mod views;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use vdvs_domain::{DatastoreName, Error, GroupId, Timestamp, VolumeId, VolumeName};

pub use kinds::{Kind, Remedy, Risk, Row};

use crate::inner::{Inner, locked};
use crate::layout::Place;
use crate::ports::{DiskPath, Vm};

pub(crate) use guests::Reports;
use views::Views;

/// Something a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of.
    pub kind: Kind,
    /// What it is about.
    pub object: String,
    /// What was found.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
    /// That is the time of the first look that saw it.
    pub since_seen: bool,
    /// The one command to act.
    pub command: String,
    /// The volume, where it is about one.
    pub volume: Option<VolumeId>,
}

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkup {
    /// Data at risk first, then by name and object.
    pub findings: Vec<Finding>,
    /// The host that looked.
    pub host: String,
    /// Volumes looked at.
    pub volumes: usize,
    /// VMs of this host looked at.
    pub vms: usize,
    /// Other hosts heard of.
    pub hosts: usize,
}

/// What became of a finding that was to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repaired {
    /// Nothing was tried: this is what would be done.
    Would,
    /// It is gone.
    Done,
    /// It was gone before anything was done.
    Gone,
    /// It stands.
    Refused,
}

impl Repaired {
    /// As the contract has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Would => "would",
            Self::Done => "repaired",
            Self::Gone => "gone",
            Self::Refused => "refused",
        }
    }
}

/// A finding that was to be repaired, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// The finding.
    pub finding: Finding,
    /// What became of it.
    pub outcome: Repaired,
    /// In words.
    pub text: String,
}

/// What a repair needs to look again.
#[derive(Debug, Clone)]
enum Subject {
    /// Nothing is repaired here.
    None,
    /// A volume, by the place of its record.
    Volume(Place),
    /// A disk in the configuration of a VM of this host.
    DiskOf(Box<Vm>, DiskPath),
    /// A name's claim.
    Name(DatastoreName, GroupId, VolumeName),
    /// A vmgroup's ledger.
    Ledger(DatastoreName, GroupId),
}

/// A finding on its way.
#[derive(Debug)]
struct Found {
    kind: Kind,
    object: String,
    text: String,
    since: Option<Timestamp>,
    /// `None`: the repair's.
    command: Option<String>,
    volume: Option<VolumeId>,
    subject: Subject,
}

impl Found {
    fn new(kind: Kind, object: impl ToString, text: impl Into<String>) -> Self {
        Self {
            kind,
            object: object.to_string(),
            text: text.into(),
            since: None,
            command: None,
            volume: None,
            subject: Subject::None,
        }
    }

    fn since(mut self, at: Timestamp) -> Self {
        self.since = Some(at);
        self
    }

    fn run(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    fn about(mut self, volume: VolumeId, subject: Subject) -> Self {
        self.volume = Some(volume);
        self.subject = subject;
        self
    }

    fn with(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }
}

/// When findings were seen first.
#[derive(Debug, Default)]
pub(crate) struct FirstSeen(Mutex<BTreeMap<(Kind, String), Timestamp>>);

impl FirstSeen {
    /// Takes a complete look in: what is not in it any more begins anew when it comes again.
    fn update(&self, found: &[Found], now: Timestamp) -> BTreeMap<(Kind, String), Timestamp> {
        let key = |f: &Found| (f.kind, f.object.clone());
        let mut seen = locked(&self.0);
        let present: HashSet<_> = found.iter().map(key).collect();
        seen.retain(|key, _| present.contains(key));
        for key in present {
            seen.entry(key).or_insert(now);
        }
        seen.clone()
    }
}

/// A word as a shell reads it back.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "@%_-+=:,./".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

impl Inner {
    /// Everything that is found now.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there are no findings of that name.
    pub(crate) async fn doctor(self: &Arc<Self>, name: &str) -> Result<Checkup, Error> {
        let wanted = match name {
            "" => None,
            name => Some(kind_named(name)?),
        };
        let views = self.look_around().await;
        let found = self.diagnose(&views).await;
        let seen = self.first_seen.update(&found, self.now());
        let fits = |f: &Found| wanted.is_none_or(|kind| f.kind == kind);
        let findings = found.into_iter().filter(fits);
        let mut findings: Vec<_> = findings.map(|f| shown(&f, &seen)).collect();
        findings.sort_by(|a, b| order(a).cmp(&order(b)));
        Ok(Checkup {
            findings,
            host: self.ports.host.identity().name,
            volumes: views.volumes.len(),
            vms: views.vms.len(),
            hosts: views.others.files.len(),
        })
    }

    /// What the views show, one finding per kind and object.
    fn diagnose<'a>(self: &'a Arc<Self>, views: &'a Views) -> BoxFuture<'a, Vec<Found>> {
        Box::pin(self.diagnose_now(views))
    }

    async fn diagnose_now(self: &Arc<Self>, views: &Views) -> Vec<Found> {
        let mut found = views.missing();
        found.extend(self.findings_of_datastores(views).await);
        found.extend(self.findings_of_hosts(views));
        found.extend(self.findings_of_disks(views).await);
        found.extend(self.findings_of_owners(views).await);
        found.extend(self.findings_of_records(views).await);
        found.extend(self.findings_of_folders(views).await);
        found.extend(self.findings_of_guests(views).await);
        let held = self.findings_of_locks(views, &found).await;
        found.extend(held);
        let mut said = HashSet::new();
        found.retain(|f| said.insert((f.kind, f.object.clone())));
        found
    }
}

fn order(finding: &Finding) -> (Risk, Kind, &str) {
    (finding.kind.row().risk, finding.kind, &finding.object)
}

/// A finding as a person sees it.
fn shown(found: &Found, seen: &BTreeMap<(Kind, String), Timestamp>) -> Finding {
    let (kind, object) = (found.kind, found.object.clone());
    let first = seen.get(&(kind, object.clone())).copied();
    let name = kind.row().name;
    let command = found
        .command
        .clone()
        .unwrap_or_else(|| match kind.row().remedy {
            Remedy::Agent(_) => format!("vdvs doctor --fix={name} {}", shell_word(&object)),
            Remedy::Person(what) => what.to_owned(),
        });
    Finding {
        kind,
        text: found.text.clone(),
        since: found.since.or(first).unwrap_or_default(),
        since_seen: found.since.is_none(),
        command,
        volume: found.volume,
        object,
    }
}

/// The kind of that name.
fn kind_named(name: &str) -> Result<Kind, Error> {
    Kind::named(name).ok_or_else(|| {
        let names: Vec<_> = Kind::ALL.iter().map(|k| k.row().name).collect();
        Error::Invalid {
            what: "finding",
            problem: format!(
                "there is none of that name; there are: {}",
                names.join(", ")
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_handed_to_a_shell_as_one_word() {
        assert_eq!(shell_word("db@ds1"), "db@ds1");
        assert_eq!(shell_word("my db@ds 1"), "'my db@ds 1'");
        assert_eq!(shell_word("a'b"), r"'a'\''b'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn a_finding_that_was_away_begins_anew() {
        let seen = FirstSeen::default();
        let at = Timestamp::from_millis;
        let look = |names: &[&str], now| {
            let found: Vec<_> = names
                .iter()
                .map(|n| Found::new(Kind::Orphan, *n, ""))
                .collect();
            seen.update(&found, at(now))
        };
        let key = |n: &str| (Kind::Orphan, n.to_owned());
        look(&["a", "b"], 1);
        look(&["a"], 2);
        let last = look(&["a", "b"], 3);
        assert_eq!(last.get(&key("a")), Some(&at(1)));
        assert_eq!(last.get(&key("b")), Some(&at(3)));
    }
}
