//! Create: claim the name → record with the operation → ledger → disk → record ready.
//!
//! Whoever dies in between leaves a claim without a record (nothing exists yet), or a record that says *create*:
//! with a complete disk it is finished, without one undone. Two creators of one name meet at the claim, which is made
//! exclusively; the loser gets the winner's volume if the options agree. No key is held while the disk is made, which
//! may take hours; see `works` for who waits for it, and `cloning` for disks with another one's content.

use std::sync::Arc;

use futures_util::future::join;
use tokio::time::{Instant, sleep};
use vdvs_domain::access::{self, Verb};
use vdvs_domain::error::full_name;
use vdvs_domain::options::{GivenOptions, OptionError};
use vdvs_domain::record::{Created, FORMAT, Fingerprint, NameClaim};
use vdvs_domain::{
    Capacity, Epoch, Error, OperationKind, Ownership, VolumeAddress, VolumeId, VolumeName,
    VolumeRecord,
};

use crate::api::{Actor, Call, Caller, Outcome, VolumeView};
use crate::audit::fingerprint;
use crate::cloning::Blueprint;
use crate::inner::{Inner, no_room};
use crate::keyed::{Held, Key};
use crate::layout::{self, Place};
use crate::ledger::Entry;
use crate::lookup::{Looked, Open};
use crate::ports::{DiskSpec, StorageError};
use crate::records::{Claim, Stored};
use crate::swap::frame::{self, Kind};
use crate::works::Work;

/// Rounds of *look, clean up what somebody left, try again*. Each round needs another creator to have been there.
const ROUNDS: usize = 8;

/// Whether a name can be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Clear,
    /// Something was in the way and is gone: look again.
    Cleared,
    /// Another host is making it; how far it is, where that is known.
    Taken(Option<String>),
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
    blueprint: Blueprint,
}

/// What one try came to.
enum Tried {
    Done(Box<Outcome<VolumeView>>),
    /// This host is making it for another request.
    Here(Arc<Work>),
    /// Another host is making it; how far it is, where that is known.
    Elsewhere(Option<String>),
}

/// What was asked for, with the vmgroup's size where none was.
fn with_default_size(
    open: &Open,
    caller: &Caller,
    given: &GivenOptions,
) -> Result<GivenOptions, Error> {
    let group = access::group_of(&open.rules.access, &caller.access())?;
    let mut given = given.clone();
    if given.clone_from.is_none() {
        given.size = given.size.or(group.default_size);
    }
    Ok(given)
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
        let until = self.answer_by(call.deadline);
        loop {
            match self.look_up(caller, address).await? {
                Looked::Found(stored) => {
                    return self
                        .created_before(&stored, call, &fingerprint, given)
                        .await;
                }
                Looked::Absent { known } => known?,
            }
            let (open, blueprint) = self.target(caller, address, given).await?;
            let (ds, group) = (open.ds.clone(), open.group);
            let job = Job {
                caller: caller.clone(),
                call: call.clone(),
                address: address.clone(),
                given: given.clone(),
                fingerprint: fingerprint.clone(),
                open,
                blueprint,
            };
            let far = match self.create_once(job, until).await? {
                Some(Tried::Done(outcome)) => return Ok(*outcome),
                Some(Tried::Here(work)) => {
                    tokio::select! {
                        biased;
                        () = call.cancel.cancelled() => {}
                        () = self.ended_by(&work, until) => {}
                    }
                    Some(work.words())
                }
                Some(Tried::Elsewhere(far)) => {
                    // Wait for it, holding nothing.
                    tokio::select! {
                        biased;
                        () = call.cancel.cancelled() => {}
                        () = sleep(self.settings.poll) => {}
                    }
                    far
                }
                None => None,
            };
            if call.cancel.is_cancelled() || self.instant() >= until {
                return Err(self.still_making(&ds, group, &address.name, far));
            }
        }
    }

    /// Where the volume is to be made and what it is to be, with everything but the total checked.
    async fn target(
        &self,
        caller: &Caller,
        address: &VolumeAddress,
        given: &GivenOptions,
    ) -> Result<(Open, Blueprint), Error> {
        let said = match (&address.datastore, &given.datastore) {
            (Some(other), Some(store)) if !other.matches(store) => {
                return Err(OptionError::TwoStores {
                    store: store.clone(),
                    other: other.clone(),
                }
                .into());
            }
            (Some(ds), _) | (None, Some(ds)) => Some(ds.clone()),
            (None, None) => None,
        };
        let target = match &said {
            Some(ds) => ds.clone(),
            None => self.default_datastore(caller).await?,
        };
        let open = self.usable_as(caller, &target, said.as_ref()).await?;
        let given = with_default_size(&open, caller, given)?;
        let may_make = |capacity| {
            let (config, verb) = (&open.rules.access, Verb::Create(capacity));
            access::decide(config, &caller.access(), verb, &open.ds).map(drop)
        };
        // Before anything is looked up for it: a clone's size is known only then.
        may_make(match given.clone_from {
            None => given.capacity(),
            Some(_) => Capacity::SMALLEST,
        })?;
        let info = self.datastore_named(&open.ds).await?;
        self.check_policy(given.policy.as_ref(), &info, &open.rules)
            .await?;
        let mut blueprint = match &given.clone_from {
            None => Blueprint::fresh(&given),
            Some(asked) => {
                let source = self.clone_source(caller, asked, &open).await?;
                Blueprint::of_clone(&given, source, info.kind)?
            }
        };
        Self::keep_known_policy(&mut blueprint.options, &open.rules);
        may_make(blueprint.capacity)?;
        Ok((open, blueprint))
    }

    /// Once more by the rules as they are now, not as they were up to a second ago: of a vmgroup that its VM has left,
    /// or whose volumes are on their way, nobody makes an empty twin.
    async fn still_permitted(&self, job: &Job) -> Result<(), Error> {
        let Some(rules) = self.governed_now(&job.open.ds).await? else {
            return Ok(());
        };
        let verb = Verb::Create(job.blueprint.capacity);
        let (group, _) = access::decide(&rules.access, &job.caller.access(), verb, &job.open.ds)?;
        let name = &job.address.name;
        // A VM on its way makes nothing: it would leave it behind.
        let vm = job.caller.vm.id.instance_uuid;
        let moving = rules.access.transfer_of(group.id, name).is_some()
            || rules.access.transfer_of_vm(vm).is_some();
        match moving || group.id != job.open.group {
            true => Err(Error::OnTheMove {
                name: name.to_string(),
            }),
            false => Ok(()),
        }
    }

    /// `None`: it goes on, and it is time to answer.
    async fn create_once(
        self: &Arc<Self>,
        job: Job,
        until: Instant,
    ) -> Result<Option<Tried>, Error> {
        let (ds, group) = (job.open.ds.clone(), job.open.group);
        let key = Key::Name(ds, group, job.address.name.clone());
        let key = self.hold(key, "create", &job.call).await?;
        self.still_wanted(&job.call, "creating the volume")?;
        let (me, gone) = (Arc::clone(self), job.call.cancel.clone());
        let work = async move { Box::pin(me.create_under_key(job, key)).await };
        self.to_the_end_by(until, &gone, work).await.transpose()
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
        let mut differences = given.differences(stored.record.capacity, &stored.record.options);
        if let Some(store) = &given.datastore
            && !stored.place.ds.matches(store)
        {
            differences.push(format!(
                "VolumeStore: asked {store}, has {}",
                stored.place.ds
            ));
        }
        if differences.is_empty() {
            return Ok(Outcome::Unchanged(self.view(stored).await));
        }
        Err(Error::AlreadyExists {
            name: stored.name(),
            differences,
        })
    }

    async fn create_under_key(self: &Arc<Self>, job: Job, key: Held) -> Result<Tried, Error> {
        let open = &job.open;
        let name = &job.address.name;
        self.establish_as(&open.ds, &open.rules).await?;
        for _ in 0..ROUNDS {
            match self.look_up(&job.caller, &job.address).await? {
                Looked::Found(stored) => {
                    let before =
                        self.created_before(&stored, &job.call, &job.fingerprint, &job.given);
                    return before.await.map(|o| Tried::Done(Box::new(o)));
                }
                Looked::Absent { known } => known?,
            }
            if let Some(work) = self.works.named(&open.ds, open.group, name) {
                return Ok(Tried::Here(work));
            }
            match self.clear_the_way(open, name).await? {
                Way::Taken(far) => return Ok(Tried::Elsewhere(far)),
                Way::Cleared => continue,
                Way::Clear => {}
            }
            if job.address.datastore.is_none()
                && let Some(far) = self.made_elsewhere(&job.caller, &open.ds, name).await?
            {
                return Ok(Tried::Elsewhere(Some(far)));
            }
            let limit = Self::total_limit(open, &job.caller);
            let bytes = job.blueprint.capacity.bytes();
            self.has_room(&open.ds, open.group, bytes, limit).await?;
            self.still_permitted(&job).await?;
            let Some((place, record)) = self.begin(&job).await? else {
                continue;
            };
            if record.short_name && !self.keeps_short_name(&job, &place, &record).await? {
                return Ok(Tried::Elsewhere(None));
            }
            // From here on the record keeps others away; making the disk may take long.
            let stored = self.make(&job, &place, &record, key).await?;
            let format = stored.record.options.diskformat;
            let mut detail = format!("{} {format}", stored.record.capacity);
            if let Some(source) = &stored.record.options.clone_from {
                detail = format!("{detail}, clone of {source}");
            }
            let (actor, id) = (Actor::Vm(&job.caller), Some(stored.record.id));
            let name = stored.name().to_string();
            self.audit(actor, "create", name, id, detail).await;
            let outcome = Outcome::Created(self.view(&stored).await);
            return Ok(Tried::Done(Box::new(outcome)));
        }
        Ok(Tried::Elsewhere(None))
    }

    /// Finishes or removes what an earlier creator of this name left.
    async fn clear_the_way(&self, open: &Open, name: &VolumeName) -> Result<Way, Error> {
        let mut way = Way::Clear;
        for place in self.places_named(&open.ds, open.group, name).await? {
            if let Some(stored) = self.read_record(&place).await?
                && !stored.record.exists()
            {
                if !self.may_resolve_making(&stored) {
                    return Ok(Way::Taken(self.making_in_words(&stored.record)));
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
        Ok(Way::Taken(None))
    }

    /// Makes the claim and the first record. `None`: another creator claimed the name first.
    async fn begin(&self, job: &Job) -> Result<Option<(Place, VolumeRecord)>, Error> {
        let (open, name) = (&job.open, &job.address.name);
        let id = self.ports.ids.volume_id();
        let place = Place::of(&open.ds, open.group, name, id);
        if !self.claim(job, &place, id).await? {
            return Ok(None);
        }
        let record = self.new_record(job, id);
        match self.first_record(&place, &record).await {
            Ok(()) => Ok(Some((place, record))),
            Err(why) => {
                self.give_claim_back(&place, id).await;
                Err(why)
            }
        }
    }

    /// Nobody else makes a volume of this short name on another datastore. If somebody does, or nobody can say,
    /// everything is taken back.
    async fn keeps_short_name(
        &self,
        job: &Job,
        place: &Place,
        record: &VolumeRecord,
    ) -> Result<bool, Error> {
        let sole = self.is_sole_claimant(&job.caller, place, record.id).await;
        if !matches!(sole, Ok(true)) {
            self.take_create_back(place, record.id).await;
        }
        sole
    }

    /// Makes the disk, or takes everything back.
    async fn make(
        self: &Arc<Self>,
        job: &Job,
        place: &Place,
        record: &VolumeRecord,
        key: Held,
    ) -> Result<Stored, Error> {
        let source = job.blueprint.source.as_deref();
        let underway = self
            .works
            .begin(record.id, place, job.blueprint.clone_source());
        // Who asks for the name now finds the work.
        drop(key);
        let made = self.make_disk(job, place, record, &underway.work).await;
        if made.is_err() {
            self.take_create_back(place, record.id).await;
        }
        if let Some(source) = source {
            self.end_read_or_later(&source.place, record.id).await;
        }
        made
    }

    async fn claim(&self, job: &Job, place: &Place, id: VolumeId) -> Result<bool, Error> {
        let store = &*self.ports.datastores;
        let failed = |why: StorageError| no_room(&place.ds, job.blueprint.capacity, &why);
        let dir = layout::group_dir(place.folder);
        store.make_dir(&place.ds, &dir).await.map_err(failed)?;
        match store
            .create_new(&place.ds, &layout::claim(place.folder, &place.name))
            .await
        {
            Ok(()) => {}
            Err(StorageError::AlreadyExists(_)) => return Ok(false),
            Err(why) => return Err(failed(why)),
        }
        let claim = NameClaim {
            format: FORMAT,
            id,
            name: place.name.clone(),
            folder: None,
            request: job.call.request,
            host: self.host,
            at: self.now(),
        };
        let bytes = frame::encode(Kind::Claim, &claim)?;
        if let Err(why) = store
            .write(&place.ds, &layout::claim(place.folder, &place.name), &bytes)
            .await
        {
            // Ours by exclusive create a moment ago.
            if let Err(left) = store
                .remove(&place.ds, &layout::claim(place.folder, &place.name))
                .await
            {
                tracing::warn!(claim = %layout::claim(place.folder, &place.name), why = %left, "an unfinished claim is cleaned up later");
            }
            return Err(failed(why));
        }
        Ok(true)
    }

    async fn give_claim_back(&self, place: &Place, id: VolumeId) {
        if let Err(why) = self
            .remove_claim(&place.ds, place.folder, &place.name, id)
            .await
        {
            tracing::warn!(claim = %layout::claim(place.folder, &place.name), %why, "a claim without volume is cleaned up later");
        }
    }

    fn new_record(&self, job: &Job, id: VolumeId) -> VolumeRecord {
        let plan = &job.blueprint;
        VolumeRecord {
            format: FORMAT,
            id,
            name: job.address.name.clone(),
            short_name: job.address.datastore.is_none(),
            group: job.open.group,
            folder: None,
            moving: None,
            protected: false,
            rebuilt: false,
            policy_version: None,
            capacity: plan.capacity,
            options: plan.options.clone(),
            layout: plan.layout,
            created: Created {
                at: self.now(),
                by: Some(job.caller.vm.clone()),
                host: self.host,
            },
            filesystem: plan.filesystem.clone(),
            ownership: Ownership::Free,
            epoch: Epoch::default(),
            claim: None,
            operation: Some(self.operation(OperationKind::Create, &job.call, &job.fingerprint)),
            making: plan.making(self.now()),
            results: Vec::new(),
            history: Vec::new(),
        }
    }

    async fn make_disk(
        self: &Arc<Self>,
        job: &Job,
        place: &Place,
        record: &VolumeRecord,
        work: &Work,
    ) -> Result<Stored, Error> {
        let entry = Entry::Add {
            volume: record.id,
            bytes: record.capacity.bytes(),
            limit: Self::total_limit(&job.open, &job.caller),
        };
        let reserved = self.enter(&place.ds, record.group, entry);
        let spec = DiskSpec {
            capacity: record.capacity,
            format: record.options.diskformat,
            uuid: record.id.uuid(),
        };
        match job.blueprint.source.as_deref() {
            Some(source) => {
                reserved.await?;
                self.copy_disk(job, place, source, &spec, work).await?;
            }
            None if spec.format.is_allocated() => {
                reserved.await?;
                self.fill_disk(place, &spec, work).await?;
            }
            // Made in no time: one wait for both. A disk whose entry is missing is never finished by anybody.
            None => {
                let reserved = async {
                    let reserved = reserved.await;
                    if reserved.is_err() {
                        work.progress.stop();
                    }
                    reserved
                };
                let (reserved, made) = join(reserved, self.fill_disk(place, &spec, work)).await;
                reserved?;
                made?;
            }
        }
        self.finish_create(place, record).await
    }

    async fn fill_disk(&self, place: &Place, spec: &DiskSpec, work: &Work) -> Result<(), Error> {
        let disk = place.disk();
        let store = &self.ports.datastores;
        let made = store.create_disk(&disk.datastore, &disk.path, spec, &work.progress);
        self.renewing(work, made).await.map_err(|why| match why {
            StorageError::Stopped => Error::Stopped {
                name: full_name(&place.name, &place.ds),
            },
            why => no_room(&place.ds, spec.capacity, &why),
        })
    }

    async fn copy_disk(
        self: &Arc<Self>,
        job: &Job,
        place: &Place,
        source: &Stored,
        spec: &DiskSpec,
        work: &Work,
    ) -> Result<(), Error> {
        let epoch = self.begin_read(&job.caller, source, work.id).await?;
        let (from, to) = (source.place.disk(), place.disk());
        let store = &self.ports.datastores;
        let made = store.clone_disk(&from, &to, spec, &work.progress);
        self.renewing(work, made)
            .await
            .map_err(|why| Self::copy_failed(place, spec.capacity, source, &why))?;
        self.still_reading(source, work.id, epoch).await
    }
}
