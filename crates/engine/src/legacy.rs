//! What guests with the original's plugin need otherwise than ours (docs/adr/0065).
//!
//! That plugin makes the file system itself, right after *create* said that it made something, never probes a disk, and
//! mounts the file system's root. So:
//!
//! * **Only who is told that a volume is new may format it.** The record then says *unknown*, so that nobody else ever
//!   does, and layout *root*. A volume that exists is never answered as new, unless it is the very one whose answer was
//!   lost: made by the same VM, never attached, and so without anything on it.
//! * **A volume that our plugin formatted is not attached**: its data lies in a folder which that plugin does not know,
//!   and a database would start anew beside it.
//! * Its messages carry no epoch: a detach speaks of what the VM has now. What a VM has it may give back, whatever its
//!   vmgroup may do by now.

use std::sync::Arc;
use std::time::Duration;

use vdvs_domain::access;
use vdvs_domain::error::full_name;
use vdvs_domain::options::{Access, GivenOptions};
use vdvs_domain::{
    Capacity, Epoch, Error, ErrorKind, FilesystemState, Layout, Ownership, RequestId,
    VolumeAddress, VolumeRecord,
};

use crate::api::{Attached, Call, Caller, Outcome, VolumeView};
use crate::engine::Engine;
use crate::inner::Inner;
use crate::records::{Change, Stored};

/// What the original made when no size was given.
const DEFAULT_SIZE: u64 = 100 << 20;

/// What a create came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// It is there and nobody ever had it: its maker formats it.
    ToBeFormatted(VolumeView),
    /// A clone: it has what its source has.
    Clone(VolumeView),
    /// It was there before.
    Before(VolumeView),
}

/// Nobody ever had it, and nothing is on it.
fn is_untouched(record: &VolumeRecord, caller: &Caller) -> bool {
    let maker = record.created.by.as_ref();
    let never_formatted = matches!(
        record.filesystem.state,
        FilesystemState::Never | FilesystemState::Unknown
    );
    maker.is_some_and(|vm| vm.id == caller.vm.id)
        && record.epoch == Epoch::default()
        && record.ownership == Ownership::Free
        && record.options.clone_from.is_none()
        && never_formatted
}

/// Its data lies in a folder that the original's plugin does not know.
fn is_beyond(layout: Layout, state: &FilesystemState) -> bool {
    layout == Layout::Data && *state != FilesystemState::Never
}

fn beyond(name: &VolumeAddress) -> Error {
    Error::Invalid {
        what: "the plugin in this VM",
        problem: format!(
            "it is too old for volume {name}, whose data lies in a folder that it does not know; upgrade it"
        ),
    }
}

impl Engine {
    /// Creates a volume for a guest that formats it itself.
    ///
    /// # Errors
    /// As [`Engine::create`].
    pub async fn create_by_original(
        &self,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
        given: &GivenOptions,
    ) -> Result<Made, Error> {
        let mut given = given.clone();
        if given.size.is_none() && given.clone_from.is_none() {
            given.size = Box::pin(self.0.originals_size(caller, address, &given)).await;
        }
        let outcome = self.create(caller, call, address, &given).await?;
        if given.clone_from.is_some() {
            return Ok(match outcome {
                Outcome::Unchanged(view) => Made::Before(view),
                Outcome::Created(view) | Outcome::Changed(view) => Made::Clone(view),
            });
        }
        let view = outcome.into_inner();
        let yielded = Box::pin(self.0.yield_formatting(caller, &view)).await?;
        Ok(match yielded {
            true => Made::ToBeFormatted(view),
            false => Made::Before(view),
        })
    }

    /// Attaches a volume for a guest that mounts the root of whatever is on it.
    ///
    /// # Errors
    /// As [`Engine::attach`]; and for a volume that our plugin formatted.
    pub async fn attach_by_original(
        &self,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
        wait: Duration,
    ) -> Result<Attached, Error> {
        let seen = self.get(caller, address).await?;
        let name = full(&seen);
        if is_beyond(seen.layout, &seen.filesystem.state) {
            return Err(beyond(&name));
        }
        // The first time it is attached to be formatted.
        let read_only = seen.options.access == Access::ReadOnly && seen.epoch != Epoch::default();
        let attached = self.attach(caller, call, address, read_only, wait).await?;
        match Box::pin(self.0.never_formatted_by_us(&attached.view)).await {
            Ok(()) => Ok(attached),
            Err(why) => {
                let back = Call {
                    request: RequestId::new(self.0.ports.ids.uuid()),
                    ..call.clone()
                };
                let undone = self.detach(caller, &back, attached.view.id, attached.epoch);
                if let Err(left) = undone.await {
                    tracing::info!(volume = %name, why = %left, "an attachment that was not told stays");
                }
                Err(why)
            }
        }
    }

    /// Detaches what this VM has under that name; a volume it does not have is detached.
    ///
    /// # Errors
    /// As [`Engine::detach`]; and when nobody can say what the VM has.
    pub async fn detach_by_original(
        &self,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
    ) -> Result<Outcome<()>, Error> {
        let held = Box::pin(self.0.held_under(caller, address)).await?;
        let chosen = match held.as_slice() {
            [] => {
                return match self.get(caller, address).await {
                    Err(why) if why.kind() == ErrorKind::Unavailable => Err(why),
                    _ => Ok(Outcome::Unchanged(())),
                };
            }
            [one] => (one.record.id, one.record.epoch),
            // Several of that name, on several datastores: the one that the name means.
            several => {
                let meant = self.get(caller, address).await?;
                match several.iter().find(|s| s.record.id == meant.id) {
                    Some(one) => (one.record.id, one.record.epoch),
                    None => return Ok(Outcome::Unchanged(())),
                }
            }
        };
        self.detach(caller, call, chosen.0, chosen.1).await
    }
}

fn full(view: &VolumeView) -> VolumeAddress {
    full_name(&view.name, &view.datastore)
}

impl Inner {
    /// The size where none was given: the vmgroup's, or the original's. What stands in the way is said by the create.
    async fn originals_size(
        &self,
        caller: &Caller,
        address: &VolumeAddress,
        given: &GivenOptions,
    ) -> Option<Capacity> {
        let named = address.datastore.as_ref().or(given.datastore.as_ref());
        let target = match named {
            Some(ds) => ds.clone(),
            None => self.default_datastore(caller).await.ok()?,
        };
        let open = self.usable(caller, &target).await.ok()?;
        let group = access::group_of(&open.rules.access, &caller.access()).ok()?;
        let original = Capacity::from_bytes(DEFAULT_SIZE).ok();
        group.default_size.or(original)
    }

    /// Leaves the formatting of a volume that nobody ever had to its maker: our plugins never do it from now on.
    /// `false`: somebody had it.
    async fn yield_formatting(&self, caller: &Caller, view: &VolumeView) -> Result<bool, Error> {
        let Some(stored) = self.by_id(view.id).await? else {
            return Ok(false);
        };
        if stored.is_unrecorded() {
            // One of the original's own.
            return Ok(false);
        }
        let left = self
            .change(&stored.place, |record| {
                if !is_untouched(record, caller) {
                    return Ok(Change::Keep);
                }
                Ok(for_the_original(record))
            })
            .await?;
        Ok(is_untouched(&left.record, caller))
    }

    /// What is attached to a guest of the original may be formatted by it at any time, so never by us.
    async fn never_formatted_by_us(&self, view: &VolumeView) -> Result<(), Error> {
        let name = full(view);
        if is_beyond(view.layout, &view.filesystem.state) {
            return Err(beyond(&name));
        }
        if view.filesystem.state != FilesystemState::Never {
            return Ok(());
        }
        let Some(stored) = self.by_id(view.id).await? else {
            return Err(Error::Contended { name });
        };
        self.change(&stored.place, |record| {
            if is_beyond(record.layout, &record.filesystem.state) {
                return Err(beyond(&name));
            }
            Ok(for_the_original(record))
        })
        .await
        .map(drop)
    }

    /// The volumes that a VM has under a name.
    async fn held_under(
        self: &Arc<Self>,
        caller: &Caller,
        address: &VolumeAddress,
    ) -> Result<Vec<Stored>, Error> {
        let held = self.held_by_vm(&caller.vm.id).await?;
        let is_meant = |s: &Stored| {
            let there = address.datastore.as_ref();
            s.record.name == address.name && there.is_none_or(|ds| s.place.ds.matches(ds))
        };
        Ok(held.into_values().filter(is_meant).collect())
    }
}

/// The record of a volume that a guest of the original formats.
fn for_the_original(record: &VolumeRecord) -> Change {
    if record.filesystem.state != FilesystemState::Never {
        return Change::Keep;
    }
    let mut next = record.clone();
    next.filesystem.state = FilesystemState::Unknown;
    next.layout = Layout::Root;
    next.into()
}
