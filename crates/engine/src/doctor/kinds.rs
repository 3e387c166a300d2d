//! Every kind of finding: its name, what it means, what may happen, and who repairs it.
//!
//! One table; `docs/doctor.md` is compared with it by a test, and nothing else lists them. Names are the contract: scripts
//! and audits have them, so they are only ever added.

/// What a finding endangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Data may be lost, or be out of reach of everybody.
    Data,
    /// Something does not work as it should, and no data is in danger by it.
    Warning,
}

impl Risk {
    /// As the contract has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Warning => "warning",
        }
    }
}

/// Who repairs a kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The agent, asked to; what it does, after it has looked again.
    Agent(&'static str),
    /// A person; what helps.
    Person(&'static str),
}

/// A kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What it endangers.
    pub risk: Risk,
    /// How.
    pub danger: &'static str,
    /// What is done about it.
    pub remedy: Remedy,
}

macro_rules! kinds {
    ($($kind:ident $name:literal $risk:ident { $means:literal, $danger:literal, $who:ident: $remedy:literal })*) => {
        /// The kinds of findings.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = $means] $kind,)*
        }

        impl Kind {
            /// All of them, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// What is said of it.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$kind => Row {
                        name: $name,
                        means: $means,
                        risk: Risk::$risk,
                        danger: $danger,
                        remedy: Remedy::$who($remedy),
                    },)*
                }
            }
        }
    };
}

impl Kind {
    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.row().name == name)
    }
}

// Records against the VMs that own the volumes.
kinds! {
    PoweredOffOwner "powered-off-owner" Data {
        "a VM that is off still has the volume in its configuration",
        "deleting the VM deletes the volume",
        Agent: "takes the disk out of the configuration of the VM, which is off, and the volume is free"
    }
    ForeignDisk "foreign-disk" Data {
        "a VM has the disk of a volume that is not its own",
        "it may write to what belongs to another VM, and deleting it deletes the volume",
        Agent: "takes the disk out of the VM, unless its guest uses it"
    }
    RegisteredTwice "registered-twice" Data {
        "a VM runs on another host and is still registered here, off, with volumes in its configuration",
        "deleting it here deletes volumes that are in use there",
        Person: "remove the VM from this host's inventory without deleting it"
    }
    VanishedDisk "vanished-disk" Data {
        "a VM runs without the disk of a volume that its record says it has",
        "what its containers write goes nowhere",
        Agent: "writes into the record that the volume is free"
    }
    LockLost "lock-lost" Data {
        "nobody holds the lock on the disk of a volume that a running VM has",
        "its writes fail, or another VM could write beside it",
        Person: "detach it, and start its containers again"
    }
    LockedWhileFree "locked-while-free" Data {
        "somebody has the disk of a volume open that its record says is free",
        "another program or VM may write to it",
        Person: "find who has it, and make it let go: a VM, a backup, a copy"
    }
    SupersededMount "superseded-mount" Data {
        "a guest has a volume mounted that is not its own any more",
        "what its containers write is lost",
        Person: "start the containers again that use it there"
    }
    UnreportedVolume "unreported-volume" Warning {
        "a guest does not know of a volume that its VM has",
        "no other VM gets it",
        Agent: "asks the guest to let it go, and takes nothing that is in use"
    }
    MovedOwner "moved-owner" Warning {
        "the owner runs here, and the volume's record names another host",
        "the other host's agent is asked for the volume in vain",
        Agent: "writes this host into the record"
    }
    OffElsewhere "powered-off-elsewhere" Warning {
        "a VM of another host is off, by what that host told, and still has the volume",
        "deleting the VM deletes the volume",
        Person: "repair it on that host"
    }
    MissingOwner "missing-owner" Warning {
        "no host that is known has the VM that owns the volume",
        "the volume stays with a VM that may be gone",
        Agent: "takes it from the VM if it is proven that this cannot write"
    }
    SuspendedOwner "suspended-owner" Warning {
        "a suspended VM keeps the volume",
        "no other VM gets it before that VM is resumed or powered off",
        Person: "resume the VM, or power it off"
    }
    SnapshotPinned "snapshot-pinned" Warning {
        "a snapshot of a VM contains the volume",
        "it cannot leave the VM, and reverting to the snapshot takes its data back",
        Person: "delete the VM's snapshots"
    }
    UnknownDisk "unknown-disk" Data {
        "a VM has a disk below dockvols that belongs to no volume",
        "nobody can use it, and deleting the VM deletes it",
        Person: "find out whose it is; vdvs fsck makes a record of a disk that lost its own; \
                 one that is gone leaves its VM by itself"
    }
    UnfinishedOperation "unfinished-operation" Warning {
        "something was begun with the volume, and nobody is at it any more",
        "the volume cannot be used until it is settled",
        Agent: "finishes or undoes it by looking at the disk and the VM"
    }
    UnfinishedMove "unfinished-move" Warning {
        "the volume is on its way to another vmgroup, and does not arrive",
        "its name is taken in both",
        Agent: "brings it to the end that its record says"
    }
    StaleRead "stale-read" Warning {
        "the volume is kept for a clone that nobody makes any more",
        "it cannot be attached",
        Agent: "frees it"
    }
    StaleClaim "stale-claim" Warning {
        "a VM of another host claimed the volume and does not wait for it any more",
        "others wait behind it",
        Agent: "withdraws the claim, if nobody renews it meanwhile"
    }
    RecordWithoutDisk "record-without-disk" Data {
        "the volume's disk is not where its record says",
        "it cannot be attached, and its data is somewhere else or gone",
        Person: "put the disk back where it was; a storage migration may have moved it into a VM's folder"
    }
    DiskWithoutRecord "disk-without-record" Data {
        "a volume's disk has no record",
        "nobody can use its data",
        Person: "vdvs fsck makes the record anew"
    }
    DamagedRecord "damaged-record" Data {
        "the record of a volume cannot be read",
        "nobody can use its data",
        Person: "vdvs fsck makes the record anew from what is whole"
    }
    NewerRecord "newer-record" Warning {
        "a newer program wrote the record of a volume",
        "this host cannot use the volume; nothing of it is changed",
        Person: "upgrade the agent of this host"
    }
    UnfinishedRecord "unfinished-record" Warning {
        "no version of a volume's record was ever whole, and it has no disk",
        "it takes a name, and nothing else",
        Agent: "removes it, if it has been so for a minute"
    }
    StaleName "stale-name" Warning {
        "a name is taken by a volume that does not exist",
        "no volume of that name can be created",
        Agent: "removes the claim on the name, if it has been so for a minute"
    }
    UnclaimedName "unclaimed-name" Warning {
        "nobody claims the name of a volume",
        "two hosts that make a volume of that name at once may both do it",
        Agent: "claims the name"
    }
    DanglingLedgerEntry "dangling-ledger-entry" Warning {
        "a vmgroup's total counts a volume that is not there",
        "creates may be refused for want of room that there is",
        Agent: "compares the ledger with what is there, and removes the entry"
    }
    MissingLedgerEntry "missing-ledger-entry" Warning {
        "a vmgroup's total does not count a volume that is there",
        "the vmgroup may take more than its total",
        Agent: "compares the ledger with what is there, and adds the entry"
    }
    TwoClaimants "two-claimants" Warning {
        "two volumes of a vmgroup were created under one short name",
        "Docker is refused both by that name, unless it says the datastore",
        Person: "use the full names, or remove the one that nobody needs"
    }
    Orphan "orphan" Warning {
        "the vmgroup of the volume exists no more",
        "no VM can use it",
        Person: "give it to a vmgroup, or remove it"
    }
    TwinUuid "twin-uuid" Warning {
        "two VMs have one instance UUID, as copies have",
        "the one that holds no volumes is refused, and a record cannot tell them apart by it",
        Person: "give the copy an instance UUID of its own"
    }
    AutostartRace "autostart-race" Warning {
        "the host starts a VM that uses volumes before the agent has looked at it",
        "after a failover it starts with disks that may be another VM's by then",
        Person: "take the VM out of the host's autostart, or let it come two minutes after its beginning"
    }
    InaccessibleDatastore "inaccessible-datastore" Warning {
        "a datastore cannot be read",
        "its volumes cannot be used from this host, and nothing on it was looked at",
        Person: "make it reachable again"
    }
    ClosedDatastore "closed-datastore" Warning {
        "a datastore has volumes and no configuration that governs it",
        "no VM may use it",
        Person: "vdvs config init, or import, says which configuration governs it"
    }
    KeptConfiguration "kept-configuration" Warning {
        "the configuration of a datastore cannot be read, and its last copy is used",
        "changes of rights are not seen, and after a day access is closed",
        Person: "make the configuration's home reachable again"
    }
    LowSpace "low-space" Warning {
        "a datastore is nearly full",
        "thin volumes on it stop when it is full",
        Person: "remove or move volumes, or enlarge it"
    }
    LonelyDatastore "lonely-datastore" Warning {
        "only this host sees a datastore that has volumes",
        "they cannot follow their VMs to another host",
        Person: "share the datastore with the other hosts, or move its volumes"
    }
    SilentHost "silent-host" Warning {
        "a host has not told anything for long",
        "what its VMs hold stays with them until it is proven that they cannot write",
        Person: "see whether the agent there runs, and reaches a datastore that is seen here"
    }
    StrangeHost "strange-host" Warning {
        "what a host tells cannot be understood",
        "its VMs and volumes are not seen from here",
        Person: "upgrade the older one of the two agents"
    }
    ClockAhead "clock-ahead" Warning {
        "a host's clock is ahead of this one's",
        "times of records and audits mislead; no lock depends on them",
        Person: "make both hosts use NTP"
    }
    OldAgent "old-agent" Warning {
        "a host's agent is older than another's",
        "it may not know what the newer ones write",
        Person: "upgrade it"
    }
    OldPlugin "old-plugin" Warning {
        "a VM's plugin is older than its host's agent",
        "it lacks what was repaired since",
        Person: "upgrade the plugin in that VM"
    }
    NotLookedAt "not-looked-at" Warning {
        "something could not be looked at",
        "there may be findings that nobody sees",
        Person: "see why, and run vdvs doctor again"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_is_one_kind_and_can_be_typed() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|k| k.row().name).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
            assert_eq!(Kind::named(name).map(|k| k.row().name), Some(name));
        }
        assert_eq!(Kind::named("stale"), None);
    }
}
