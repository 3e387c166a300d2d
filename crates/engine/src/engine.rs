//! The engine's face.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{Epoch, Error, VmId, VolumeAddress, VolumeId};

use crate::api::{
    AdminDatastore, AdminInspect, AdminListing, AdminStatus, AdminVm, Attached, Call, Caller,
    InventoryAnswer, InventoryItem, Listing, Notice, Outcome, Ports, Settings, VolumeView,
};

/// The use cases over the ports.
#[derive(Debug)]
pub struct Engine {
    ports: Ports,
    settings: Settings,
}

#[allow(unused_variables, clippy::unused_async, missing_docs)]
impl Engine {
    pub fn new(ports: Ports, settings: Settings) -> Arc<Self> {
        Arc::new(Self { ports, settings })
    }
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {}
    pub async fn caller(&self, instance_uuid: Uuid, config_path: &str) -> Result<Caller, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn create(
        &self,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
        given: &GivenOptions,
    ) -> Result<Outcome<VolumeView>, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn delete(
        &self,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
    ) -> Result<VolumeId, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn get(&self, caller: &Caller, address: &VolumeAddress) -> Result<VolumeView, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn list(&self, caller: &Caller) -> Result<Listing, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn attach(
        &self,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
        read_only: bool,
        wait: Duration,
    ) -> Result<Attached, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn detach(
        &self,
        caller: &Caller,
        call: &Call,
        volume: VolumeId,
        epoch: Epoch,
    ) -> Result<Outcome<()>, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn begin_format(
        &self,
        caller: &Caller,
        call: &Call,
        volume: VolumeId,
        epoch: Epoch,
    ) -> Result<Uuid, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn finish_format(
        &self,
        caller: &Caller,
        call: &Call,
        volume: VolumeId,
        epoch: Epoch,
        uuid: Uuid,
    ) -> Result<Outcome<()>, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn report_inventory(
        &self,
        caller: &Caller,
        items: &[InventoryItem],
    ) -> Result<InventoryAnswer, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub fn watch(&self, vm: &VmId) -> mpsc::Receiver<Notice> {
        mpsc::channel(1).1
    }
    pub async fn admin_status(&self) -> Result<AdminStatus, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn admin_volumes(&self) -> Result<AdminListing, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn admin_inspect(&self, address: &str) -> Result<AdminInspect, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn admin_remove(
        &self,
        call: &Call,
        address: &str,
    ) -> Result<(VolumeId, String), Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn admin_vms(&self) -> Result<Vec<AdminVm>, Error> {
        Err(Error::Internal("under construction".into()))
    }
    pub async fn admin_datastores(&self) -> Result<Vec<AdminDatastore>, Error> {
        Err(Error::Internal("under construction".into()))
    }
}
