//! What happened to a volume's ownership: the last few events, written with the changes they tell of.
//!
//! For people only. The ring is bounded, an older program may drop it, and nothing is decided by it. What a kind means
//! is text, so that a record of a newer program can be read.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Timestamp};
use crate::ownership::Ownership;
use crate::record::{OperationKind, VolumeRecord};

/// Events kept of a volume: a few days of a database that moves, and some two kilobytes.
pub const MAX_EVENTS: usize = 16;

/// The VM has the disk.
pub const ATTACHED: &str = "attached";
/// The VM let it go.
pub const DETACHED: &str = "detached";
/// It was taken from a VM that was proven unable to write.
pub const RELEASED: &str = "released";
/// It was taken from a VM that ran.
pub const FENCED: &str = "fenced";
/// Its record was damaged or lost, and made anew from its disk and the VMs' configurations.
pub const REBUILT: &str = "rebuilt";
/// The VM runs on another host now, or the volume belongs to another vmgroup.
pub const MOVED: &str = "moved";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// When, by the clock of the host that wrote it.
    pub at: Timestamp,
    /// That host's name.
    pub host: String,
    /// What, in one word.
    pub kind: String,
    /// Name of the VM it was about; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vm: String,
    /// The attachment it was about.
    pub epoch: Epoch,
}

/// How an attachment ends, where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As the operation in the record was to end it, or it goes on.
    Asked,
    /// Its owner was proven unable to write, or lost the disk, whatever the operation in the record was to do.
    Taken,
}

/// What a change of a record tells of its ownership: the kind, and the VM's name.
fn told(
    before: &VolumeRecord,
    after: &VolumeRecord,
    how: Ending,
) -> Option<(&'static str, String)> {
    let vm = |ownership: &Ownership| ownership.owner().map(|o| o.vm.name.clone());
    let doing = before.operation.as_ref().map(|o| o.kind);
    let kind = match (&before.ownership, &after.ownership) {
        (Ownership::Attaching { .. }, Ownership::Attached { .. }) => ATTACHED,
        (Ownership::Attached { owner: was }, Ownership::Attached { owner: is })
            if was.host != is.host =>
        {
            MOVED
        }
        (was, Ownership::Free) if was.owner().is_some() => match (how, doing) {
            (_, Some(OperationKind::Fence)) => FENCED,
            (Ending::Asked, Some(OperationKind::Detach)) => DETACHED,
            // The host refused it, or the caller had gone: the VM never had it.
            (Ending::Asked, Some(OperationKind::Attach)) => return None,
            _ => RELEASED,
        },
        _ if before.group != after.group => MOVED,
        _ => return None,
    };
    // No change hands it from one VM to another.
    Some((kind, vm(&before.ownership).unwrap_or_default()))
}

impl VolumeRecord {
    /// Adds what its change from `before` tells, written by `host` at `at`. The oldest event goes beyond
    /// [`MAX_EVENTS`].
    pub fn note(&mut self, before: &Self, how: Ending, at: Timestamp, host: &str) {
        let of = |record: &Self| record.ownership.owner().map(|o| o.vm.id.clone());
        self.rebuilt &= self.epoch == before.epoch && of(self) == of(before);
        let Some((kind, vm)) = told(before, self, how) else {
            return;
        };
        self.history.push(Happened {
            at,
            host: host.to_owned(),
            kind: kind.to_owned(),
            vm,
            epoch: self.epoch,
        });
        let excess = self.history.len().saturating_sub(MAX_EVENTS);
        self.history.drain(..excess);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::{GroupId, HostId, VmId, VmRef, VolumeId};
    use crate::names::{FsType, VolumeName};
    use crate::options::{GivenOptions, Layout};
    use crate::ownership::{Event, Owner};
    use crate::record::{Created, FORMAT, Fingerprint, Operation};
    use crate::{Capacity, Filesystem, FilesystemState, RequestId};

    pub(crate) fn owner(vm: &str) -> Owner {
        Owner {
            vm: VmRef {
                id: VmId {
                    instance_uuid: Uuid::from_u128(1),
                    config_path: String::new(),
                },
                name: vm.to_owned(),
            },
            host: HostId::new(Uuid::from_u128(9)),
            host_name: "esx01".to_owned(),
            since: Timestamp::default(),
            read_only: false,
            locator: None,
        }
    }

    pub(crate) fn free() -> VolumeRecord {
        VolumeRecord {
            format: FORMAT,
            id: VolumeId::new(Uuid::from_u128(1)),
            name: VolumeName::new("v").unwrap(),
            short_name: true,
            group: GroupId::DEFAULT,
            folder: None,
            moving: None,
            protected: false,
            rebuilt: false,
            policy_version: None,
            capacity: Capacity::DEFAULT,
            options: GivenOptions::default().resolve(),
            layout: Layout::Data,
            created: Created {
                at: Timestamp::default(),
                by: None,
                host: HostId::new(Uuid::from_u128(9)),
            },
            filesystem: Filesystem {
                fstype: FsType::ext4(),
                state: FilesystemState::Never,
            },
            ownership: Ownership::Free,
            epoch: Epoch::new(1),
            claim: None,
            operation: None,
            making: None,
            results: Vec::new(),
            history: Vec::new(),
        }
    }

    pub(crate) fn doing(mut record: VolumeRecord, kind: OperationKind) -> VolumeRecord {
        record.operation = Some(Operation {
            kind,
            request: RequestId::new(Uuid::nil()),
            fingerprint: Fingerprint(String::new()),
            host: HostId::new(Uuid::from_u128(9)),
            started: Timestamp::default(),
            deadline: Timestamp::default(),
        });
        record
    }

    fn after(before: &VolumeRecord, event: Event) -> VolumeRecord {
        let how = match event {
            Event::Released => Ending::Taken,
            _ => Ending::Asked,
        };
        let mut next = before.clone();
        next.ownership = before.ownership.apply(event).unwrap();
        next.operation = None;
        next.note(before, how, Timestamp::from_millis(5), "esx01");
        next
    }

    fn last(record: &VolumeRecord) -> Option<(&str, &str)> {
        let last = record.history.last()?;
        Some((last.kind.as_str(), last.vm.as_str()))
    }

    #[test]
    fn each_end_of_an_attachment_has_its_own_name_and_an_attach_that_failed_has_none() {
        let attaching = after(&free(), Event::BeginAttach(owner("vm1")));
        assert_eq!(last(&attaching), None);
        let failed = after(
            &doing(attaching.clone(), OperationKind::Attach),
            Event::AttachUndone,
        );
        assert_eq!(last(&failed), None, "the VM never had it");
        let unknown = after(
            &doing(attaching.clone(), OperationKind::Attach),
            Event::Released,
        );
        assert_eq!(
            last(&unknown),
            Some((RELEASED, "vm1")),
            "it may have had it"
        );
        let attached = after(
            &doing(attaching, OperationKind::Attach),
            Event::Attached(None),
        );
        assert_eq!(last(&attached), Some((ATTACHED, "vm1")));
        let elsewhere = Event::Moved(HostId::new(Uuid::from_u128(8)), "esx02".to_owned());
        assert_eq!(last(&after(&attached, elsewhere)), Some((MOVED, "vm1")));
        let fenced = after(
            &doing(attached.clone(), OperationKind::Fence),
            Event::Released,
        );
        assert_eq!(last(&fenced), Some((FENCED, "vm1")));
        assert_eq!(
            last(&after(&attached, Event::Released)),
            Some((RELEASED, "vm1"))
        );
        let leaving = after(&doing(attached, OperationKind::Detach), Event::BeginDetach);
        assert_eq!(last(&leaving), Some((ATTACHED, "vm1")), "it still has it");
        let died = after(
            &doing(leaving.clone(), OperationKind::Detach),
            Event::Released,
        );
        assert_eq!(last(&died), Some((RELEASED, "vm1")), "it never let it go");
        let left = after(&doing(leaving, OperationKind::Detach), Event::Detached);
        assert_eq!(last(&left), Some((DETACHED, "vm1")));
        let mut given = left.clone();
        given.group = GroupId::new(Uuid::from_u128(5));
        given.note(&left, Ending::Asked, Timestamp::default(), "esx01");
        assert_eq!(last(&given), Some((MOVED, "")));
        assert!(given.same_attachment(&free()) || given.epoch == free().epoch);
    }

    #[test]
    fn what_changes_beside_the_ownership_is_no_event_and_a_change_of_host_is_one() {
        let mut before = free();
        before.ownership = Ownership::Attached {
            owner: owner("vm1"),
        };
        let mut next = before.clone();
        next.protected = true;
        next.note(&before, Ending::Asked, Timestamp::default(), "esx01");
        assert_eq!(last(&next), None);
        next.ownership = Ownership::Attached {
            owner: Owner {
                host: HostId::new(Uuid::from_u128(10)),
                ..owner("vm1")
            },
        };
        next.note(&before, Ending::Asked, Timestamp::default(), "esx02");
        assert_eq!(last(&next), Some((MOVED, "vm1")));
    }

    #[test]
    fn a_rebuilt_record_says_so_until_its_attachment_ends() {
        let attached = |vm: u128, epoch, rebuilt| {
            let mut owner = owner("vm1");
            owner.vm.id.instance_uuid = Uuid::from_u128(vm);
            VolumeRecord {
                ownership: Ownership::Attached { owner },
                epoch: Epoch::new(epoch),
                rebuilt,
                ..free()
            }
        };
        let before = attached(1, 7, true);
        for (mut next, stays) in [
            (attached(1, 7, true), true),
            (attached(1, 8, true), false),
            (attached(2, 7, true), false),
            (attached(2, 8, true), false),
            (attached(1, 7, false), false),
        ] {
            next.note(&before, Ending::Asked, Timestamp::default(), "esx01");
            assert_eq!(next.rebuilt, stays, "{next:?}");
        }
    }

    #[test]
    fn the_oldest_events_go_and_an_unknown_kind_of_a_newer_program_is_read() {
        let mut record = free();
        for n in 0..40 {
            let mut before = record.clone();
            before.ownership = Ownership::Attaching {
                owner: owner(&format!("vm{n}")),
            };
            record.ownership = Ownership::Attached {
                owner: owner(&format!("vm{n}")),
            };
            record.note(&before, Ending::Asked, Timestamp::from_millis(n), "esx01");
        }
        assert_eq!(record.history.len(), MAX_EVENTS);
        assert_eq!(last(&record), Some((ATTACHED, "vm39")));
        let text = serde_json::to_string(&record.history).unwrap();
        let newer = text.replacen(ATTACHED, "teleported", 1);
        let read: Vec<Happened> = serde_json::from_str(&newer).unwrap();
        assert_eq!(read[0].kind, "teleported");
    }
}
