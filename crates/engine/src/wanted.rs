//! The owner's side: this agent follows the records of the volumes its VMs hold, and does for who waits what
//! `failover` says.
//!
//! Every [`Settings::claim_poll`](crate::api::Settings) each of those records is asked whether it changed: one look-up
//! that lists nothing. A volume is wanted while a claim of another host stands in its record and is renewed, or a
//! request of this host waits. Then
//!
//! * its guest is told, once per claimant, and lets the volume go if it does not use it;
//! * under `wait` that is all;
//! * an administrator who asks with force gets it at once;
//! * under `fence` it is taken from the guest when it has been wanted for `fence-after`. Measured by this agent's
//!   monotonic clock from when it first saw it wanted: clocks of two hosts are not compared, and an agent that starts
//!   begins anew.
//!
//! While the owner is suspended the time stands at zero: nothing can be taken from it then, and it shall have its time
//! when it resumes. A short pause between two claimants does not begin the time anew: a guest whose mount budget is as
//! short as `fence-after` gives up and is started again by its orchestrator.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep_until, timeout};
use vdvs_domain::{DatastoreName, Error, Failover, Owner, VmId, VmRef, VolumeId, VolumeRecord};

use crate::claims::Sight;
use crate::inner::{Inner, locked};
use crate::layout::Place;
use crate::plan::OwnerState;
use crate::ports::Power;
use crate::records::Stored;

/// Records of one datastore asked at once.
const AT_ONCE: usize = 8;
/// A datastore that does not answer one of these look-ups within this time is left alone for a while.
const ANSWER: Duration = Duration::from_secs(2);
/// For so long.
const QUIET: Duration = Duration::from_secs(10);
/// Following the records takes at most one part in so many of the time.
const SHARE: u32 = 10;
/// A pause between two claimants shorter than this does not begin the time of the fence anew. Swarm starts a task that
/// was rejected again after 5 s, and needs a moment to place it.
const PAUSE: Duration = Duration::from_secs(15);
/// What the host refused is tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);

/// The volumes that VMs of this host hold. A hint that the sweep completes: what is done is decided on fresh looks.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    volumes: Mutex<BTreeMap<VolumeId, Watch>>,
    quiet: Mutex<HashMap<DatastoreName, Instant>>,
}

/// One of them.
#[derive(Debug, Clone)]
struct Watch {
    place: Place,
    /// As it was read last.
    read: Option<Box<Stored>>,
    sight: Sight,
    want: Option<Wanted>,
    /// The claimant the guest was told of.
    told: Option<VmId>,
    /// Something is being done about it, or may not be tried again, until then.
    busy_until: Option<Instant>,
}

/// How long it has been wanted from an owner.
#[derive(Debug, Clone)]
struct Wanted {
    from: VmId,
    since: Instant,
    last: Instant,
}

/// Who wants it now.
#[derive(Debug, Clone)]
pub(crate) struct Claimant {
    vm: VmRef,
    host: String,
    /// It waits on this host, and told the guest itself.
    local: bool,
}

/// What is done for a claimant.
#[derive(Debug)]
enum Action {
    /// The owner is off.
    Release,
    /// The owner had its time.
    Fence { claimant: String, waited: Duration },
}

impl Watched {
    /// A volume belongs to a VM that is, or lately was, registered here.
    fn watch(&self, place: &Place, volume: VolumeId) {
        let mut volumes = locked(&self.volumes);
        let watch = volumes.entry(volume).or_insert_with(|| Watch {
            place: place.clone(),
            read: None,
            sight: Sight::default(),
            want: None,
            told: None,
            busy_until: None,
        });
        if watch.place != *place {
            watch.place = place.clone();
        }
    }

    /// It does not any more.
    pub(crate) fn unwatch(&self, volume: VolumeId) {
        locked(&self.volumes).remove(&volume);
    }

    fn by_datastore(&self, now: Instant) -> BTreeMap<DatastoreName, Vec<VolumeId>> {
        let mut quiet = locked(&self.quiet);
        quiet.retain(|_, until| *until > now);
        let mut found: BTreeMap<DatastoreName, Vec<VolumeId>> = BTreeMap::new();
        for (volume, watch) in locked(&self.volumes).iter() {
            if !quiet.contains_key(&watch.place.ds) {
                let list = found.entry(watch.place.ds.clone()).or_default();
                list.push(*volume);
            }
        }
        found
    }

    fn get(&self, volume: VolumeId) -> Option<Watch> {
        locked(&self.volumes).get(&volume).cloned()
    }

    fn update(&self, volume: VolumeId, change: impl FnOnce(&mut Watch)) {
        if let Some(watch) = locked(&self.volumes).get_mut(&volume) {
            change(watch);
        }
    }
}

impl Inner {
    fn note_owner(&self, place: &Place, record: &VolumeRecord) {
        let owner = record.ownership.owner();
        if owner.is_some_and(|o| o.host == self.host) && record.exists() {
            self.watched.watch(place, record.id);
        }
    }

    /// The owner of a volume is, or is not, registered here.
    pub(crate) fn watch_if(&self, here: bool, stored: &Stored) {
        match here && stored.record.exists() {
            true => self.watched.watch(&stored.place, stored.record.id),
            false => self.watched.unwatch(stored.record.id),
        }
    }

    /// A record was written by this host.
    pub(crate) fn record_written(&self, place: &Place, record: &VolumeRecord) {
        self.note_owner(place, record);
        self.notices.changed(record.id);
    }

    /// Follows the records until dropped.
    pub(crate) async fn follow_claims(self: &Arc<Self>) {
        loop {
            let begun = self.instant();
            let due = self.claims_round(begun).await;
            let spent = self.instant().saturating_duration_since(begun);
            let pause = self.settings.claim_poll.max(spent.saturating_mul(SHARE));
            let next = begun.checked_add(pause).unwrap_or(begun);
            // A fence is not late because nothing else is due.
            sleep_until(due.map_or(next, |due| due.min(next))).await;
        }
    }

    /// One look at each; returns when the next fence is due.
    async fn claims_round(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let datastores = self.watched.by_datastore(now);
        let looks = datastores.into_iter().map(async |(ds, volumes)| {
            let looks = stream::iter(volumes)
                .map(|volume| timeout(ANSWER, self.look_at_wanted(volume)))
                .buffer_unordered(AT_ONCE);
            let mut looks = pin!(looks);
            let mut due: Option<Instant> = None;
            while let Some(look) = looks.next().await {
                match look {
                    Ok(Ok(next)) => due = [due, next].into_iter().flatten().min(),
                    // Said by the sweep, which reads the same records.
                    Ok(Err(Error::DatastoreUnavailable { .. })) | Err(_) => {
                        let until = now.checked_add(QUIET).unwrap_or(now);
                        locked(&self.watched.quiet).insert(ds.clone(), until);
                        break;
                    }
                    // Changed meanwhile, or the host does not answer now: the next look decides.
                    Ok(Err(_)) => {}
                }
            }
            due
        });
        join_all(looks).await.into_iter().flatten().min()
    }

    /// The record as it is: the one read last if nothing came after it.
    async fn read_watched(&self, watch: &Watch) -> Result<Option<Stored>, Error> {
        if let Some(read) = &watch.read
            && !self.changed_since(read).await?
        {
            return Ok(Some(Stored::clone(read)));
        }
        self.read_record(&watch.place).await
    }

    async fn look_at_wanted(self: &Arc<Self>, volume: VolumeId) -> Result<Option<Instant>, Error> {
        let Some(watch) = self.watched.get(volume) else {
            return Ok(None);
        };
        let stored = self.read_watched(&watch).await?;
        let stored = stored.filter(|s| s.record.exists() && s.record.id == volume);
        let Some(stored) = stored else {
            self.watched.unwatch(volume);
            return Ok(None);
        };
        let Some(owner) = stored.record.ownership.owner().cloned() else {
            self.watched.unwatch(volume);
            return Ok(None);
        };
        self.watched
            .update(volume, |w| w.read = Some(Box::new(stored.clone())));
        self.end_abandoned_claim(volume, &stored).await?;
        let Some(claimant) = self.wanted_now(&stored) else {
            self.forget_want(volume);
            return Ok(None);
        };
        self.tell_owner(volume, &stored, &owner, &claimant);
        match self.owner_state_of(&stored).await? {
            OwnerState::Here(Power::On) => {}
            OwnerState::Here(Power::Off) => {
                self.act(stored, Action::Release);
                return Ok(None);
            }
            OwnerState::Here(Power::Suspended) => {
                self.stop_the_clock(volume);
                return Ok(None);
            }
            OwnerState::NotHere | OwnerState::None => {
                self.watched.unwatch(volume);
                return Ok(None);
            }
        }
        let since = self.wanted_since(volume, &owner);
        let at_once = stored.record.claim.as_ref().is_some_and(|c| c.at_once);
        if at_once && !claimant.local {
            self.take_for(stored, &claimant, since);
            return Ok(None);
        }
        if stored.record.options.failover != Failover::Fence {
            return Ok(None);
        }
        Ok(self.fence_when_due(stored, &claimant, since))
    }

    /// Who wants a volume now: the claimant of its record while that lives, else who waits on this host. Two of them:
    /// the claimant, for whom it will be kept.
    pub(crate) fn wanted_now(&self, stored: &Stored) -> Option<Claimant> {
        let record = &stored.record;
        let owner = record.ownership.owner().map(|o| &o.vm.id);
        let now = self.instant();
        let lease = self.settings.claim_lease;
        let mut alive = false;
        if let Some(claim) = &record.claim {
            self.watched.update(record.id, |w| {
                alive = w.sight.is_alive(claim, now, lease);
            });
        }
        let there = record.claim.as_ref().filter(|_| alive);
        let there = there.map(|c| Claimant {
            vm: c.vm.clone(),
            host: c.host_name.clone(),
            local: false,
        });
        let here = || {
            let want = self.notices.first_want(record.id)?;
            Some(Claimant {
                vm: want.by,
                host: self.host_name(self.host),
                local: true,
            })
        };
        let other = |c: &Claimant| Some(&c.vm.id) != owner;
        there.filter(other).or_else(here).filter(other)
    }

    /// Its writer died: it goes, so that the next one need not wait for it.
    async fn end_abandoned_claim(&self, volume: VolumeId, stored: &Stored) -> Result<(), Error> {
        let Some(claim) = &stored.record.claim else {
            return Ok(());
        };
        let (now, lease) = (self.instant(), self.settings.claim_lease);
        let mut alive = true;
        self.watched.update(volume, |w| {
            alive = w.sight.is_alive(claim, now, lease);
        });
        if alive {
            return Ok(());
        }
        tracing::info!(volume = %stored.name(), vm = %claim.vm, "abandoned claim: removed");
        self.withdraw(&stored.place, claim.request, claim.host)
            .await
    }

    fn forget_want(&self, volume: VolumeId) {
        let now = self.instant();
        self.watched.update(volume, |w| {
            w.told = None;
            let over = |want: &Wanted| now.saturating_duration_since(want.last) > PAUSE;
            if w.want.as_ref().is_some_and(over) {
                w.want = None;
            }
        });
    }

    fn stop_the_clock(&self, volume: VolumeId) {
        self.watched.update(volume, |w| w.want = None);
    }

    /// Tells the guest and the log, once per claimant.
    fn tell_owner(&self, volume: VolumeId, stored: &Stored, owner: &Owner, by: &Claimant) {
        let mut news = false;
        self.watched.update(volume, |w| {
            news = w.told.as_ref() != Some(&by.vm.id);
            w.told = Some(by.vm.id.clone());
        });
        if !news {
            return;
        }
        if !by.local {
            self.notices.wanted(&owner.vm.id, volume, &by.vm);
        }
        let options = &stored.record.options;
        let next = match options.failover {
            Failover::Wait => "it stays until it is let go".to_owned(),
            Failover::Fence => format!("it is taken away after {}", options.fence_after),
        };
        tracing::info!(volume = %stored.name(), owner = %owner.vm, by = %by.vm, host = by.host, next, "another VM wants the volume");
    }

    fn wanted_since(&self, volume: VolumeId, owner: &Owner) -> Instant {
        let now = self.instant();
        let mut since = now;
        self.watched.update(volume, |w| {
            let same = w.want.take().filter(|want| want.from == owner.vm.id);
            since = same.map_or(now, |want| want.since);
            w.want = Some(Wanted {
                from: owner.vm.id.clone(),
                since,
                last: now,
            });
        });
        since
    }

    /// Starts the fence when its time has come; else returns when it comes.
    fn fence_when_due(
        self: &Arc<Self>,
        stored: Stored,
        by: &Claimant,
        since: Instant,
    ) -> Option<Instant> {
        let now = self.instant();
        let after = stored.record.options.fence_after.duration();
        let due = since.checked_add(after).unwrap_or(now);
        if now < due {
            return Some(due);
        }
        self.take_for(stored, by, since);
        None
    }

    fn take_for(self: &Arc<Self>, stored: Stored, by: &Claimant, since: Instant) {
        let claimant = match by.vm.id.instance_uuid.is_nil() {
            // No VM: an administrator.
            true => format!("{} on host {}", by.vm.name, by.host),
            false => format!("VM {} on host {}", by.vm, by.host),
        };
        let waited = self.instant().saturating_duration_since(since);
        self.act(stored, Action::Fence { claimant, waited });
    }

    /// Does something about a volume in a task of its own, one thing at a time.
    fn act(self: &Arc<Self>, stored: Stored, what: Action) {
        let volume = stored.record.id;
        let mut start = false;
        let now = self.instant();
        self.watched.update(volume, |w| {
            start = w.busy_until.is_none_or(|until| until <= now);
            if start {
                // Until it ends; bounded, should it never.
                w.busy_until = now.checked_add(self.settings.host_call.saturating_mul(8));
            }
        });
        if !start {
            return;
        }
        let me = Arc::clone(self);
        drop(self.task(async move {
            let subject = format!("taking {} from its VM", stored.name());
            let done = match what {
                Action::Release => me.release_if_off(&stored).await,
                Action::Fence { claimant, waited } => {
                    Box::pin(me.fence(&stored, &claimant, waited)).await
                }
            };
            let pause = match done {
                Ok(()) | Err(Error::Contended { .. } | Error::VolumeNotFound { .. }) => {
                    me.said.well(&subject);
                    Duration::ZERO
                }
                Err(why) => {
                    me.said.once(subject, &why.to_string());
                    AGAIN
                }
            };
            let until = me.instant().checked_add(pause);
            me.watched.update(volume, |w| w.busy_until = until);
        }));
    }
}
