//! What fsck says.

use vdvs_domain::DatastoreName;

use super::catalog::Catalog;

/// What is asked of fsck.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsckAsk {
    /// The datastores; none: all.
    pub datastores: Vec<String>,
    /// Repair what can be; otherwise only look.
    pub repair: bool,
    /// Volumes (`name@datastore`) of which the administrator knows that no VM of any host, running, off or suspended, has
    /// them in its configuration.
    pub nobody_has: Vec<String>,
}

/// What is wrong. Each kind has one repair, or none that a program may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FsckKind {
    /// Written by a newer program.
    NewerFormat,
    /// The marker cannot be understood, or is gone from a datastore that had one.
    DamagedMarker,
    /// The configuration document cannot be understood.
    DamagedConfig,
    /// A host's status file cannot be understood.
    DamagedHostFile,
    /// A vmgroup's ledger cannot be understood.
    DamagedLedger,
    /// A ledger does not say what the records say.
    LedgerDiffers,
    /// A record cannot be understood; its disk is there.
    DamagedRecord,
    /// A disk of ours has no record.
    LostRecord,
    /// A record cannot be understood, and there is no disk.
    RecordWithoutDisk,
    /// A record says that a volume exists whose disk is not there.
    MissingDisk,
    /// A disk cannot be looked at.
    UnreadableDisk,
    /// Record and disk differ in size.
    SizeDiffers,
    /// A name's claim is gone.
    LostClaim,
    /// A name's claim cannot be understood, or names what is not there.
    DamagedClaim,
    /// Two volumes of one name in one vmgroup.
    NameTwice,
    /// Two disks carry one volume id.
    IdTwice,
    /// A claim without a volume.
    LeftoverClaim,
}

impl FsckKind {
    /// All of them, for whoever lists them.
    pub const ALL: [Self; 17] = [
        Self::NewerFormat,
        Self::DamagedMarker,
        Self::DamagedConfig,
        Self::DamagedHostFile,
        Self::DamagedLedger,
        Self::LedgerDiffers,
        Self::DamagedRecord,
        Self::LostRecord,
        Self::RecordWithoutDisk,
        Self::MissingDisk,
        Self::UnreadableDisk,
        Self::SizeDiffers,
        Self::LostClaim,
        Self::DamagedClaim,
        Self::NameTwice,
        Self::IdTwice,
        Self::LeftoverClaim,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NewerFormat => "newer-format",
            Self::DamagedMarker => "damaged-marker",
            Self::DamagedConfig => "damaged-config",
            Self::DamagedHostFile => "damaged-host-file",
            Self::DamagedLedger => "damaged-ledger",
            Self::LedgerDiffers => "ledger-differs",
            Self::DamagedRecord => "damaged-record",
            Self::LostRecord => "lost-record",
            Self::RecordWithoutDisk => "record-without-disk",
            Self::MissingDisk => "missing-disk",
            Self::UnreadableDisk => "unreadable-disk",
            Self::SizeDiffers => "size-differs",
            Self::LostClaim => "lost-claim",
            Self::DamagedClaim => "damaged-claim",
            Self::NameTwice => "name-twice",
            Self::IdTwice => "id-twice",
            Self::LeftoverClaim => "leftover-claim",
        }
    }
}

/// What became of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsckState {
    /// A repair would end it.
    Repairable,
    /// It was repaired.
    Repaired,
    /// A person must decide, or time must pass.
    Left,
}

impl FsckState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Repairable => "repairable",
            Self::Repaired => "repaired",
            Self::Left => "left",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsckFinding {
    /// Where.
    pub datastore: DatastoreName,
    /// What is wrong.
    pub kind: FsckKind,
    /// Which file, below the datastore.
    pub path: String,
    /// The volume's full name; empty: it is about none.
    pub volume: String,
    /// How it was found.
    pub what: String,
    /// What was done, would be done, or is to be done.
    pub action: String,
    /// What became of it.
    pub state: FsckState,
}

/// What was looked at on one datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsckLooked {
    /// The datastore.
    pub datastore: DatastoreName,
    /// Records.
    pub records: usize,
    /// Claims on names.
    pub claims: usize,
    /// Disks of ours.
    pub disks: usize,
}

impl FsckLooked {
    pub(super) fn of(ds: &DatastoreName) -> Self {
        Self {
            datastore: ds.clone(),
            records: 0,
            claims: 0,
            disks: 0,
        }
    }

    pub(super) fn count(&mut self, catalog: &Catalog) {
        self.records = catalog.records.len();
        self.claims = catalog.claims.len();
        self.disks = catalog.disks.len();
    }
}

/// What fsck found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// What was looked at.
    pub looked: Vec<FsckLooked>,
    /// What is wrong, datastore by datastore.
    pub findings: Vec<FsckFinding>,
    /// Datastores that could not be looked at, and why.
    pub unread: Vec<(DatastoreName, String)>,
}

impl FsckReport {
    /// Findings of which no repair is left to be made by us: a person must look.
    #[must_use]
    pub fn left(&self) -> usize {
        self.findings
            .iter()
            .filter(|f| f.state != FsckState::Repaired)
            .count()
    }
}
