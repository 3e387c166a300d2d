//! Devices and agent of a guest, behind its gate.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;
use vdvs_blockdev::fake::FakeDevices;
use vdvs_blockdev::{
    Birth, Device, DeviceError, Devices, Health, MountEntry, MountOptions, Probe, Wanted,
};
use vdvs_domain::{Epoch, FsType, Layout, VolumeId};
use vdvs_plugin::agent::{
    Agent, Answer, Attached, InventoryAnswer, InventoryItem, Link, Listing, Notice, Volume,
};
use vdvs_plugin::fake::FakeAgent;

use super::gate::{Gate, Port};

#[derive(Debug)]
pub(crate) struct GatedDevices {
    pub(crate) gate: Arc<Gate>,
    pub(crate) devices: FakeDevices,
}

#[derive(Debug)]
pub(crate) struct GatedAgent {
    pub(crate) gate: Arc<Gate>,
    pub(crate) agent: Arc<FakeAgent>,
}

macro_rules! gated {
    ($me:ident . $inner:ident, $port:ident, $verb:ident ( $($arg:expr),* )) => {
        $me.gate
            .call(stringify!($verb), Port::$port, || $me.$inner.$verb($($arg),*))
            .await
    };
}

#[async_trait]
impl Devices for GatedDevices {
    async fn find(&self, wanted: &Wanted, deadline: Instant) -> Result<Device, DeviceError> {
        gated!(self.devices, Devices, find(wanted, deadline))
    }

    async fn probe(&self, device: &Device) -> Probe {
        gated!(self.devices, Devices, probe(device))
    }

    async fn format(
        &self,
        device: &Device,
        fs: &FsType,
        fs_uuid: Uuid,
        label: &str,
        budget: Duration,
    ) -> Result<(), DeviceError> {
        gated!(
            self.devices,
            Devices,
            format(device, fs, fs_uuid, label, budget)
        )
    }

    async fn exclusively_unused(&self, device: &Device) -> Result<bool, DeviceError> {
        gated!(self.devices, Devices, exclusively_unused(device))
    }

    async fn mount(
        &self,
        device: &Device,
        fs: &FsType,
        at: &Path,
        options: &MountOptions,
    ) -> Result<(), DeviceError> {
        gated!(self.devices, Devices, mount(device, fs, at, options))
    }

    async fn give_identity(
        &self,
        device: &Device,
        fs: &FsType,
        id: VolumeId,
        staging: &Path,
    ) -> Result<bool, DeviceError> {
        gated!(
            self.devices,
            Devices,
            give_identity(device, fs, id, staging)
        )
    }

    async fn unmount(&self, at: &Path) -> Result<(), DeviceError> {
        gated!(self.devices, Devices, unmount(at))
    }

    async fn unmount_lazy(&self, at: &Path) -> Result<(), DeviceError> {
        gated!(self.devices, Devices, unmount_lazy(at))
    }

    async fn mounts(&self) -> Result<Vec<MountEntry>, DeviceError> {
        gated!(self.devices, Devices, mounts())
    }

    async fn prepare_data_dir(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
        birth: Birth,
    ) -> Result<(), DeviceError> {
        gated!(
            self.devices,
            Devices,
            prepare_data_dir(at, id, layout, birth)
        )
    }

    async fn claim_layout(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
    ) -> Result<(), DeviceError> {
        gated!(self.devices, Devices, claim_layout(at, id, layout))
    }

    async fn verify_layout(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
    ) -> Result<(), DeviceError> {
        gated!(self.devices, Devices, verify_layout(at, id, layout))
    }

    fn filesystems(&self) -> Vec<FsType> {
        self.devices.filesystems()
    }

    async fn healthy(&self, at: &Path, device: &Device) -> Health {
        gated!(self.devices, Devices, healthy(at, device))
    }
}

#[async_trait]
impl Agent for GatedAgent {
    fn link(&self) -> watch::Receiver<Link> {
        self.agent.link()
    }

    fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        self.agent.notices()
    }

    async fn create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
        deadline: Instant,
    ) -> Answer<(Volume, bool)> {
        gated!(self.agent, Agent, create(name, options, deadline))
    }

    async fn delete(&self, name: &str, volume: VolumeId, deadline: Instant) -> Answer<()> {
        gated!(self.agent, Agent, delete(name, volume, deadline))
    }

    async fn get(&self, name: &str, deadline: Instant) -> Answer<Volume> {
        gated!(self.agent, Agent, get(name, deadline))
    }

    async fn list(&self, deadline: Instant) -> Answer<Listing> {
        gated!(self.agent, Agent, list(deadline))
    }

    async fn attach(
        &self,
        name: &str,
        read_only: bool,
        wait_ms: u64,
        deadline: Instant,
    ) -> Answer<Attached> {
        gated!(
            self.agent,
            Agent,
            attach(name, read_only, wait_ms, deadline)
        )
    }

    async fn detach(&self, volume: VolumeId, epoch: Epoch, deadline: Instant) -> Answer<bool> {
        gated!(self.agent, Agent, detach(volume, epoch, deadline))
    }

    async fn begin_format(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        deadline: Instant,
    ) -> Answer<Uuid> {
        gated!(self.agent, Agent, begin_format(volume, epoch, deadline))
    }

    async fn finish_format(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        uuid: Uuid,
        deadline: Instant,
    ) -> Answer<()> {
        gated!(
            self.agent,
            Agent,
            finish_format(volume, epoch, uuid, deadline)
        )
    }

    async fn report_inventory(
        &self,
        items: &[InventoryItem],
        deadline: Instant,
    ) -> Answer<InventoryAnswer> {
        gated!(self.agent, Agent, report_inventory(items, deadline))
    }
}
