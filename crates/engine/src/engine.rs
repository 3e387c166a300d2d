//! The engine's face: admits, delegates, audits denials.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{DatastoreName, Epoch, Error, VmId, VolumeAddress, VolumeId};

use crate::api::{
    About, Actor, AdminDatastore, AdminHost, AdminInspect, AdminListing, AdminSet, AdminStatus,
    AdminVm, Attached, Call, Caller, InventoryAnswer, InventoryItem, Kept, Listing, LocalUser,
    Notice, Outcome, Ports, Settings, VolumeView,
};
use crate::api::{Checkup, Fixed, GroupChange, GroupChanged, GroupListing, Teller, Why};
use crate::inner::Inner;
use crate::ports::{AuditPage, AuditQuery};

/// The use cases over the ports.
#[derive(Debug)]
pub struct Engine(pub(crate) Arc<Inner>);

impl Engine {
    /// An engine over `ports`. It keeps nothing that has to survive it.
    #[must_use]
    pub fn new(ports: Ports, settings: Settings) -> Arc<Self> {
        Arc::new(Self(Arc::new(Inner::new(ports, settings))))
    }

    /// The reconciler, until cancelled: resolves what earlier runs left, follows power events, sweeps.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        Box::pin(Arc::clone(&self.0).run(cancel)).await;
    }

    /// One sweep of the reconciler, now.
    pub async fn sweep(&self) {
        Box::pin(self.0.sweep()).await;
    }

    /// Begins to stop: disks that take long are not made to their end, and who waits for one hears it.
    pub fn stop_long_work(&self) {
        self.0.stop_long_work();
    }

    /// Waits for the changes that are past their point of no return. Call it after the last request.
    pub async fn drain(&self) {
        self.0.drain().await;
    }

    /// Who is calling, by what the transport says.
    ///
    /// # Errors
    /// [`Error::UnknownCaller`] when no such VM is registered here, or another VM with its UUID holds volumes.
    pub async fn caller(&self, instance_uuid: Uuid, config_path: &str) -> Result<Caller, Error> {
        self.0.caller(instance_uuid, config_path).await
    }

    async fn denied<T>(
        &self,
        caller: &Caller,
        verb: &'static str,
        address: &VolumeAddress,
        answer: Result<T, Error>,
    ) -> Result<T, Error> {
        if let Err(why) = &answer {
            self.0
                .audit_denial(Actor::Vm(caller), verb, address, why)
                .await;
        }
        // All of it stands in the audit; the VM is told what it may know.
        answer.map_err(|why| why.for_guest(address.datastore.as_ref()))
    }

    /// Creates a volume. One that exists with the options given is an `Unchanged` success.
    ///
    /// # Errors
    /// Denials, [`Error::AlreadyExists`], [`Error::QuotaExceeded`], and what datastores answer.
    pub async fn create(
        &self,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
        given: &GivenOptions,
    ) -> Result<Outcome<VolumeView>, Error> {
        let _admitted = self.0.admission.admit(&caller.vm.id)?;
        let answer = Box::pin(self.0.create(caller, call, address, given)).await;
        let said = VolumeAddress {
            name: address.name.clone(),
            datastore: address.datastore.clone().or(given.datastore.clone()),
        };
        self.denied(caller, "create", &said, answer).await
    }

    /// Removes a volume that nobody holds. `meant`: this one and no other, whoever bears the name by now.
    ///
    /// # Errors
    /// Denials, [`Error::InUse`], [`Error::VolumeNotFound`]; [`Error::AnotherVolume`] bears the name by now.
    pub async fn delete(
        &self,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
        meant: Option<VolumeId>,
    ) -> Result<VolumeId, Error> {
        let _admitted = self.0.admission.admit(&caller.vm.id)?;
        let answer = Box::pin(self.0.delete(caller, call, address, meant)).await;
        self.denied(caller, "delete", address, answer).await
    }

    /// A volume by name, read now.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`] only after a look at every datastore where it could be.
    pub async fn get(&self, caller: &Caller, address: &VolumeAddress) -> Result<VolumeView, Error> {
        let _admitted = self.0.admission.admit(&caller.vm.id)?;
        match Box::pin(self.0.find(caller, address)).await {
            Ok(stored) => Ok(self.0.view(&stored).await),
            Err(why) => self.denied(caller, "get", address, Err(why)).await,
        }
    }

    /// The volumes the caller may see.
    ///
    /// # Errors
    /// Denials; a datastore that cannot be read is named in the listing instead.
    pub async fn list(&self, caller: &Caller) -> Result<Listing, Error> {
        let (volumes, unreadable) = self.list_as(caller, &Kept::default(), |view| view).await?;
        Ok(Listing {
            volumes,
            unreadable,
        })
    }

    /// As [`Engine::list`], with `make` applied to each volume as it is read: thousands of them need not be held in two
    /// forms. What was made of a volume that has not changed since is taken from `kept`, which belongs to one `make`.
    /// With it the datastores that cannot be read.
    ///
    /// # Errors
    /// As [`Engine::list`].
    pub async fn list_as<T: Clone + Send>(
        &self,
        caller: &Caller,
        kept: &Kept<T>,
        make: impl Fn(VolumeView) -> T + Send + Sync,
    ) -> Result<(Vec<T>, Vec<DatastoreName>), Error> {
        let _admitted = self.0.admission.admit(&caller.vm.id)?;
        let listed = Box::pin(self.0.list(caller, kept, make)).await;
        listed.map_err(|why| why.for_guest(None))
    }

    /// Attaches a volume to the caller, waiting up to `wait` for another VM to let it go.
    ///
    /// # Errors
    /// [`Error::InUse`] or [`Error::WaitedInVain`] naming the holder; denials; what the host answers.
    pub async fn attach(
        &self,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
        read_only: bool,
        wait: Duration,
    ) -> Result<Attached, Error> {
        let admitted = self.0.admission.admit(&caller.vm.id)?;
        let attach = self
            .0
            .attach(caller, call, address, read_only, wait, admitted);
        let answer = Box::pin(attach).await;
        self.denied(caller, "attach", address, answer).await
    }

    /// Detaches what the caller attached with `epoch`. A late message changes nothing and succeeds.
    ///
    /// # Errors
    /// [`Error::InUse`] when the host sees that the guest still uses it; what the host answers.
    pub async fn detach(
        &self,
        caller: &Caller,
        call: &Call,
        volume: VolumeId,
        epoch: Epoch,
    ) -> Result<Outcome<()>, Error> {
        let _admitted = self.0.admission.admit_detach(&caller.vm.id)?;
        let answer = Box::pin(self.0.detach(caller, call, volume, epoch)).await;
        answer.map_err(|why| why.for_guest(None))
    }

    /// Stores the UUID the caller will format with, and returns it; a retry gets the same.
    ///
    /// # Errors
    /// [`Error::FormatRefused`], [`Error::Superseded`], [`Error::NotAttached`].
    pub async fn begin_format(
        &self,
        caller: &Caller,
        call: &Call,
        volume: VolumeId,
        epoch: Epoch,
    ) -> Result<Uuid, Error> {
        let _admitted = self.0.admission.admit(&caller.vm.id)?;
        let answer = Box::pin(self.0.begin_format(caller, call, volume, epoch)).await;
        answer.map_err(|why| why.for_guest(None))
    }

    /// The caller formatted with `uuid`.
    ///
    /// # Errors
    /// As [`Engine::begin_format`].
    pub async fn finish_format(
        &self,
        caller: &Caller,
        call: &Call,
        volume: VolumeId,
        epoch: Epoch,
        uuid: Uuid,
    ) -> Result<Outcome<()>, Error> {
        let _admitted = self.0.admission.admit(&caller.vm.id)?;
        let answer = Box::pin(self.0.finish_format(caller, call, volume, epoch, uuid)).await;
        answer.map_err(|why| why.for_guest(None))
    }

    /// Compares what a guest has with what the records say. Releases nothing.
    ///
    /// # Errors
    /// When the host cannot list its datastores.
    pub async fn report_inventory(
        &self,
        caller: &Caller,
        items: &[InventoryItem],
    ) -> Result<InventoryAnswer, Error> {
        let _admitted = self.0.admission.admit(&caller.vm.id)?;
        let answer = Box::pin(self.0.report_inventory(caller, items)).await;
        answer.map_err(|why| why.for_guest(None))
    }

    /// What a VM should know without asking. A receiver that falls behind loses notices.
    #[must_use]
    pub fn watch(&self, vm: &VmId) -> mpsc::Receiver<Notice> {
        self.0.notices.watch(vm)
    }

    /// The agent's state in short.
    ///
    /// # Errors
    /// When the host cannot list its datastores; the same for the other questions of an administrator.
    pub async fn admin_status(&self) -> Result<AdminStatus, Error> {
        Box::pin(self.0.admin_status()).await
    }

    /// All volumes of all vmgroups, also those being made or removed.
    ///
    /// # Errors
    /// See [`Engine::admin_status`].
    pub async fn admin_volumes(&self) -> Result<AdminListing, Error> {
        Box::pin(self.0.admin_volumes()).await
    }

    /// One volume, by `name`, `name@datastore` or id.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`], [`Error::Ambiguous`].
    pub async fn admin_inspect(&self, address: &str) -> Result<AdminInspect, Error> {
        Box::pin(self.0.admin_inspect(address)).await
    }

    /// Removes a volume, whatever its vmgroup. Returns its id and full name.
    ///
    /// # Errors
    /// As [`Engine::delete`].
    pub async fn admin_remove(
        &self,
        user: &LocalUser,
        call: &Call,
        address: &str,
    ) -> Result<(VolumeId, String), Error> {
        Box::pin(self.0.admin_remove(user, call, address)).await
    }

    /// Moves a volume to another vmgroup, also while it is attached, and orphans too; with `force` beyond the limits of
    /// that vmgroup. Returns its full name.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::Denied`], [`Error::QuotaExceeded`]: nothing changed.
    pub async fn admin_move(
        &self,
        user: &LocalUser,
        call: &Call,
        address: &str,
        to: &str,
        force: bool,
    ) -> Result<Outcome<String>, Error> {
        Box::pin(self.0.admin_move(user, call, address, to, force)).await
    }

    /// Changes what of a volume may be changed after it was made.
    ///
    /// # Errors
    /// [`Error::Options`] of what cannot be changed; that there is no such volume.
    pub async fn admin_set(
        &self,
        user: &LocalUser,
        address: &str,
        set: &AdminSet,
    ) -> Result<Outcome<()>, Error> {
        Box::pin(self.0.admin_set(user, address, set)).await
    }

    /// Takes a volume from the VM that has it. Says what happened, line by line.
    ///
    /// # Errors
    /// [`Error::InUse`] naming the holder, why it was not taken, and what to do.
    pub async fn admin_take(
        &self,
        user: &LocalUser,
        call: &Call,
        address: &str,
        force: bool,
    ) -> Result<Outcome<Vec<String>>, Error> {
        Box::pin(self.0.admin_take(user, call, address, force)).await
    }

    /// Makes VMs of this host ready for volumes, by their names or instance UUIDs. Says what was done, VM by VM.
    ///
    /// # Errors
    /// [`Error::Invalid`] when one of them is not known, before anything is changed; [`Error::HostFailed`].
    pub async fn admin_prepare(
        &self,
        user: &LocalUser,
        vms: &[String],
        controllers: u32,
        deadline: Instant,
    ) -> Result<Vec<String>, Error> {
        Box::pin(self.0.admin_prepare(user, vms, controllers, deadline)).await
    }

    /// Says who the agent is and which guests it has. Until then other hosts are told of none.
    pub fn introduce(&self, about: About) {
        self.0.hosts.introduce(about);
    }

    /// Something changed that other hosts like to see soon: a guest came or went.
    pub fn news(&self) {
        self.0.hosts.news();
    }

    /// All hosts that share datastores with this one, this one first.
    ///
    /// # Errors
    /// See [`Engine::admin_status`].
    pub async fn admin_hosts(&self) -> Result<Vec<AdminHost>, Error> {
        Box::pin(self.0.hosts()).await
    }

    /// Why a volume is where it is, and what happened to it.
    ///
    /// # Errors
    /// As [`Engine::admin_inspect`]; but what is known of a volume that cannot be read, or is there no more, is told.
    pub async fn admin_why(&self, address: &str) -> Result<Why, Error> {
        Box::pin(self.0.why(address)).await
    }

    /// What differs between records, VMs' configurations, locks and what guests and other hosts say. Only findings of
    /// this name, unless it is empty.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there are none of that name.
    pub async fn admin_doctor(&self, name: &str) -> Result<Checkup, Error> {
        Box::pin(self.0.doctor(name)).await
    }

    /// Repairs the findings of a name, all or those of one object; with `dry_run` only says what would be done.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there are none of that name, or an agent does not repair them.
    pub async fn admin_repair(
        &self,
        user: &LocalUser,
        call: &Call,
        finding: (&str, &str),
        dry_run: bool,
    ) -> Result<Vec<Fixed>, Error> {
        Box::pin(self.0.doctor_fix(user, call, finding, dry_run)).await
    }

    /// This host's name.
    #[must_use]
    pub fn host_name(&self) -> String {
        self.0.ports.host.identity().name
    }

    /// The audit of this host.
    ///
    /// # Errors
    /// When the host's own store cannot be read.
    pub async fn admin_audit(&self, query: AuditQuery) -> Result<AuditPage, Error> {
        self.0.admin_audit(query).await
    }

    /// The VMs of this host with what they hold.
    ///
    /// # Errors
    /// See [`Engine::admin_status`].
    pub async fn admin_vms(&self) -> Result<Vec<AdminVm>, Error> {
        Box::pin(self.0.admin_vms()).await
    }

    /// The datastores with what lies on them.
    ///
    /// # Errors
    /// See [`Engine::admin_status`].
    pub async fn admin_datastores(&self) -> Result<Vec<AdminDatastore>, Error> {
        Box::pin(self.0.admin_datastores()).await
    }

    /// The vmgroups with members and usage, or the one of that name.
    ///
    /// # Errors
    /// [`vdvs_domain::access::Fault::NoSuchGroup`].
    pub async fn admin_groups(&self, name: Option<&str>) -> Result<GroupListing, Error> {
        Box::pin(self.0.groups(name)).await
    }

    /// Changes vmgroups, their members or privileges.
    ///
    /// # Errors
    /// [`vdvs_domain::access::Fault`], and what stands in the way of changing the configuration.
    pub async fn admin_change_group(
        &self,
        user: &LocalUser,
        change: &GroupChange,
        tell: &Teller,
    ) -> Result<GroupChanged, Error> {
        Box::pin(self.0.change_groups(user, change, tell)).await
    }
}
