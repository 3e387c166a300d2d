//! Mounts against the book: what the kernel's table shows below our mount root, and what it does not.
//!
//! | difference | name | repair |
//! |---|---|---|
//! | mounted at a volume's place, nobody remembers | `unknown-mount` | taken over; the next check lets it go unless it is used |
//! | remembered as mounted, not in the table | `mount-gone` | attached only; the next check mounts again if it is used |
//! | lost, still mounted | `lost-but-mounted` | unmounted lazily |
//! | mounted over itself | `mounted-twice` | the upper one is unmounted |
//! | another disk at a volume's place | `another-disk` | none: a person did that |
//! | a private mount of a format that nobody makes | `unfinished-format` | unmounted |
//!
//! Looked at when the plugin starts and with every reality check. A volume somebody works on is left alone.
//!
//! A table that was read is older than the book it is compared with: volumes come and leave meanwhile. So what differs
//! is a suspicion, and each suspected volume gets a job of its own, which reads the table once more while nobody else
//! works on the volume, and repairs what still differs.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use tracing::{info, warn};
use vdvs_blockdev::mountinfo::topmost;
use vdvs_blockdev::{Device, MountEntry};
use vdvs_domain::VolumeId;

use super::book::Book;
use super::job::{Job, Kind};
use super::reality::{device_of, found};
use super::{Volumes, volume_at};
use crate::journal::{Held, Node, Stage};

/// The name of a place where a file system is mounted before the record says `ready`.
const PRIVATE: &str = ".new-";

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stale {
    Unknown(VolumeId, MountEntry),
    Gone(VolumeId),
    LostButMounted(VolumeId),
    Twice(VolumeId),
    AnotherDisk(VolumeId, PathBuf),
    /// Of this volume, if the name is one.
    Unfinished(Option<VolumeId>, PathBuf),
}

impl Stale {
    const fn volume(&self) -> Option<VolumeId> {
        match self {
            Self::Unknown(volume, _)
            | Self::Gone(volume)
            | Self::LostButMounted(volume)
            | Self::Twice(volume)
            | Self::AnotherDisk(volume, _) => Some(*volume),
            Self::Unfinished(volume, _) => *volume,
        }
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(volume, _) => write!(f, "unknown-mount of {volume}"),
            Self::Gone(volume) => write!(f, "mount-gone of {volume}"),
            Self::LostButMounted(volume) => write!(f, "lost-but-mounted {volume}"),
            Self::Twice(volume) => write!(f, "mounted-twice {volume}"),
            Self::AnotherDisk(volume, found) => {
                write!(
                    f,
                    "another-disk ({}) at the place of {volume}",
                    found.display()
                )
            }
            Self::Unfinished(_, at) => write!(f, "unfinished-format at {}", at.display()),
        }
    }
}

/// Every difference, of volumes nobody works on.
pub(super) fn differences(book: &Book, table: &[MountEntry], root: &Path) -> Vec<Stale> {
    compared(book, table, root, |volume| book.is_idle(volume))
}

/// Every difference of these volumes, and private mounts of none.
fn compared(
    book: &Book,
    table: &[MountEntry],
    root: &Path,
    which: impl Fn(VolumeId) -> bool,
) -> Vec<Stale> {
    let mut all = Vec::new();
    for held in book.held.values().filter(|h| which(h.volume)) {
        let at = root.join(held.volume.to_string());
        let mount = topmost(table, &at);
        let stale = match (held.stage, mount) {
            (Stage::Mounted, None) => Some(Stale::Gone(held.volume)),
            (Stage::Lost, Some(_)) => Some(Stale::LostButMounted(held.volume)),
            (Stage::Attached, Some(mount)) => Some(Stale::Unknown(held.volume, mount.clone())),
            (Stage::Mounted, Some(mount)) => {
                let device = held.device.as_ref().map(Device::from);
                let same = |entry: &MountEntry| {
                    device
                        .as_ref()
                        .is_none_or(|d| entry.is_of(&d.path, d.major_minor))
                };
                let layers = table.iter().filter(|entry| entry.at == at).count();
                if !same(mount) {
                    Some(Stale::AnotherDisk(held.volume, mount.source.clone()))
                } else if layers > 1 {
                    Some(Stale::Twice(held.volume))
                } else {
                    None
                }
            }
            (Stage::Attached | Stage::Lost, None) => None,
        };
        all.extend(stale);
    }
    for mount in table.iter().filter(|m| m.at.parent() == Some(root)) {
        let name = mount.at.file_name().and_then(|name| name.to_str());
        if let Some(volume) = volume_at(root, &mount.at) {
            let known = book.held.contains_key(&volume) || !which(volume);
            let stale = Stale::Unknown(volume, mount.clone());
            if !known && !all.contains(&stale) {
                all.push(stale);
            }
        } else if let Some(of) = name.and_then(|name| name.strip_prefix(PRIVATE)) {
            let of = volume_at(root, &root.join(of));
            if of.is_none_or(&which) {
                all.push(Stale::Unfinished(of, mount.at.clone()));
            }
        }
    }
    all
}

/// Every difference between what a journal says and a table of mounts, by name; for looking from outside.
#[must_use]
pub fn stale_mounts(held: &[Held], table: &[MountEntry], root: &Path) -> Vec<String> {
    let mut book = Book::default();
    book.held = held.iter().map(|h| (h.volume, h.clone())).collect();
    let all = differences(&book, table, root);
    all.iter().map(Stale::to_string).collect()
}

impl Volumes {
    /// Where a file system is mounted before the record says `ready`; never told to anybody.
    pub(super) fn staging(&self, volume: VolumeId) -> PathBuf {
        self.inner.mount_root.join(format!("{PRIVATE}{volume}"))
    }

    /// Compares and repairs. What cannot be read now is looked at the next time.
    pub(super) async fn put_mounts_right(&self) {
        let Some(table) = self.mount_table().await else {
            return;
        };
        let all = differences(&self.book(), &table, &self.inner.mount_root);
        if all.is_empty() {
            return;
        }
        let suspected: BTreeSet<VolumeId> = all.iter().filter_map(Stale::volume).collect();
        let jobs: Vec<Job> = suspected.into_iter().map(|v| self.put_right(v)).collect();
        for job in jobs {
            drop(job.ended().await);
        }
        for stale in all.into_iter().filter(|stale| stale.volume().is_none()) {
            self.repair(stale).await;
        }
    }

    async fn mount_table(&self) -> Option<Vec<MountEntry>> {
        let table = self.devices().mounts().await;
        table
            .inspect_err(|e| warn!(error = %e, "mounts not compared"))
            .ok()
    }

    /// Compares one volume and repairs it, or joins whatever job of it is under way.
    pub(super) fn put_right(&self, volume: VolumeId) -> Job {
        self.start(volume, Kind::PutRight, move |volumes, _| async move {
            let Some(table) = volumes.mount_table().await else {
                return Ok(());
            };
            let root = &volumes.inner.mount_root;
            let mut all = compared(&volumes.book(), &table, root, |one| one == volume);
            all.retain(|stale| stale.volume().is_some());
            if all.is_empty() {
                return Ok(());
            }
            for stale in all {
                volumes.repair(stale).await;
            }
            volumes.persist_or_log().await;
            Ok(())
        })
    }

    /// Only inside a job of its volume.
    async fn repair(&self, stale: Stale) {
        let now = self.inner.ports.clock.now();
        if matches!(stale, Stale::AnotherDisk(..)) {
            warn!(%stale, "a mount is not what it should be; unmount it by hand when nobody uses it");
            return;
        }
        info!(%stale, "a mount and the journal differ; put right");
        let undone = match &stale {
            Stale::AnotherDisk(..) => Ok(()),
            Stale::Unknown(volume, mount) => {
                let mut book = self.book();
                // Whoever waits for it mounts it anew, and then it is known.
                if book.claims(*volume) == 0 {
                    let known = book.known.get(volume);
                    let new = found(*volume, mount, known);
                    let held = book.held.entry(*volume).or_insert(new);
                    held.stage = Stage::Mounted;
                    held.since = now;
                    held.device = device_of(mount).as_ref().map(Node::from);
                    book.changed();
                }
                Ok(())
            }
            Stale::Gone(volume) => {
                self.book().update(*volume, |held| {
                    held.stage = Stage::Attached;
                    held.since = now;
                });
                Ok(())
            }
            Stale::LostButMounted(volume) => {
                self.devices().unmount_lazy(&self.target(*volume)).await
            }
            Stale::Twice(volume) => self.devices().unmount(&self.target(*volume)).await,
            Stale::Unfinished(_, at) => self.devices().unmount(at).await,
        };
        if let Err(e) = undone {
            warn!(%stale, error = %e, "stays as it is");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;
    use vdvs_blockdev::mountinfo::parse;
    use vdvs_domain::{Epoch, FsType, Layout};

    use super::*;

    const ROOT: &str = "/mnt/vdvs";

    fn id(number: u128) -> VolumeId {
        VolumeId::new(Uuid::from_u128(number))
    }

    fn held(number: u128, stage: Stage) -> Held {
        Held {
            volume: id(number),
            name: format!("v{number}@ds"),
            epoch: Epoch::new(1),
            stage,
            device: Some(Node {
                path: format!("/dev/sd{number}").into(),
                major: 8,
                minor: u32::try_from(number).unwrap(),
            }),
            locator: None,
            capacity: 0,
            fstype: FsType::ext4(),
            layout: Layout::Data,
            read_only: false,
            mount_options: Vec::new(),
            counts: BTreeMap::new(),
            since: Default::default(),
        }
    }

    fn names(held: &[Held], places: &[(&str, u32)]) -> Vec<String> {
        let mut book = Book::default();
        for one in held {
            book.held.insert(one.volume, one.clone());
        }
        let lines = places.iter().map(|(at, minor)| {
            format!("1 2 8:{minor} / {ROOT}/{at} rw - ext4 /dev/sd{minor} rw\n")
        });
        let table = parse(lines.collect::<String>().as_bytes()).unwrap();
        let all = differences(&book, &table, Path::new(ROOT));
        let word = |stale: &Stale| stale.to_string().split(' ').next().map(str::to_owned);
        all.iter().filter_map(word).collect()
    }

    #[test]
    fn each_difference_has_its_name_and_agreement_has_none() {
        let one = &id(1).to_string();
        let two = &id(2).to_string();
        let unfinished = format!(".new-{one}");
        let mounted = || held(1, Stage::Mounted);
        let none: [&str; 0] = [];
        assert_eq!(names(&[mounted()], &[(one, 1)]), none);
        assert_eq!(names(&[held(1, Stage::Attached)], &[]), none);
        assert_eq!(names(&[held(1, Stage::Lost)], &[]), none);
        assert_eq!(names(&[mounted()], &[]), ["mount-gone"]);
        assert_eq!(names(&[mounted()], &[(one, 3)]), ["another-disk"]);
        assert_eq!(
            names(&[mounted()], &[(one, 1), (one, 1)]),
            ["mounted-twice"]
        );
        assert_eq!(
            names(&[held(1, Stage::Lost)], &[(one, 1)]),
            ["lost-but-mounted"]
        );
        assert_eq!(
            names(&[held(1, Stage::Attached)], &[(one, 1)]),
            ["unknown-mount"]
        );
        assert_eq!(
            names(&[mounted()], &[(one, 1), (two, 2)]),
            ["unknown-mount"]
        );
        assert_eq!(names(&[], &[(&unfinished, 1)]), ["unfinished-format"]);
        // What is not ours by its spelling is nobody's business.
        let loud = id(0xab).to_string().to_uppercase();
        let below = format!("{two}/data");
        assert_eq!(names(&[], &[("photos", 1), (&loud, 2), (&below, 3)]), none);
    }

    #[test]
    fn a_volume_somebody_works_on_is_left_alone() {
        let mut book = Book::default();
        book.held.insert(id(1), held(1, Stage::Mounted));
        book.work.entry(id(1)).or_default().claims = 1;
        assert_eq!(differences(&book, &[], Path::new(ROOT)), []);
    }
}
