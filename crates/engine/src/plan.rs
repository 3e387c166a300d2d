//! What to do with an attach: a pure function of the record and of what this host sees of the owner.

use vdvs_domain::record::{Answer, Fingerprint};
use vdvs_domain::{Access, Epoch, FilesystemState, Ownership, RequestId, VmId, VolumeRecord};

use crate::ports::Power;

/// What this host sees of a volume's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerState {
    /// There is none.
    None,
    /// Registered on this host.
    Here(Power),
    /// Not registered on this host. That alone proves nothing: it may have moved.
    NotHere,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) vm: &'a VmId,
    pub(crate) request: RequestId,
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) read_only: bool,
    /// It is kept for another VM once it is free.
    pub(crate) reserved: bool,
}

/// The next step of an attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// An earlier run of this request attached it; say where.
    Repeat,
    /// An earlier run attached it, and a newer attachment came after.
    Superseded(Epoch),
    /// The request id was used for something else.
    Mismatch,
    /// An operation has to be finished or undone first.
    Resolve,
    /// Attach.
    Begin,
    /// The owner is off: take the volume out of its configuration, then attach.
    Release,
    /// The owner is not here: it has to be proven that it cannot write.
    Prove,
    /// Somebody has it.
    Wait,
}

/// The next step.
pub(crate) fn plan_attach(record: &VolumeRecord, asked: &Asked<'_>, owner: OwnerState) -> Plan {
    if let Some(result) = record.recall(asked.request) {
        let owned = record.ownership.is_owned_by(asked.vm);
        return match result.answer {
            _ if result.fingerprint != *asked.fingerprint => Plan::Mismatch,
            Answer::Attached { epoch } if epoch == record.epoch && owned => Plan::Repeat,
            Answer::Attached { epoch } => Plan::Superseded(epoch),
            _ => Plan::Mismatch,
        };
    }
    if record.operation.is_some() && owner != OwnerState::NotHere {
        return Plan::Resolve;
    }
    match &record.ownership {
        Ownership::Free if asked.reserved => Plan::Wait,
        Ownership::Free => Plan::Begin,
        Ownership::Reading { .. } => Plan::Wait,
        held => match owner {
            _ if held.is_owned_by(asked.vm) && record.operation.is_none() => {
                let mode = held.owner().map(|o| o.read_only);
                if mode == Some(asked.read_only) {
                    Plan::Begin
                } else {
                    Plan::Wait
                }
            }
            OwnerState::Here(Power::Off) => Plan::Release,
            OwnerState::Here(Power::On | Power::Suspended) => Plan::Wait,
            OwnerState::NotHere | OwnerState::None => Plan::Prove,
        },
    }
}

/// Whether the disk is attached read-only: when asked, and for a read-only volume as soon as it is formatted. A clone
/// came formatted, with its source's identity: its guest gives it its own once, attached writable, and asks for
/// read-only from then on.
pub(crate) fn attach_read_only(record: &VolumeRecord, asked: bool) -> bool {
    let formatted = !matches!(
        record.filesystem.state,
        FilesystemState::Never | FilesystemState::Formatting { .. }
    );
    let clone = record.options.clone_from.is_some();
    asked || (record.options.access == Access::ReadOnly && formatted && !clone)
}

#[cfg(test)]
pub(crate) mod tests {
    use uuid::Uuid;
    use vdvs_domain::options::GivenOptions;
    use vdvs_domain::record::{Created, FORMAT, RequestResult};
    use vdvs_domain::{
        Capacity, Filesystem, FsType, GroupId, HostId, Layout, Operation, OperationKind, Owner,
        Timestamp, VmRef, VolumeId, VolumeName,
    };

    use super::*;

    fn vm(n: u128) -> VmId {
        VmId {
            instance_uuid: Uuid::from_u128(n),
            config_path: format!("[ds] {n}/{n}.vmx"),
        }
    }

    fn owner(n: u128) -> Owner {
        Owner {
            vm: VmRef {
                id: vm(n),
                name: format!("vm{n}"),
            },
            host: HostId::new(Uuid::from_u128(9)),
            host_name: "esx01".to_owned(),
            since: Timestamp::default(),
            read_only: false,
            locator: None,
        }
    }

    pub(crate) fn record(ownership: Ownership) -> VolumeRecord {
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
            ownership,
            epoch: Epoch::new(3),
            claim: None,
            operation: None,
            making: None,
            results: Vec::new(),
            history: Vec::new(),
        }
    }

    fn request(n: u128) -> RequestId {
        RequestId::new(Uuid::from_u128(n))
    }

    fn plan(record: &VolumeRecord, n: u128, state: OwnerState) -> Plan {
        plan_reserved(record, n, state, false)
    }

    fn plan_reserved(record: &VolumeRecord, n: u128, state: OwnerState, reserved: bool) -> Plan {
        let fingerprint = Fingerprint("x".into());
        let asked = Asked {
            vm: &vm(n),
            request: request(50),
            fingerprint: &fingerprint,
            read_only: false,
            reserved,
        };
        plan_attach(record, &asked, state)
    }

    #[test]
    fn only_a_free_volume_or_ones_own_is_attached() {
        let held = record(Ownership::Attached { owner: owner(1) });
        let on = OwnerState::Here(Power::On);
        assert_eq!(
            plan(&record(Ownership::Free), 2, OwnerState::None),
            Plan::Begin
        );
        assert_eq!(plan(&held, 1, on), Plan::Begin);
        assert_eq!(plan(&held, 2, on), Plan::Wait);
        assert_eq!(
            plan(&held, 2, OwnerState::Here(Power::Suspended)),
            Plan::Wait
        );
        assert_eq!(plan(&held, 2, OwnerState::Here(Power::Off)), Plan::Release);
        assert_eq!(plan(&held, 2, OwnerState::NotHere), Plan::Prove);
    }

    #[test]
    fn what_is_kept_for_another_is_waited_for_and_ones_own_is_not_given_up() {
        let none = OwnerState::None;
        let free = record(Ownership::Free);
        assert_eq!(plan_reserved(&free, 2, none, true), Plan::Wait);
        let held = record(Ownership::Attached { owner: owner(1) });
        let on = OwnerState::Here(Power::On);
        assert_eq!(plan_reserved(&held, 1, on, true), Plan::Begin);
    }

    #[test]
    fn an_unfinished_operation_comes_first() {
        let mut stuck = record(Ownership::Attaching { owner: owner(1) });
        stuck.operation = Some(Operation {
            kind: OperationKind::Attach,
            request: request(7),
            fingerprint: Fingerprint("y".into()),
            host: HostId::new(Uuid::from_u128(9)),
            started: Timestamp::default(),
            deadline: Timestamp::default(),
        });
        assert_eq!(plan(&stuck, 2, OwnerState::Here(Power::On)), Plan::Resolve);
        assert_eq!(plan(&stuck, 1, OwnerState::Here(Power::On)), Plan::Resolve);
        assert_eq!(plan(&stuck, 2, OwnerState::NotHere), Plan::Prove);
    }

    #[test]
    fn a_request_that_was_answered_gets_the_same_answer_or_learns_that_it_is_late() {
        let mut done = record(Ownership::Attached { owner: owner(1) });
        done.remember(RequestResult {
            request: request(50),
            fingerprint: Fingerprint("x".into()),
            answer: Answer::Attached {
                epoch: Epoch::new(3),
            },
        });
        let on = OwnerState::Here(Power::On);
        assert_eq!(plan(&done, 1, on), Plan::Repeat);
        assert_eq!(plan(&done, 2, on), Plan::Superseded(Epoch::new(3)));
        done.epoch = Epoch::new(4);
        assert_eq!(plan(&done, 1, on), Plan::Superseded(Epoch::new(3)));
        done.results[0].fingerprint = Fingerprint("z".into());
        assert_eq!(plan(&done, 1, on), Plan::Mismatch);
    }

    #[test]
    fn a_read_only_volume_is_writable_until_it_is_formatted() {
        let mut volume = record(Ownership::Free);
        volume.options.access = Access::ReadOnly;
        assert!(!attach_read_only(&volume, false));
        volume.filesystem.state = FilesystemState::Ready { uuid: Uuid::nil() };
        assert!(attach_read_only(&volume, false));
        volume.options.clone_from = Some("source@ds".into());
        assert!(!attach_read_only(&volume, false) && attach_read_only(&volume, true));
    }
}
