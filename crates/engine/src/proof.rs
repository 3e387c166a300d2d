//! Proof that an owner cannot write. Two exist:
//!
//! * its own host, this one, reports it powered off;
//! * it is not registered here, the lock on the disk reads *free* for a while without gap, and its configuration file
//!   is readable and names no saved state: a suspended VM lets its locks go and writes again when it is resumed. The
//!   last look at the lock comes after that file was read: a VM that is resumed names no saved state any more, and has
//!   the lock.
//!
//! *Unknown* proves nothing, nor does leaving an inventory: VMs move.

use std::time::Duration;

use tokio::time::Instant;
use vdvs_domain::{DatastoreName, Epoch, Error, VmId};

use crate::inner::Inner;
use crate::plan::OwnerState;
use crate::ports::{DiskLock, DsPath, HostError, Power, StorageError};
use crate::records::Stored;

/// Largest configuration file of a VM that is read; real ones have a few kilobytes.
const MAX_CONFIG: usize = 1024 * 1024;
/// Two looks at the lock further apart than so many poll intervals leave a gap in which anything may have happened.
const GAP_IN_POLLS: u32 = 8;

/// Said of a holder that is suspended.
pub(crate) const SUSPENDED: &str =
    "which is suspended and keeps its volumes: resume it, or power it off";
pub(crate) const UNREADABLE: &str = "whose configuration file cannot be read, so that it may be \
     suspended: bring the file's datastore back, or power it off and take the volume with --force";

/// What was seen of a lock so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The attachment it is about.
    about: Epoch,
    free_since: Option<Instant>,
    last: Option<Instant>,
    /// What stands against it though the lock is free, as a clause for messages.
    pub(crate) against: &'static str,
}

impl Proof {
    /// What was seen before an attachment began says nothing of its owner, who may be about to open the disk.
    fn of(&mut self, epoch: Epoch) -> &mut Self {
        if self.about != epoch {
            *self = Self {
                about: epoch,
                ..Self::default()
            };
        }
        self
    }

    /// Adds a look; `true`: free for long enough, without gap.
    fn look(&mut self, now: Instant, lock: &DiskLock, needed: Duration, gap: Duration) -> bool {
        let gapless = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) <= gap);
        self.last = Some(now);
        if *lock != DiskLock::Free {
            self.free_since = None;
            return false;
        }
        let since = *match gapless {
            true => self.free_since.get_or_insert(now),
            false => self.free_since.insert(now),
        };
        now.saturating_duration_since(since) >= needed
    }
}

/// The datastore and path in `[datastore] folder/file`.
pub(crate) fn split_config_path(path: &str) -> Option<(DatastoreName, DsPath)> {
    let (ds, file) = path.strip_prefix('[')?.split_once("] ")?;
    Some((DatastoreName::new(ds).ok()?, DsPath::new(file).ok()?))
}

/// Whether a VM's configuration file names a saved state.
fn names_saved_state(config: &str) -> bool {
    config.lines().any(|line| {
        line.split_once('=').is_some_and(|(key, value)| {
            key.trim().eq_ignore_ascii_case("checkpoint.vmState")
                && !value.trim().trim_matches('"').is_empty()
        })
    })
}

/// Said of a configuration file that cannot be read: what follows from that, and what ends it.
fn unread(why: &StorageError) -> String {
    let end = match why {
        StorageError::NotFound(_) => "If the VM exists no more or is surely powered off",
        _ => "Bring its datastore back; or, if the VM is surely powered off",
    };
    format!(
        "it cannot be read ({why}), so that its VM may be suspended: the VM is not proven dead, and its volumes are not \
         taken from it. {end}, take each of them with `vdvs volume detach --force VOLUME`"
    )
}

impl Inner {
    /// What this host sees of a VM.
    pub(crate) async fn owner_state(&self, vm: &VmId) -> Result<OwnerState, Error> {
        let vms = self
            .ports
            .host
            .vms()
            .await
            .map_err(|why: HostError| Error::HostFailed {
                verb: "list its VMs",
                why: why.to_string(),
            })?;
        let found = vms.iter().find(|v| v.id == *vm);
        Ok(found.map_or(OwnerState::NotHere, |v| OwnerState::Here(v.power)))
    }

    /// What this host sees of a volume's owner.
    ///
    /// A VM may be registered twice: off here, where its host came back, and running where it was started again. So the
    /// word of this host that it is off proves nothing about an attachment made elsewhere while somebody holds the lock,
    /// nor while the VM may be suspended there: then nobody holds it, and the VM writes again when it is resumed.
    pub(crate) async fn owner_state_of(&self, stored: &Stored) -> Result<OwnerState, Error> {
        let Some(owner) = stored.record.ownership.owner() else {
            return Ok(OwnerState::None);
        };
        let state = self.owner_state(&owner.vm.id).await?;
        if state == OwnerState::Here(Power::Off)
            && owner.host != self.host
            && (!self.saved_state(&owner.vm.id).await.is_empty()
                || self.ports.host.lock(&stored.place.disk()).await != DiskLock::Free)
        {
            return Ok(OwnerState::NotHere);
        }
        Ok(state)
    }

    /// One more look at the lock of a volume whose owner is not here.
    pub(crate) async fn prove_dead(
        &self,
        stored: &Stored,
        proof: &mut Proof,
    ) -> Result<bool, Error> {
        let disk = stored.place.disk();
        let lock = self.ports.host.lock(&disk).await;
        let (needed, gap) = (self.settings.free_proof, self.settings.poll * GAP_IN_POLLS);
        let proof = proof.of(stored.record.epoch);
        proof.against = "";
        if !proof.look(self.instant(), &lock, needed, gap) {
            return Ok(false);
        }
        let Some(owner) = stored.record.ownership.owner() else {
            return Ok(true);
        };
        proof.against = self.saved_state(&owner.vm.id).await;
        if !proof.against.is_empty() {
            return Ok(false);
        }
        // It may have been resumed between that look and this reading: then it has the lock now.
        let lock = self.ports.host.lock(&disk).await;
        Ok(proof.look(self.instant(), &lock, needed, gap))
    }

    /// Why a VM whose disks nobody holds may still be suspended; empty when it is not.
    pub(crate) async fn saved_state(&self, vm: &VmId) -> &'static str {
        let Some((ds, path)) = split_config_path(&vm.config_path) else {
            return UNREADABLE;
        };
        let subject = format!("configuration file of {}", vm.config_path);
        match self.ports.datastores.read(&ds, &path, MAX_CONFIG).await {
            Ok(bytes) => {
                self.said.well(&subject);
                match names_saved_state(&String::from_utf8_lossy(&bytes)) {
                    true => SUSPENDED,
                    false => "",
                }
            }
            Err(why) => {
                self.said.once(subject, &unread(&why));
                UNREADABLE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn free_counts_only_without_gap_and_unknown_is_never_proof() {
        let (needed, gap) = (Duration::from_secs(5), Duration::from_secs(2));
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let unknown = DiskLock::Unknown { why: "x".into() };
        let looks = |looks: &[(u64, &DiskLock)]| {
            let mut proof = Proof::default();
            let mut proven = Vec::new();
            for (s, lock) in looks {
                proven.push(proof.look(at(*s), lock, needed, gap));
            }
            proven.last().copied().unwrap()
        };
        let free = &DiskLock::Free;
        assert!(looks(&[(0, free), (2, free), (4, free), (5, free)]));
        assert!(!looks(&[(0, free), (2, free), (4, free)]));
        assert!(!looks(&[(0, free), (5, free)]), "a gap");
        assert!(!looks(&[(0, free), (2, &unknown), (4, free), (5, free)]));
        assert!(!looks(&[
            (0, &unknown),
            (2, &unknown),
            (4, &unknown),
            (6, &unknown)
        ]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_attachment_has_to_be_proven_dead_anew() {
        let (needed, gap) = (Duration::from_secs(5), Duration::from_secs(2));
        let start = Instant::now();
        let mut proof = Proof::default();
        let mut look = |epoch, s| {
            let at = start + Duration::from_secs(s);
            let proof = proof.of(Epoch::new(epoch));
            proof.look(at, &DiskLock::Free, needed, gap)
        };
        let of_the_first: Vec<bool> = (0..5).map(|s| look(1, s)).collect();
        assert_eq!(of_the_first, [false; 5]);
        let of_the_second: Vec<bool> = (5..11).map(|s| look(2, s)).collect();
        assert_eq!(of_the_second, [false, false, false, false, false, true]);
    }

    #[test]
    fn an_unreadable_configuration_file_is_said_with_its_cause_and_what_ends_it() {
        assert_eq!(
            unread(&StorageError::Io("Not a directory (os error 20)".into())),
            "it cannot be read (Not a directory (os error 20)), so that its VM may be suspended: the VM is not proven \
             dead, and its volumes are not taken from it. Bring its datastore back; or, if the VM is surely powered off, \
             take each of them with `vdvs volume detach --force VOLUME`"
        );
        let gone = unread(&StorageError::NotFound("[ds] vm/vm.vmx".into()));
        assert!(gone.contains("([ds] vm/vm.vmx does not exist)"), "{gone}");
        assert!(gone.contains("If the VM exists no more"), "{gone}");
    }

    #[test]
    fn a_saved_state_is_seen() {
        assert!(names_saved_state(
            "a = \"b\"\ncheckpoint.vmState = \"vm-1.vmss\"\n"
        ));
        assert!(!names_saved_state("checkpoint.vmState = \"\"\n"));
        assert!(!names_saved_state("displayName = \"checkpoint.vmState\"\n"));
        let (ds, path) = split_config_path("[ds 1] vm/vm.vmx").unwrap();
        assert_eq!((ds.as_str(), path.as_str()), ("ds 1", "vm/vm.vmx"));
        assert!(split_config_path("/vmfs/x").is_none());
    }
}
