//! An attach that stands in the record: begun, done by the host, ended or undone.
//!
//! The hypervisor's lock decides who writes: its refusal is an ordinary answer, and undoes what was begun.

use vdvs_domain::error::Holder;
use vdvs_domain::ownership::{Event, Locator};
use vdvs_domain::record::{Answer, RequestResult};
use vdvs_domain::{Error, OperationKind, Owner, VolumeRecord};

use crate::attach::{Job, Look, Step};
use crate::inner::Inner;
use crate::keyed::Key;
use crate::ports::{AttachedDisk, HostError, VmDisk};
use crate::records::{Change, Stored};

impl Inner {
    /// The same request again: the host says where the disk is; nothing changes.
    pub(crate) async fn attach_again(&self, job: &Job, stored: Stored) -> Result<Step, Error> {
        let read_only = stored.record.ownership.owner().is_some_and(|o| o.read_only);
        match self.host_attach(job, &stored, read_only).await {
            Ok(disk) => Ok(Step::Done(Box::new(stored), disk)),
            Err(why) => Err(self.attach_error(&why, &stored)),
        }
    }

    pub(crate) async fn attach_new(
        &self,
        job: &Job,
        stored: Stored,
        read_only: bool,
    ) -> Result<Step, Error> {
        let begun = match self.begin_attach(job, &stored, read_only).await {
            Ok(begun) => begun,
            // Another host was first: look again.
            Err(Error::Contended { .. }) => return Ok(Step::Again),
            Err(why) => return Err(why),
        };
        let failed = match self.host_attach(job, &begun, read_only).await {
            Ok(disk) => {
                let done = self.end_attach(&begun, Some(disk.locator.clone())).await;
                if let Err(Error::Superseded { .. }) = &done {
                    self.take_back(&begun).await;
                }
                return Ok(Step::Done(Box::new(done?), disk));
            }
            Err(why) => why,
        };
        match self.disk_in(&begun).await {
            // Attached by an earlier try, whatever this one said.
            Ok(Some(VmDisk {
                locator: Some(locator),
                read_only: mode,
                ..
            })) if mode == read_only => {
                let done = self.end_attach(&begun, Some(locator.clone())).await?;
                let disk_uuid = None;
                Ok(Step::Done(
                    Box::new(done),
                    AttachedDisk { locator, disk_uuid },
                ))
            }
            Ok(None) => {
                let undone = self.undo_attach(&begun).await?;
                if let HostError::Locked { holder } = &failed {
                    return Ok(Step::Held {
                        holder: Holder::seen_by_the_lock(holder),
                        stored: Box::new(undone),
                        look: Look::Lock,
                        tried: true,
                    });
                }
                Err(self.attach_error(&failed, &undone))
            }
            Ok(Some(_)) | Err(_) => match &begun.record.operation {
                Some(operation) => Err(Self::unresolved(begun.name(), operation, failed)),
                None => Err(Error::Internal("an attach without operation".to_owned())),
            },
        }
    }

    /// The volume was taken from the VM while the host was attaching it: nobody was told of the disk, so it goes again.
    async fn take_back(&self, begun: &Stored) {
        let Some(owner) = begun.record.ownership.owner() else {
            return;
        };
        let vm = &owner.vm.id;
        let now = self.read_record(&begun.place).await;
        if !now.is_ok_and(|s| s.is_some_and(|s| !s.record.ownership.is_owned_by(vm))) {
            return;
        }
        let _queue = self.keys.hold(Key::Vm(vm.clone()), "take back").await;
        let (disk, deadline) = (begun.place.disk(), self.host_deadline());
        if let Err(why) = self.ports.host.detach(vm, &disk, deadline).await {
            let subject = Self::subject(&begun.name());
            self.said
                .once(subject, &format!("{why}: it stays in VM {}", owner.vm));
        }
    }

    async fn begin_attach(
        &self,
        job: &Job,
        planned: &Stored,
        read_only: bool,
    ) -> Result<Stored, Error> {
        let operation = self.operation(OperationKind::Attach, &job.call, &job.fingerprint);
        let (since, host) = (self.now(), self.host);
        let host_name = self.host_name(host);
        self.change(&planned.place, |record| {
            if record
                .operation
                .as_ref()
                .is_some_and(|o| o.request == operation.request && o.host == host)
            {
                return Ok(Change::Keep);
            }
            if !record.same_attachment(&planned.record) {
                return Err(Error::Contended {
                    name: planned.name(),
                });
            }
            let mut next = record.clone();
            let owner = Owner {
                vm: job.caller.vm.clone(),
                host,
                host_name: host_name.clone(),
                since,
                read_only,
                // Kept while the same VM attaches again: an unfinished attach that has a locator was attached before,
                // so undoing it must not take the disk away.
                locator: record.ownership.owner().and_then(|o| o.locator.clone()),
            };
            if !record.ownership.is_owned_by(&job.caller.vm.id) {
                // The claimant has it now, or the claim was over. Who has the volume already leaves others' alone.
                next.claim = None;
            }
            next.ownership = record.ownership.apply(Event::BeginAttach(owner))?;
            next.epoch = record.epoch.next();
            next.operation = Some(operation.clone());
            Ok(next.into())
        })
        .await
    }

    /// The host call, once more when the first gave no answer: repeating it is harmless and tells.
    async fn host_attach(
        &self,
        job: &Job,
        stored: &Stored,
        read_only: bool,
    ) -> Result<AttachedDisk, HostError> {
        let vm = &job.caller.vm.id;
        let _queue = self.keys.hold(Key::Vm(vm.clone()), "attach").await;
        let (host, disk, deadline) = (&self.ports.host, stored.place.disk(), self.host_deadline());
        let mode = stored.record.options.attach_as;
        match host.attach_as(vm, &disk, read_only, mode, deadline).await {
            Err(why) if why.outcome_is_unknown() => {
                tracing::debug!(%disk, %why, "asking the host once more");
                host.attach_as(vm, &disk, read_only, mode, deadline).await
            }
            answer => answer,
        }
    }

    /// The disk as it stands in the configuration of the VM the record names.
    pub(crate) async fn disk_in(&self, stored: &Stored) -> Result<Option<VmDisk>, HostError> {
        let Some(owner) = stored.record.ownership.owner() else {
            return Ok(None);
        };
        let disk = stored.place.disk();
        let disks = self.ports.host.disks(&owner.vm.id).await?;
        Ok(disks.into_iter().find(|d| d.disk == disk))
    }

    /// The host attached the disk.
    pub(crate) async fn end_attach(
        &self,
        begun: &Stored,
        locator: Option<Locator>,
    ) -> Result<Stored, Error> {
        self.change(&begun.place, |record| match &record.operation {
            Some(operation) if record.operation == begun.record.operation => {
                let mut next = record.clone();
                next.ownership = record.ownership.apply(Event::Attached(locator.clone()))?;
                next.remember(RequestResult {
                    request: operation.request,
                    fingerprint: operation.fingerprint.clone(),
                    answer: Answer::Attached {
                        epoch: record.epoch,
                    },
                });
                next.operation = None;
                Ok(next.into())
            }
            None if record.epoch == begun.record.epoch && same_owner(record, begun) => {
                Ok(Change::Keep)
            }
            _ => Err(Error::Superseded {
                name: begun.name(),
                given: begun.record.epoch,
                current: record.epoch,
            }),
        })
        .await
    }

    /// The disk is not in the VM's configuration.
    pub(crate) async fn undo_attach(&self, begun: &Stored) -> Result<Stored, Error> {
        self.change(&begun.place, |record| {
            if record.operation != begun.record.operation || record.operation.is_none() {
                return Ok(Change::Keep);
            }
            let mut next = record.clone();
            next.ownership = record.ownership.apply(Event::AttachUndone)?;
            next.operation = None;
            Ok(next.into())
        })
        .await
    }

    fn attach_error(&self, why: &HostError, stored: &Stored) -> Error {
        match why {
            HostError::NoSlot { vm } => Error::NoSlot { vm: vm.clone() },
            HostError::NoSuchDisk { disk } => Error::Damaged {
                what: format!("volume {}", stored.name()),
                why: format!("its disk {disk} does not exist"),
            },
            HostError::Locked { holder } => Error::InUse {
                verb: "attach",
                name: stored.name(),
                holder: Holder::seen_by_the_lock(holder),
            },
            other => Error::HostFailed {
                verb: "attach the disk",
                why: other.to_string(),
            },
        }
    }
}

fn same_owner(record: &VolumeRecord, begun: &Stored) -> bool {
    let owner = begun.record.ownership.owner();
    owner.is_some_and(|o| record.ownership.is_owned_by(&o.vm.id))
}
