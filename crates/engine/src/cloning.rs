//! Clones: what a clone takes from its source, and how the source is kept still while it is read.
//!
//! ```text
//!   target: claim ─► record (create, source) ─► ledger ─┐                       ┌─► source unchanged? ─► record ready
//!   source:                                             └─► Reading(target) ─► copy ┘                    ─► Free
//! ```
//! * The source goes `Free → Reading(target, epoch + 1)` by *swap*: from then on attach and delete refuse at once, on
//!   every host. Nobody waits for a source while holding its target: a source that is not free is a refusal.
//! * The clone counts as made only after the source was read again and still says `Reading(target)` with that epoch:
//!   every attach would have raised it.
//! * A reader writes nothing to the source, so ending a reading is always safe: the clone that lost its source fails
//!   and is taken back. A reading whose clone is done, gone, or no longer renewed is ended by whoever meets it.

use std::sync::Arc;

use vdvs_domain::error::{Holder, full_name};
use vdvs_domain::options::{DiskFormat, GivenOptions, OptionError, check_mount_options};
use vdvs_domain::ownership::Event;
use vdvs_domain::record::{CloneSource, Making};
use vdvs_domain::{
    Capacity, CreateOptions, Epoch, Error, Filesystem, FilesystemState, Layout, Ownership,
    Timestamp, VolumeAddress, VolumeId,
};

use crate::api::Caller;
use crate::claims::reserved_for_another;
use crate::inner::{Inner, no_room};
use crate::layout::Place;
use crate::lookup::{Looked, Open};
use crate::ports::{DatastoreKind, DiskLock, StorageError};
use crate::records::{Change, Stored};

/// What a volume is to be.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint {
    pub(crate) capacity: Capacity,
    pub(crate) options: CreateOptions,
    pub(crate) filesystem: Filesystem,
    pub(crate) layout: Layout,
    /// The volume whose content it gets.
    pub(crate) source: Option<Arc<Stored>>,
}

fn not_for_a_clone(what: &'static str, why: String) -> Error {
    OptionError::NotForAClone { what, why }.into()
}

impl Blueprint {
    /// A volume that begins empty.
    pub(crate) fn fresh(given: &GivenOptions) -> Self {
        let options = given.resolve();
        Self {
            capacity: given.capacity(),
            filesystem: Filesystem {
                fstype: options.fstype.clone(),
                state: FilesystemState::Never,
            },
            options,
            layout: Layout::Data,
            source: None,
        }
    }

    /// A clone: size, file system and layout are the source's, and every option that was not given, except the
    /// allocation of the disk. A policy stays behind where there are none.
    pub(crate) fn of_clone(
        given: &GivenOptions,
        source: Stored,
        kind: DatastoreKind,
    ) -> Result<Self, Error> {
        let (record, name) = (&source.record, source.name());
        let from = &record.options;
        if let Some(size) = given.size.filter(|s| *s != record.capacity) {
            let has = record.capacity;
            return Err(not_for_a_clone(
                "size",
                format!(
                    "{size} was asked for, {name} has {has}, and a clone has its source's size; leave size out"
                ),
            ));
        }
        let fstype = &record.filesystem.fstype;
        if let Some(asked) = given.fstype.as_ref().filter(|f| *f != fstype) {
            return Err(not_for_a_clone(
                "filesystem type",
                format!(
                    "{asked} was asked for, {name} has {fstype}, and a clone has its source's file system; leave fstype out"
                ),
            ));
        }
        if matches!(record.filesystem.state, FilesystemState::Formatting { .. }) {
            return Err(Error::CloneFailed {
                source_name: name,
                why: "was being formatted when its VM let it go; mount it once, so that it is finished".to_owned(),
            });
        }
        let mount_options = given.mount_options.as_ref().unwrap_or(&from.mount_options);
        check_mount_options(fstype, mount_options)?;
        let policy = given.policy.as_ref().or(from.policy.as_ref());
        let options = CreateOptions {
            fstype: fstype.clone(),
            diskformat: given.diskformat.unwrap_or(DiskFormat::Thin),
            attach_as: given.attach_as.unwrap_or(from.attach_as),
            access: given.access.unwrap_or(from.access),
            failover: given.failover.unwrap_or(from.failover),
            fence_after: given.fence_after.unwrap_or(from.fence_after),
            clone_from: Some(name.to_string()),
            policy: policy.filter(|_| kind == DatastoreKind::Vsan).cloned(),
            mount_options: mount_options.clone(),
            ..from.clone()
        };
        Ok(Self {
            capacity: record.capacity,
            options,
            filesystem: record.filesystem.clone(),
            layout: record.layout,
            source: Some(Arc::new(source)),
        })
    }

    /// The source as the target's record names it.
    pub(crate) fn clone_source(&self) -> Option<CloneSource> {
        self.source.as_ref().map(|source| CloneSource {
            id: source.record.id,
            name: source.record.name.clone(),
            datastore: source.place.ds.clone(),
        })
    }

    /// What the target's record says of its making from the first version on.
    pub(crate) fn making(&self, now: Timestamp) -> Option<Making> {
        let source = self.clone_source()?;
        Some(Making {
            source: Some(source),
            done: 0,
            total: self.capacity.bytes(),
            seen: now,
        })
    }
}

impl Inner {
    /// The volume to be cloned, which the caller may use. A short name means what it means to every other request;
    /// failing that, the volume of that name on the clone's datastore, as the original had it.
    pub(crate) async fn clone_source(
        &self,
        caller: &Caller,
        asked: &VolumeAddress,
        target: &Open,
    ) -> Result<Stored, Error> {
        let found = match self.look_up(caller, asked).await? {
            Looked::Found(stored) => Some(*stored),
            Looked::Absent { known } => {
                known?;
                let beside = self.named(&target.ds, target.group, &asked.name);
                match asked.datastore {
                    None => self.answering(&target.ds, beside).await?,
                    Some(_) => None,
                }
            }
        };
        let Some(stored) = found else {
            return Err(Error::NoCloneSource {
                asked: asked.clone(),
                looked_on: self.looked_on(caller, asked).await?,
            });
        };
        self.usable(caller, &stored.place.ds).await?;
        // One of the original's gets its record now: the reading has to stand in it.
        self.adopt(stored).await
    }

    /// `Free → Reading(target)`. Whoever has the source, or wants it, is named in the refusal.
    pub(crate) async fn begin_read(
        self: &Arc<Self>,
        caller: &Caller,
        source: &Stored,
        target: VolumeId,
    ) -> Result<Epoch, Error> {
        let now = self.read_existing(&source.place).await?;
        if self.is_read(&now) && !self.end_stale_read(&now).await? {
            return Err(self.being_cloned("clone", &now).await);
        }
        if let Some(owner) = now.record.ownership.owner() {
            return Err(in_use(source, self.holder(owner)));
        }
        if let DiskLock::Held { by } = self.ports.host.lock(&source.place.disk()).await {
            return Err(in_use(source, Holder::seen_by_the_lock(&by)));
        }
        let event = Event::BeginRead(target, self.host);
        let lease = self.settings.claim_lease;
        let begun = self.change(&source.place, |record| {
            match record.ownership {
                Ownership::Reading { target: t, .. } if t == target => return Ok(Change::Keep),
                // Another clone was faster since we looked.
                Ownership::Reading { .. } => {
                    return Err(Error::Contended {
                        name: source.name(),
                    });
                }
                _ => {}
            }
            if let Some(owner) = record.ownership.owner() {
                return Err(in_use(source, self.holder(owner)));
            }
            if let Some(operation) = &record.operation {
                return Err(Self::unresolved(
                    source.name(),
                    operation,
                    "it is under way",
                ));
            }
            let reserved = reserved_for_another(record, &caller.vm.id, self.now(), lease);
            if let Some(claim) = reserved {
                return Err(in_use(
                    source,
                    Holder {
                        vm: claim.vm.name.clone().into(),
                        host: claim.host_name.clone().into(),
                        since: claim.since,
                        note: "which waits for it",
                    },
                ));
            }
            // What was planned from it is what it is.
            let seen = &source.record;
            if record.epoch < seen.epoch
                || record.filesystem != seen.filesystem
                || record.capacity != seen.capacity
            {
                return Err(Error::CloneFailed {
                    source_name: source.name(),
                    why: "was changed meanwhile".to_owned(),
                });
            }
            let mut next = record.clone();
            next.ownership = record.ownership.apply(event.clone())?;
            next.epoch = record.epoch.next();
            Ok(next.into())
        });
        match begun.await {
            Ok(begun) => Ok(begun.record.epoch),
            Err(contended @ Error::Contended { .. }) => {
                let now = self.read_existing(&source.place).await?;
                if self.is_read(&now) {
                    return Err(self.being_cloned("clone", &now).await);
                }
                Err(contended)
            }
            Err(why) => Err(why),
        }
    }

    /// Success when nobody had the source since the reading of `epoch` began.
    pub(crate) async fn still_reading(
        &self,
        source: &Stored,
        target: VolumeId,
        epoch: Epoch,
    ) -> Result<(), Error> {
        let now = self.read_existing(&source.place).await?;
        match now.record.ownership {
            Ownership::Reading { target: t, .. } if t == target && now.record.epoch == epoch => {
                Ok(())
            }
            _ => Err(Error::CloneFailed {
                source_name: source.name(),
                why: "was taken while it was copied".to_owned(),
            }),
        }
    }

    /// `Reading(target) → Free`. May run any number of times, also when the source is gone.
    pub(crate) async fn end_read(&self, source: &Place, target: VolumeId) -> Result<(), Error> {
        let ended = self.change(source, |record| match record.ownership {
            Ownership::Reading { target: t, .. } if t == target => {
                let mut next = record.clone();
                next.ownership = record.ownership.apply(Event::EndRead)?;
                Ok(next.into())
            }
            _ => Ok(Change::Keep),
        });
        match ended.await {
            Ok(_) | Err(Error::VolumeNotFound { .. }) => Ok(()),
            Err(why) => Err(why),
        }
    }

    /// The same where a failure is made good later: by the sweep, or by whoever wants the source.
    pub(crate) async fn end_read_or_later(&self, source: &Place, target: VolumeId) {
        if let Err(why) = self.end_read(source, target).await {
            tracing::info!(source = %source.what(), %why, "the source of a clone is freed later");
        }
    }

    /// Whether a clone reads it.
    pub(crate) fn is_read(&self, stored: &Stored) -> bool {
        matches!(stored.record.ownership, Ownership::Reading { .. })
    }

    /// Frees a source whose clone is done, gone, or no longer renewed. `false`: it is being read.
    pub(crate) async fn end_stale_read(&self, stored: &Stored) -> Result<bool, Error> {
        let Ownership::Reading { target, host } = stored.record.ownership else {
            return Ok(true);
        };
        if self.works.get(target).is_some() {
            return Ok(false);
        }
        if host != self.host
            && let Some(clone) = self.by_id(target).await?
            && clone.record.making.is_some()
        {
            let subject = format!("clone {} in version {}", target, clone.seq);
            if !self.may_resolve_making(&clone) && !self.is_ripe(&subject) {
                return Ok(false);
            }
        }
        self.end_read(&stored.place, target).await?;
        tracing::info!(volume = %stored.name(), "no clone reads it any more; it is free");
        Ok(true)
    }

    /// The clone's copy may be used: it needs no source, or its source was still kept for it.
    pub(crate) async fn copy_is_good(&self, clone: &Stored) -> Result<bool, Error> {
        let making = clone.record.making.as_ref();
        let Some(source) = making.and_then(|m| m.source.as_ref()) else {
            return Ok(true);
        };
        let target = clone.record.id;
        let reads =
            |o: &Ownership| matches!(o, Ownership::Reading { target: t, .. } if *t == target);
        let found = self.by_id(source.id).await?;
        Ok(found.is_some_and(|s| reads(&s.record.ownership)))
    }

    /// Frees the source of a clone that is finished or taken back.
    pub(crate) async fn free_source_of(&self, clone: &Stored) -> Result<(), Error> {
        let making = clone.record.making.as_ref();
        let Some(source) = making.and_then(|m| m.source.as_ref()) else {
            return Ok(());
        };
        match self.by_id(source.id).await? {
            Some(source) => self.end_read(&source.place, clone.record.id).await,
            None => Ok(()),
        }
    }

    /// The refusal of everything that needs a source that is being read.
    pub(crate) async fn being_cloned(&self, verb: &'static str, stored: &Stored) -> Error {
        let Ownership::Reading { target, .. } = stored.record.ownership else {
            return Error::Contended {
                name: stored.name(),
            };
        };
        let clone = self.by_id(target).await.ok().flatten();
        let making = clone
            .as_ref()
            .and_then(|c| self.making_in_words(&c.record))
            .unwrap_or_else(|| "being made".to_owned());
        Error::BeingCloned {
            verb,
            name: stored.name(),
            clone: clone.map_or_else(|| target.to_string(), |c| c.name().to_string()),
            making,
        }
    }

    /// What reads a volume, in words.
    pub(crate) fn reader_in_words(&self, ownership: &Ownership) -> Option<String> {
        let Ownership::Reading { target, host } = ownership else {
            return None;
        };
        Some(match self.works.get(*target) {
            Some(work) => format!(
                "its clone {} is {}",
                full_name(&work.place.name, &work.place.ds),
                work.words()
            ),
            None => format!(
                "a clone (id {target}) is made of it on host {}",
                self.host_name(*host)
            ),
        })
    }

    /// What a failed copy means to the caller.
    pub(crate) fn copy_failed(
        target: &Place,
        capacity: Capacity,
        source: &Stored,
        why: &StorageError,
    ) -> Error {
        match why {
            StorageError::Busy(by) => in_use(source, Holder::seen_by_the_lock(by)),
            StorageError::NoSpace => no_room(&target.ds, capacity, why),
            StorageError::Stopped => Error::Stopped {
                name: full_name(&target.name, &target.ds),
            },
            other => Error::CloneFailed {
                source_name: source.name(),
                why: format!("could not be copied to {} ({other})", target.ds),
            },
        }
    }
}

fn in_use(source: &Stored, holder: Holder) -> Error {
    Error::InUse {
        verb: "clone",
        name: source.name(),
        holder,
    }
}
