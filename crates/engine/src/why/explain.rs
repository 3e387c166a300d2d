//! Why a volume is where it is, in sentences: a pure function of what was found.
//!
//! The first case that fits is the one that is told; the order is that of urgency: what keeps the volume from
//! everybody, then who waits for what, then who was denied, then what merely is so.

use std::fmt::Write as _;

use vdvs_domain::error::full_name;
use vdvs_domain::{DatastoreName, Failover, Timestamp, VolumeRecord};

use crate::hosts::age_in_words;
use crate::plan::OwnerState;
use crate::ports::{AuditRow, DiskLock, Power};
use crate::proof::UNREADABLE;

use super::timeline::vm_or_user;

/// A denial older than this is no answer to *why*.
const DENIAL_MATTERS_MS: u64 = 24 * 3600 * 1000;

/// What is seen of a volume's holder from this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) state: OwnerState,
    /// Looked at only when the holder is not here.
    pub(crate) lock: Option<DiskLock>,
    /// What stands against its death although the lock is free, as a clause; empty: nothing.
    pub(crate) against: &'static str,
    /// Name of the host it was last said to be on.
    pub(crate) host: String,
    /// How long that host's agent is silent, when it is longer than usual.
    pub(crate) silent_ms: Option<u64>,
}

/// Who waits first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waits {
    pub(crate) vm: String,
    pub(crate) host: String,
    pub(crate) since: Timestamp,
}

/// A denial about the volume that came after everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) row: AuditRow,
    /// The vmgroup that the VM belongs to; none: no group, or nobody knows.
    pub(crate) group_of_vm: Option<String>,
    /// That group has a privilege on the volume's datastore already.
    pub(crate) has_privilege: bool,
}

/// Everything that is found about a volume.
#[derive(Debug, Clone)]
pub(crate) struct Situation<'a> {
    pub(crate) ds: &'a DatastoreName,
    pub(crate) record: &'a VolumeRecord,
    pub(crate) now: Timestamp,
    /// Its vmgroup's name.
    pub(crate) group: &'a str,
    pub(crate) orphan: bool,
    /// What is made of it, or for it, in words.
    pub(crate) making: Option<String>,
    /// Which clone reads it, in words.
    pub(crate) reader: Option<String>,
    /// Name of the host that has the operation under way.
    pub(crate) operating_host: String,
    /// Names of the vmgroups it is between, and since when.
    pub(crate) moving: Option<(String, String, Timestamp)>,
    pub(crate) waits: Option<Waits>,
    /// None: it has no holder.
    pub(crate) sight: Option<Sight>,
    pub(crate) denial: Option<Denial>,
    /// How long a lock must read free.
    pub(crate) free_proof_s: u64,
    /// Longer than this no operation takes.
    pub(crate) usual_ms: u64,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Explained {
    /// In one sentence.
    pub(crate) headline: String,
    /// Something is waited for or under way: the headline is what people see in a volume's status.
    pub(crate) waiting: bool,
    pub(crate) proof: String,
    pub(crate) resolves: String,
    pub(crate) command: String,
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._@/-:=+,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

const NOT_NEEDED: &str = "not needed";

impl Situation<'_> {
    fn name(&self) -> String {
        full_name(&self.record.name, self.ds).to_string()
    }

    /// How a command names it.
    fn address(&self) -> String {
        if self.orphan {
            return self.record.id.to_string();
        }
        quoted(&format!("{}/{}", self.group, self.name()))
    }

    fn ago(&self, at: Timestamp) -> String {
        age_in_words(self.now.millis().saturating_sub(at.millis()))
    }

    fn seconds_since(&self, at: Timestamp) -> u64 {
        self.now.millis().saturating_sub(at.millis()) / 1000
    }

    fn force(&self) -> String {
        format!("vdvs volume detach --force {}", self.address())
    }

    /// Whether somebody or something is waited for, so that people see a headline in the volume's status.
    fn being_made(&self) -> Option<Explained> {
        let making = self.making.clone().filter(|_| !self.record.exists())?;
        let operation = self.record.operation.as_ref()?;
        Some(Explained {
            headline: making,
            waiting: true,
            proof: NOT_NEEDED.to_owned(),
            resolves: format!(
                "when host {} has made it; should that host be dead, any other finishes or removes it ten minutes after \
                 its last word",
                self.operating_host
            ),
            command: match operation.kind.name() {
                "delete" => format!("vdvs volume rm {}", self.address()),
                _ => String::new(),
            },
        })
    }

    fn being_read(&self) -> Option<Explained> {
        let reader = self.reader.clone()?;
        Some(Explained {
            headline: reader,
            waiting: true,
            proof: NOT_NEEDED.to_owned(),
            resolves: "when the clone is made, or its host gives it up".to_owned(),
            command: String::new(),
        })
    }

    fn operating(&self) -> Option<Explained> {
        let operation = self.record.operation.as_ref()?;
        let verb = operation.kind.name();
        let millis = self.now.millis().saturating_sub(operation.started.millis());
        let mut headline = format!("{verb} is under way since {millis} ms");
        if millis <= self.usual_ms {
            return Some(Explained {
                headline,
                waiting: true,
                proof: NOT_NEEDED.to_owned(),
                resolves: format!(
                    "when host {} has done it, usually within seconds",
                    self.operating_host
                ),
                command: String::new(),
            });
        }
        headline = format!(
            "{verb} is unfinished since {}: host {} began it and did not end it",
            age_in_words(millis),
            self.operating_host
        );
        Some(Explained {
            headline,
            waiting: true,
            proof: self.proof(),
            resolves: format!(
                "when the agent of host {} runs and reaches datastore {}, or the holder is proven dead and somebody asks \
                 for the volume",
                self.operating_host, self.ds
            ),
            command: self.force(),
        })
    }

    fn transfer(&self) -> Option<Explained> {
        let (from, to, began) = self.moving.as_ref()?;
        Some(Explained {
            headline: format!(
                "it is on its way from vmgroup {from} to vmgroup {to} since {}",
                self.ago(*began)
            ),
            waiting: true,
            proof: NOT_NEEDED.to_owned(),
            resolves: "within a minute: any host that sees it ends it, or takes it back".to_owned(),
            command: format!(
                "vdvs volume move {} --to-group={}",
                self.record.id,
                quoted(to)
            ),
        })
    }

    /// The proof that the holder cannot write.
    fn proof(&self) -> String {
        let (Some(owner), Some(sight)) = (self.record.ownership.owner(), &self.sight) else {
            return NOT_NEEDED.to_owned();
        };
        let vm = &owner.vm.name;
        let mut text = match (&sight.state, &sight.lock) {
            (OwnerState::Here(Power::Off), _) => {
                return format!("found: VM {vm} is off on this host");
            }
            (OwnerState::Here(Power::Suspended), _) => {
                return format!(
                    "missing: VM {vm} is suspended, and writes again when it is resumed"
                );
            }
            (OwnerState::Here(Power::On), _) => {
                return format!("missing: VM {vm} runs on this host");
            }
            (_, Some(DiskLock::Free)) if sight.against.is_empty() => {
                return format!(
                    "found as soon as the lock on its disk has read free for {} s without gap; it reads free now, and VM \
                     {vm} is not suspended",
                    self.free_proof_s
                );
            }
            (_, Some(DiskLock::Free)) => format!(
                "missing: the lock on its disk is free, but it belongs to VM {vm}, {}",
                sight.against
            ),
            (_, Some(DiskLock::Held { by })) => format!(
                "missing: the lock on its disk is held by {by}: VM {vm} lives, or its host died too short a time ago"
            ),
            (_, Some(DiskLock::Unknown { why })) => {
                format!("missing: nobody can say whether the lock on its disk is held: {why}")
            }
            (_, None) => "missing: the lock on its disk was not looked at".to_owned(),
        };
        if let Some(silent) = sight.silent_ms {
            write!(
                text,
                "; host {} is silent for {}",
                sight.host,
                age_in_words(silent)
            )
            .ok();
        }
        text
    }

    fn waited_for(&self) -> Option<Explained> {
        let waits = self.waits.as_ref()?;
        let waited = self.seconds_since(waits.since);
        let who = format!(
            "VM {} on host {} waits for it since {waited} s",
            waits.vm, waits.host
        );
        let (Some(owner), Some(sight)) = (self.record.ownership.owner(), &self.sight) else {
            return Some(Explained {
                headline: who,
                waiting: true,
                proof: NOT_NEEDED.to_owned(),
                resolves: "at its next look, within a second: nobody holds the volume".to_owned(),
                command: String::new(),
            });
        };
        let holder = &owner.vm.name;
        let proof = self.proof();
        let told = |then: String, resolves: String, command: String| {
            Some(Explained {
                headline: format!("{who}; {then}"),
                waiting: true,
                proof: proof.clone(),
                resolves,
                command,
            })
        };
        let lock = sight.lock.as_ref();
        match (&sight.state, lock, self.record.options.failover) {
            (OwnerState::Here(Power::Off), ..) => told(
                format!("VM {holder} is off, and it is being taken out of its configuration"),
                "within seconds".to_owned(),
                String::new(),
            ),
            (OwnerState::Here(Power::Suspended), ..) => told(
                format!("it stays with VM {holder}, which is suspended and keeps its volumes"),
                format!("never by itself: VM {holder} has to be resumed or powered off"),
                format!("power off VM {holder} on host {}, or resume it", sight.host),
            ),
            (OwnerState::NotHere, Some(DiskLock::Free), _) if sight.against == UNREADABLE => told(
                format!("it stays with VM {holder}, {UNREADABLE}"),
                format!(
                    "within {} s of when the file can be read and names no saved state",
                    self.free_proof_s.saturating_add(2)
                ),
                self.force(),
            ),
            (OwnerState::NotHere, Some(DiskLock::Free), _) if !sight.against.is_empty() => told(
                format!("it stays with VM {holder}, {}", sight.against),
                format!(
                    "never by itself: VM {holder} has to be resumed or powered off, where it is registered"
                ),
                format!("power off VM {holder} on host {}, or resume it", sight.host),
            ),
            (OwnerState::NotHere, Some(DiskLock::Free), _) => told(
                format!(
                    "VM {holder} on host {} has let go of the disk's lock, and once that has read free for {} s it is taken \
                     over",
                    sight.host, self.free_proof_s
                ),
                format!("within {} s", self.free_proof_s.saturating_add(2)),
                String::new(),
            ),
            (_, _, Failover::Fence) => self.fence(&who, waited, &proof),
            (OwnerState::NotHere, Some(DiskLock::Unknown { .. }), _) => told(
                format!(
                    "it stays with VM {holder} on host {}, and nobody can say whether that lives",
                    sight.host
                ),
                format!("when VM {holder} lets it go"),
                self.force(),
            ),
            (OwnerState::NotHere, ..) => told(
                format!("it stays with VM {holder} until that lets it go"),
                format!(
                    "when VM {holder} lets it go; if host {} is dead, {} s after its lock on the disk lapsed",
                    sight.host, self.free_proof_s
                ),
                self.force(),
            ),
            _ => told(
                format!("it stays with VM {holder} until that lets it go"),
                format!("when VM {holder} lets it go: stop the container that uses it there"),
                self.force(),
            ),
        }
    }

    fn fence(&self, who: &str, waited: u64, proof: &str) -> Option<Explained> {
        let owner = self.record.ownership.owner()?;
        let sight = self.sight.as_ref()?;
        let after = u64::from(self.record.options.fence_after.seconds());
        let holder = &owner.vm.name;
        let (then, resolves) = match after.saturating_sub(waited) {
            0 => (
                format!("it is being taken from VM {holder}"),
                format!(
                    "within seconds, by the agent of host {}; if that host is dead, when its lock on the disk lapses",
                    sight.host
                ),
            ),
            left => (
                format!("it is taken from VM {holder} in {left} s"),
                format!("in {left} s, by the fence, if VM {holder} does not let it go before"),
            ),
        };
        // Late by so much, nobody does it.
        let command = match waited > after.saturating_add(10) {
            true => self.force(),
            false => String::new(),
        };
        Some(Explained {
            headline: format!("{who}; {then}"),
            waiting: true,
            proof: proof.to_owned(),
            resolves,
            command,
        })
    }

    fn denied(&self) -> Option<Explained> {
        let denial = self.denial.as_ref()?;
        let row = &denial.row;
        if self.now.millis().saturating_sub(row.last.millis()) > DENIAL_MATTERS_MS {
            return None;
        }
        let times = match row.count {
            0 | 1 => String::new(),
            n => format!(", {n} times"),
        };
        let group = denial.group_of_vm.as_deref();
        let change = match denial.has_privilege {
            true => "set",
            false => "add",
        };
        let command = match (group, row.outcome.as_str()) {
            (Some(group), "QUOTA_EXCEEDED") => format!(
                "vdvs vmgroup access set --name={} --datastore={} --volume-totalsize=SIZE",
                quoted(group),
                quoted(self.ds.as_str())
            ),
            (Some(group), _) if group == self.group => {
                let create = match row.verb.as_str() {
                    "create" | "delete" => " --allow-create=True",
                    _ => "",
                };
                format!(
                    "vdvs vmgroup access {change} --name={} --datastore={}{create}",
                    quoted(group),
                    quoted(self.ds.as_str())
                )
            }
            _ => format!(
                "vdvs vmgroup vm add --name={} --vm-list={}",
                quoted(self.group),
                quoted(row.who.split(' ').next().unwrap_or_default())
            ),
        };
        Some(Explained {
            headline: format!(
                "{}: {} was denied {} ago{times}: {}",
                vm_or_user(&row.who),
                row.verb,
                self.ago(row.last),
                row.detail
            ),
            proof: NOT_NEEDED.to_owned(),
            resolves: "never by itself: a rule denies it".to_owned(),
            command,
            waiting: false,
        })
    }

    fn plain(&self) -> Explained {
        let name = self.name();
        let protected = match self.record.protected {
            true => "; it is protected against removal",
            false => "",
        };
        let lift = match self.record.protected {
            true => format!("vdvs volume unprotect {}", self.address()),
            false => String::new(),
        };
        if self.orphan {
            return Explained {
                headline: format!(
                    "{name} is an orphan: its vmgroup exists no more, and no VM can reach it{protected}"
                ),
                proof: self.proof(),
                resolves: "never by itself: it has to be given to a vmgroup, or removed".to_owned(),
                command: format!("vdvs volume adopt {} --to-group=VMGROUP", self.record.id),
                waiting: false,
            };
        }
        let Some(owner) = self.record.ownership.owner() else {
            return Explained {
                headline: format!(
                    "{name} is free: nobody holds it and nobody waits for it{protected}"
                ),
                proof: NOT_NEEDED.to_owned(),
                resolves: String::new(),
                command: lift,
                waiting: false,
            };
        };
        let read_only = match owner.read_only {
            true => ", read-only",
            false => "",
        };
        let host = self.sight.as_ref().map_or("", |s| s.host.as_str());
        Explained {
            headline: format!(
                "VM {} on host {host} holds {name} since {}{read_only}; nobody waits for it{protected}",
                owner.vm.name,
                self.ago(owner.since)
            ),
            proof: self.proof(),
            resolves: format!("when VM {} lets it go", owner.vm.name),
            command: lift,
            waiting: false,
        }
    }
}

/// Why the volume is where it is.
pub(crate) fn explain(found: &Situation<'_>) -> Explained {
    found
        .being_made()
        .or_else(|| found.being_read())
        .or_else(|| found.operating())
        .or_else(|| found.transfer())
        .or_else(|| found.waited_for())
        .or_else(|| found.denied())
        .unwrap_or_else(|| found.plain())
}
