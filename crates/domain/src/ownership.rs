//! Who may write a volume.
//!
//! ```text
//!            begin_attach            attached       (moved: Attached, on another host)
//!   Free ───────────────► Attaching ─────────► Attached ──┐ begin_attach by the same VM
//!    ▲ ▲                   │                      │ ▲     └─► Attaching (new epoch)
//!    │ └────attach_undone──┘                      │ │ detach_refused
//!    │                                begin_detach│ │
//!    ├──────────────detached────────── Detaching ◄┴─┘
//!    ├──────────────released────────── Attaching, Attached, Detaching   (the owner is proven unable to write, or
//!    │                                                                   the host took the disk from it)
//!    └── end_read ── Reading ◄── begin_read ── Free                     (a clone reads its source)
//! ```
//! This state decides only whether to *try*: the arbiter of who writes is the hypervisor's lock on the disk. Each
//! change is one [`Event`] through [`Ownership::apply`], which refuses every edge that is not in the table, in
//! release builds too.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{HostId, Timestamp, VmId, VmRef, VolumeId};

/// Where the guest finds the disk, as told by the hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Locator {
    /// A SCSI disk: its controller's PCI slot number and its target on that controller.
    Scsi {
        /// `pciSlotNumber` of the controller.
        controller_pci_slot: u32,
        /// Target (unit) on the controller.
        target: u8,
    },
    /// A device node in the guest (lab).
    Path(String),
}

/// The VM a volume belongs to, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The VM.
    pub vm: VmRef,
    /// The host it was registered on.
    pub host: HostId,
    /// That host's name, so that others can say it; empty in records of before it was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host_name: String,
    /// When the present attachment began.
    pub since: Timestamp,
    /// Attached read-only.
    pub read_only: bool,
    /// Where the guest finds the disk; known once attached.
    pub locator: Option<Locator>,
}

/// The state machine's states; each carries the data that exists in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Ownership {
    /// Nobody's.
    #[default]
    Free,
    /// Being attached; the operation in the record says by whom.
    Attaching {
        /// The VM it will belong to.
        owner: Owner,
    },
    /// Attached.
    Attached {
        /// The VM it belongs to.
        owner: Owner,
    },
    /// Being detached.
    Detaching {
        /// The VM it still belongs to.
        owner: Owner,
    },
    /// Being read as the source of a clone.
    Reading {
        /// The clone.
        target: VolumeId,
        /// The host that copies.
        host: HostId,
    },
}

/// What happened or is about to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An attach for this owner is about to be tried.
    BeginAttach(Owner),
    /// The hypervisor attached the disk there.
    Attached(Option<Locator>),
    /// The hypervisor did not attach the disk, and the VM's device list does not show it.
    AttachUndone,
    /// A detach is about to be tried.
    BeginDetach,
    /// The VM's device list no longer shows the disk.
    Detached,
    /// The hypervisor refused; the disk is still there.
    DetachRefused,
    /// There is proof that the owner cannot write: it is dead, or its host removed the disk from it.
    Released,
    /// The owner was found registered on another host; it still owns.
    Moved(HostId, String),
    /// A clone is about to read.
    BeginRead(VolumeId, HostId),
    /// The clone is done or given up.
    EndRead,
}

/// An edge that is not in the table: a defect of ours, never of the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("forbidden change of ownership: {event} while {state}")]
pub struct Forbidden {
    /// State before.
    pub state: &'static str,
    /// The event refused.
    pub event: &'static str,
}

impl Event {
    /// Name for messages and the transition table's coverage.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BeginAttach(_) => "begin_attach",
            Self::Attached(_) => "attached",
            Self::AttachUndone => "attach_undone",
            Self::BeginDetach => "begin_detach",
            Self::Detached => "detached",
            Self::DetachRefused => "detach_refused",
            Self::Released => "released",
            Self::Moved(..) => "moved",
            Self::BeginRead(..) => "begin_read",
            Self::EndRead => "end_read",
        }
    }
}

impl Ownership {
    /// The one table of allowed changes.
    ///
    /// # Errors
    /// [`Forbidden`] for every edge not drawn in the module's documentation.
    pub fn apply(&self, event: Event) -> Result<Self, Forbidden> {
        let forbidden = Forbidden {
            state: self.name(),
            event: event.name(),
        };
        match (self, event) {
            (Self::Free, Event::BeginAttach(owner)) => Ok(Self::Attaching { owner }),
            // Not over an attach that has not ended: that one is finished or undone first.
            (Self::Attached { owner: old }, Event::BeginAttach(owner))
                if old.vm.id == owner.vm.id =>
            {
                Ok(Self::Attaching { owner })
            }
            (Self::Attaching { owner }, Event::Attached(locator)) => Ok(Self::Attached {
                owner: Owner {
                    locator,
                    ..owner.clone()
                },
            }),
            (Self::Attaching { .. }, Event::AttachUndone) => Ok(Self::Free),
            (Self::Attached { owner }, Event::BeginDetach) => Ok(Self::Detaching {
                owner: owner.clone(),
            }),
            (Self::Detaching { .. }, Event::Detached) => Ok(Self::Free),
            (Self::Detaching { owner }, Event::DetachRefused) => Ok(Self::Attached {
                owner: owner.clone(),
            }),
            (
                Self::Attaching { .. } | Self::Attached { .. } | Self::Detaching { .. },
                Event::Released,
            ) => Ok(Self::Free),
            (Self::Attached { owner }, Event::Moved(host, host_name)) => Ok(Self::Attached {
                owner: Owner {
                    host,
                    host_name,
                    ..owner.clone()
                },
            }),
            (Self::Free, Event::BeginRead(target, host)) => Ok(Self::Reading { target, host }),
            (Self::Reading { .. }, Event::EndRead) => Ok(Self::Free),
            _ => Err(forbidden),
        }
    }

    /// The VM the volume belongs to, in whichever of the three states.
    #[must_use]
    pub const fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Attaching { owner } | Self::Attached { owner } | Self::Detaching { owner } => {
                Some(owner)
            }
            Self::Free | Self::Reading { .. } => None,
        }
    }

    /// Whether the volume belongs to `vm`.
    #[must_use]
    pub fn is_owned_by(&self, vm: &VmId) -> bool {
        self.owner().is_some_and(|o| o.vm.id == *vm)
    }

    /// Name of the state: `free`, `attaching`, `attached`, `detaching`, `reading`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Attaching { .. } => "attaching",
            Self::Attached { .. } => "attached",
            Self::Detaching { .. } => "detaching",
            Self::Reading { .. } => "reading",
        }
    }
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner() {
            None => f.write_str(self.name()),
            Some(owner) => write!(f, "{} ({})", self.name(), owner.vm),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn owner(n: u128) -> Owner {
        Owner {
            vm: VmRef {
                id: VmId {
                    instance_uuid: Uuid::from_u128(n),
                    config_path: format!("[ds] {n}.vmx"),
                },
                name: format!("vm{n}"),
            },
            host: HostId::new(Uuid::from_u128(100)),
            host_name: "esx01".to_owned(),
            since: Timestamp::from_millis(1),
            read_only: false,
            locator: None,
        }
    }

    fn target() -> VolumeId {
        VolumeId::new(Uuid::from_u128(7))
    }

    #[test]
    fn exactly_the_edges_of_the_table_are_allowed() {
        let host = owner(1).host;
        let states = [
            Ownership::Free,
            Ownership::Attaching { owner: owner(1) },
            Ownership::Attached { owner: owner(1) },
            Ownership::Detaching { owner: owner(1) },
            Ownership::Reading {
                target: target(),
                host,
            },
        ];
        let events = [
            ("begin_attach same", Event::BeginAttach(owner(1))),
            ("begin_attach other", Event::BeginAttach(owner(2))),
            (
                "attached",
                Event::Attached(Some(Locator::Path("/dev/loop0".into()))),
            ),
            ("attach_undone", Event::AttachUndone),
            ("begin_detach", Event::BeginDetach),
            ("detached", Event::Detached),
            ("detach_refused", Event::DetachRefused),
            ("released", Event::Released),
            ("moved", Event::Moved(host, "esx02".to_owned())),
            ("begin_read", Event::BeginRead(target(), host)),
            ("end_read", Event::EndRead),
        ];
        let mut allowed = Vec::new();
        for state in &states {
            for (name, event) in &events {
                if let Ok(next) = state.apply(event.clone()) {
                    allowed.push(format!("{} {name} {}", state.name(), next.name()));
                }
            }
        }
        assert_eq!(
            allowed,
            [
                "free begin_attach same attaching",
                "free begin_attach other attaching",
                "free begin_read reading",
                "attaching attached attached",
                "attaching attach_undone free",
                "attaching released free",
                "attached begin_attach same attaching",
                "attached begin_detach detaching",
                "attached released free",
                "attached moved attached",
                "detaching detached free",
                "detaching detach_refused attached",
                "detaching released free",
                "reading end_read free",
            ]
        );
    }

    #[test]
    fn every_state_and_event_has_the_name_that_people_read() {
        let host = owner(1).host;
        let events = [
            (Event::BeginAttach(owner(1)), "begin_attach"),
            (Event::Attached(None), "attached"),
            (Event::AttachUndone, "attach_undone"),
            (Event::BeginDetach, "begin_detach"),
            (Event::Detached, "detached"),
            (Event::DetachRefused, "detach_refused"),
            (Event::Released, "released"),
            (Event::Moved(host, String::new()), "moved"),
            (Event::BeginRead(target(), host), "begin_read"),
            (Event::EndRead, "end_read"),
        ];
        for (event, name) in events {
            assert_eq!(event.name(), name);
        }
        let refused = Ownership::Free.apply(Event::EndRead).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "forbidden change of ownership: end_read while free"
        );
        assert_eq!(Ownership::Free.to_string(), "free");
        let detaching = Ownership::Detaching { owner: owner(1) };
        let shown = format!("detaching ({})", owner(1).vm);
        assert_eq!(detaching.to_string(), shown);
    }

    #[test]
    fn a_volume_belongs_to_its_vm_alone_from_the_attempt_to_the_end() {
        let (mine, other) = (owner(1).vm.id, owner(2).vm.id);
        for state in [
            Ownership::Attaching { owner: owner(1) },
            Ownership::Attached { owner: owner(1) },
            Ownership::Detaching { owner: owner(1) },
        ] {
            assert!(state.is_owned_by(&mine) && !state.is_owned_by(&other));
        }
        assert!(!Ownership::Free.is_owned_by(&mine));
    }

    #[test]
    fn an_attachment_keeps_its_owner_and_learns_where_the_disk_is_and_which_host_has_the_vm() {
        let locator = Some(Locator::Path("/dev/loop0".into()));
        let attaching = Ownership::Attaching { owner: owner(1) };
        let attached = attaching.apply(Event::Attached(locator.clone())).unwrap();
        let expected = Owner {
            locator: locator.clone(),
            ..owner(1)
        };
        assert_eq!(attached.owner(), Some(&expected));
        let host = HostId::new(Uuid::from_u128(101));
        let moved = attached.apply(Event::Moved(host, "esx02".to_owned()));
        let expected = Owner {
            host,
            host_name: "esx02".to_owned(),
            ..expected
        };
        assert_eq!(moved.unwrap().owner(), Some(&expected));
    }

    #[test]
    fn no_event_hands_a_volume_from_one_vm_to_another_in_one_step() {
        for state in [
            Ownership::Attaching { owner: owner(1) },
            Ownership::Attached { owner: owner(1) },
            Ownership::Detaching { owner: owner(1) },
        ] {
            assert!(state.apply(Event::BeginAttach(owner(2))).is_err());
        }
    }
}
