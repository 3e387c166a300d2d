//! Create: claim the name → record with the operation → ledger → disk → record ready.
//!
//! Whoever dies in between leaves a claim without a record (nothing exists yet), or a record that says *create*:
//! with a complete disk it is finished, without one undone. Two creators of one name meet at the claim, which is made
//! exclusively; the loser gets the winner's volume if the options agree.

use std::sync::Arc;

use tokio::time::sleep;
use vdvs_domain::access::{self, Verb};
use vdvs_domain::error::full_name;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::record::{Answer, Created, FORMAT, Fingerprint, NameClaim, RequestResult};
use vdvs_domain::{
    Capacity, DatastoreName, Epoch, Error, Filesystem, FilesystemState, GroupId, Layout, Operation,
    OperationKind, Ownership, VolumeAddress, VolumeId, VolumeName, VolumeRecord,
};

use crate::api::{Actor, Call, Caller, Outcome, VolumeView};
use crate::audit::fingerprint;
use crate::inner::{Inner, no_room, unavailable};
use crate::keyed::Key;
use crate::layout::{self, Place};
use crate::ledger::Entry;
use crate::lookup::{Looked, Open};
use crate::ports::{DiskSpec, StorageError};
use crate::records::{Change, Claim, Stored};
use crate::swap::frame::{self, Kind};

/// Rounds of *look, clean up what somebody left, try again*. Each round needs another creator to have been there.
const ROUNDS: usize = 8;

/// Whether a name can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Clear,
    /// Something was in the way and is gone: look again.
    Cleared,
    /// Another host is making it.
    Taken,
}

/// One request to create.
#[derive(Debug, Clone)]
struct Job {
    caller: Caller,
    call: Call,
    address: VolumeAddress,
    given: GivenOptions,
    fingerprint: Fingerprint,
    open: Open,
}

impl Inner {
    pub(crate) async fn create(
        self: &Arc<Self>,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
        given: &GivenOptions,
    ) -> Result<Outcome<VolumeView>, Error> {
        let fingerprint = fingerprint(caller, "create", address, &given.canonical());
        loop {
            match self.look_up(caller, address).await? {
                Looked::Found(stored) => {
                    return self
                        .created_before(&stored, call, &fingerprint, given)
                        .await;
                }
                Looked::Absent { known } => known?,
            }
            let job = Job {
                caller: caller.clone(),
                call: call.clone(),
                address: address.clone(),
                given: given.clone(),
                fingerprint: fingerprint.clone(),
                open: self.target(caller, address, given).await?,
            };
            if let Some(outcome) = self.create_once(job).await? {
                return Ok(outcome);
            }
            // Another host is making a volume of this name: wait for it, holding nothing.
            tokio::select! {
                () = call.cancel.cancelled() => {}
                () = sleep(self.settings.poll) => {}
            }
            self.still_wanted(call, "another host creates a volume of that name")?;
        }
    }

    /// Where the volume is to be made, with everything but the total checked.
    async fn target(
        &self,
        caller: &Caller,
        address: &VolumeAddress,
        given: &GivenOptions,
    ) -> Result<Open, Error> {
        let target = match &address.datastore {
            Some(ds) => ds.clone(),
            None => self.default_datastore(caller).await?,
        };
        let open = self.usable(caller, &target).await?;
        let verb = Verb::Create(given.capacity());
        access::decide(&open.rules.access, &caller.access(), verb, &open.ds)?;
        Ok(open)
    }

    async fn create_once(self: &Arc<Self>, job: Job) -> Result<Option<Outcome<VolumeView>>, Error> {
        let (ds, group) = (job.open.ds.clone(), job.open.group);
        let key = Key::Name(ds, group, job.address.name.clone());
        let key = self.hold(key, "create", &job.call).await?;
        self.still_wanted(&job.call, "creating the volume")?;
        let me = Arc::clone(self);
        self.to_the_end(async move {
            let _key = key;
            Box::pin(me.create_under_key(job)).await
        })
        .await
    }

    /// The answer to a create of a volume that exists.
    async fn created_before(
        &self,
        stored: &Stored,
        call: &Call,
        fingerprint: &Fingerprint,
        given: &GivenOptions,
    ) -> Result<Outcome<VolumeView>, Error> {
        if let Some(result) = stored.record.recall(call.request) {
            if result.fingerprint != *fingerprint {
                let request = call.request.to_string();
                return Err(Error::RequestMismatch { request });
            }
            return Ok(Outcome::Created(self.view(stored).await));
        }
        let differences = given.differences(stored.record.capacity, &stored.record.options);
        if differences.is_empty() {
            return Ok(Outcome::Unchanged(self.view(stored).await));
        }
        Err(Error::AlreadyExists {
            name: stored.name(),
            differences,
        })
    }

    /// `None`: another host is making a volume of that name.
    async fn create_under_key(
        self: &Arc<Self>,
        job: Job,
    ) -> Result<Option<Outcome<VolumeView>>, Error> {
        let open = &job.open;
        self.establish(&open.ds).await?;
        for _ in 0..ROUNDS {
            match self.look_up(&job.caller, &job.address).await? {
                Looked::Found(stored) => {
                    let before =
                        self.created_before(&stored, &job.call, &job.fingerprint, &job.given);
                    return before.await.map(Some);
                }
                Looked::Absent { known } => known?,
            }
            match self.clear_the_way(open, &job.address.name).await? {
                Way::Taken => return Ok(None),
                Way::Cleared => continue,
                Way::Clear => {}
            }
            if let Some(stored) = self.make(&job).await? {
                let format = job.given.resolve().diskformat;
                let detail = format!("{} {format}", stored.record.capacity);
                let (actor, id) = (Actor::Vm(&job.caller), Some(stored.record.id));
                let name = stored.name().to_string();
                self.audit(actor, "create", name, id, detail).await;
                return Ok(Some(Outcome::Created(self.view(&stored).await)));
            }
        }
        Ok(None)
    }

    /// Finishes or removes what an earlier creator of this name left.
    async fn clear_the_way(&self, open: &Open, name: &VolumeName) -> Result<Way, Error> {
        let mut way = Way::Clear;
        for place in self.folder(&open.ds, open.group).await?.places {
            if place.name == *name
                && let Some(stored) = self.read_record(&place).await?
                && !stored.record.exists()
            {
                if !self.may_resolve_making(&stored) {
                    return Ok(Way::Taken);
                }
                self.resolve_making(&stored).await?;
                way = Way::Cleared;
            }
        }
        if way == Way::Clear {
            way = self.clear_claim(open, name).await?;
        }
        Ok(way)
    }

    async fn clear_claim(&self, open: &Open, name: &VolumeName) -> Result<Way, Error> {
        let (ds, group) = (&open.ds, open.group);
        let claim = self.read_claim(ds, group, name).await?;
        let ours = match &claim {
            Claim::Absent => return Ok(Way::Clear),
            // Nobody else on this host makes it: we hold the name's key.
            Claim::Of(claim) => claim.host == self.host,
            Claim::Torn => false,
        };
        if ours || self.is_abandoned(ds, group, name, &claim) {
            self.bury_claim(ds, group, name, claim).await?;
            return Ok(Way::Cleared);
        }
        Ok(Way::Taken)
    }

    /// Makes the claim and the volume. `None`: another creator claimed the name first.
    async fn make(self: &Arc<Self>, job: &Job) -> Result<Option<Stored>, Error> {
        let (open, name) = (&job.open, &job.address.name);
        let id = self.ports.ids.volume_id();
        let place = Place::of(&open.ds, open.group, name, id);
        if !self.claim(job, &place, id).await? {
            return Ok(None);
        }
        let record = self.new_record(job, id);
        match self.first_record(&place, &record).await {
            Ok(()) => {}
            Err(why) => {
                self.give_claim_back(&place, id).await;
                return Err(why);
            }
        }
        match self.make_disk(job, &place, &record).await {
            Ok(stored) => Ok(Some(stored)),
            Err(why) => {
                if let Err(left) = self.undo_create(&place, id).await {
                    tracing::warn!(volume = %place.what(), why = %left, "a failed create is cleaned up later");
                }
                Err(why)
            }
        }
    }

    async fn claim(&self, job: &Job, place: &Place, id: VolumeId) -> Result<bool, Error> {
        let store = &*self.ports.datastores;
        let failed = |why: StorageError| no_room(&place.ds, job.given.capacity(), &why);
        let dir = layout::group_dir(place.group);
        store.make_dir(&place.ds, &dir).await.map_err(failed)?;
        match store.create_new(&place.ds, &place.claim()).await {
            Ok(()) => {}
            Err(StorageError::AlreadyExists(_)) => return Ok(false),
            Err(why) => return Err(failed(why)),
        }
        let claim = NameClaim {
            format: FORMAT,
            id,
            name: place.name.clone(),
            request: job.call.request,
            host: self.host,
            at: self.now(),
        };
        let bytes = frame::encode(Kind::Claim, &claim)?;
        if let Err(why) = store.write(&place.ds, &place.claim(), &bytes).await {
            // Ours by exclusive create a moment ago.
            if let Err(left) = store.remove(&place.ds, &place.claim()).await {
                tracing::warn!(claim = %place.claim(), why = %left, "an unfinished claim is cleaned up later");
            }
            return Err(failed(why));
        }
        Ok(true)
    }

    async fn give_claim_back(&self, place: &Place, id: VolumeId) {
        if let Err(why) = self.remove_claim(place, id).await {
            tracing::warn!(claim = %place.claim(), %why, "a claim without volume is cleaned up later");
        }
    }

    fn new_record(&self, job: &Job, id: VolumeId) -> VolumeRecord {
        let options = job.given.resolve();
        VolumeRecord {
            format: FORMAT,
            id,
            name: job.address.name.clone(),
            short_name: job.address.datastore.is_none(),
            group: job.open.group,
            capacity: job.given.capacity(),
            layout: Layout::Data,
            created: Created {
                at: self.now(),
                by: Some(job.caller.vm.clone()),
                host: self.host,
            },
            filesystem: Filesystem {
                fstype: options.fstype.clone(),
                state: FilesystemState::Never,
            },
            options,
            ownership: Ownership::Free,
            epoch: Epoch::default(),
            operation: Some(self.operation(OperationKind::Create, &job.call, &job.fingerprint)),
            results: Vec::new(),
        }
    }

    async fn make_disk(
        &self,
        job: &Job,
        place: &Place,
        record: &VolumeRecord,
    ) -> Result<Stored, Error> {
        let entry = Entry::Add {
            volume: record.id,
            bytes: record.capacity.bytes(),
            limit: Self::total_limit(&job.open, &job.caller),
        };
        self.enter(&place.ds, place.group, entry).await?;
        let spec = DiskSpec {
            capacity: record.capacity,
            format: record.options.diskformat,
            uuid: record.id.uuid(),
        };
        let disk = place.disk();
        let deadline = job.call.deadline.max(self.host_deadline());
        let made = self
            .ports
            .datastores
            .create_disk(&disk.datastore, &disk.path, &spec, deadline);
        made.await
            .map_err(|why| no_room(&place.ds, record.capacity, &why))?;
        self.finish_create(place, record.id).await
    }

    /// The last step: the volume exists.
    pub(crate) async fn finish_create(&self, place: &Place, id: VolumeId) -> Result<Stored, Error> {
        let contended = || Error::Contended {
            name: full_name(&place.name, &place.ds),
        };
        match self.read_claim(&place.ds, place.group, &place.name).await? {
            Claim::Of(claim) if claim.id == id => {}
            _ => return Err(contended()),
        }
        self.change(place, |record| match &record.operation {
            Some(operation) if operation.kind == OperationKind::Create => {
                let mut next = record.clone();
                next.operation = None;
                next.remember(RequestResult {
                    request: operation.request,
                    fingerprint: operation.fingerprint.clone(),
                    answer: Answer::Created,
                });
                Ok(next.into())
            }
            None => Ok(Change::Keep),
            Some(_) => Err(contended()),
        })
        .await
    }

    /// Takes back a create that cannot be finished.
    pub(crate) async fn undo_create(&self, place: &Place, id: VolumeId) -> Result<(), Error> {
        self.change(place, |record| {
            let mut next = record.clone();
            match &mut next.operation {
                Some(o) if o.kind == OperationKind::Create => o.kind = OperationKind::Delete,
                Some(o) if o.kind == OperationKind::Delete => return Ok(Change::Keep),
                _ => {
                    return Err(Error::Contended {
                        name: full_name(&place.name, &place.ds),
                    });
                }
            }
            Ok(next.into())
        })
        .await?;
        self.remove_everything(place, id).await
    }

    /// Removes a claim whose maker died before there was a record. The tombstone decides the race with a maker who is
    /// only slow: one of the two writes the first version of the record, and only then is the claim touched.
    pub(crate) async fn bury_claim(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
        claim: Claim,
    ) -> Result<(), Error> {
        let claim = match claim {
            Claim::Absent => return Ok(()),
            Claim::Of(claim) => claim,
            Claim::Torn => {
                let path = layout::claim(group, name);
                let removed = self.ports.datastores.remove(ds, &path).await;
                removed.map_err(|why| unavailable(ds, &why))?;
                tracing::info!(claim = %path, "an unfinished claim was removed");
                return Ok(());
            }
        };
        let place = Place::of(ds, group, &claim.name, claim.id);
        if self.read_record(&place).await?.is_some() {
            return Ok(());
        }
        let options = GivenOptions::default().resolve();
        let tombstone = VolumeRecord {
            format: FORMAT,
            id: claim.id,
            name: claim.name.clone(),
            short_name: false,
            group,
            capacity: Capacity::DEFAULT,
            layout: Layout::Data,
            created: Created {
                at: claim.at,
                by: None,
                host: claim.host,
            },
            filesystem: Filesystem {
                fstype: options.fstype.clone(),
                state: FilesystemState::Unknown,
            },
            options,
            ownership: Ownership::Free,
            epoch: Epoch::default(),
            operation: Some(Operation {
                kind: OperationKind::Delete,
                request: claim.request,
                fingerprint: Fingerprint("abandoned claim".to_owned()),
                host: self.host,
                started: self.now(),
                deadline: self.now(),
            }),
            results: Vec::new(),
        };
        self.first_record(&place, &tombstone).await?;
        self.remove_everything(&place, claim.id).await?;
        tracing::info!(claim = %place.claim(), "an abandoned claim was removed");
        Ok(())
    }
}
