//! What a plugin asks of the fake, answered as an agent would.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;
use vdvs_blockdev::Locator as Place;
use vdvs_blockdev::fake::FakeContent;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{Capacity, Epoch, ErrorKind, VolumeId};

use super::{DATASTORE, FakeAgent, HERE, free, place, said};
use crate::agent::{
    Agent, Answer, Attached, Attachment, InventoryAnswer, InventoryItem, Link, Listing, Notice,
    Volume,
};

#[async_trait]
impl Agent for FakeAgent {
    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        let (tell, notices) = mpsc::channel(64);
        *self.tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
        Some(notices)
    }

    async fn create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
        deadline: Instant,
    ) -> Answer<(Volume, bool)> {
        self.enter("create", name, deadline).await?;
        if let Some(volume) = self.volume(name) {
            let differs = options
                .iter()
                .any(|(key, value)| volume.options.get(key) != Some(value));
            if differs {
                return said(
                    ErrorKind::AlreadyExists,
                    format!("Volume {name} already exists with other options"),
                );
            }
            return Ok((volume, false));
        }
        Ok((self.add(name, options), true))
    }

    async fn delete(&self, name: &str, volume: VolumeId, deadline: Instant) -> Answer<()> {
        self.enter("delete", name, deadline).await?;
        if take(&mut self.state().passes_on) {
            self.drop_volume(name);
            self.add(name, &BTreeMap::new());
        }
        let meant = volume;
        let volume = self.find(name)?;
        if volume.id != meant {
            return said(
                ErrorKind::NotFound,
                format!("Volume {name} (id {meant}) not found (looked on: {DATASTORE})"),
            );
        }
        if let Some(attachment) = &volume.attachment {
            return said(
                ErrorKind::InUse,
                format!(
                    "Failed to remove volume {name}, in use by VM = {}.",
                    attachment.vm
                ),
            );
        }
        self.state().volumes.remove(&volume.id);
        Ok(())
    }

    async fn get(&self, name: &str, deadline: Instant) -> Answer<Volume> {
        self.enter("get", name, deadline).await?;
        self.find(name)
    }

    async fn list(&self, deadline: Instant) -> Answer<Listing> {
        self.enter("list", "", deadline).await?;
        let state = self.state();
        if state.hidden {
            return Ok(Listing {
                volumes: Vec::new(),
                unreadable: vec!["ds".to_owned()],
            });
        }
        Ok(Listing {
            volumes: state.volumes.values().cloned().collect(),
            unreadable: Vec::new(),
        })
    }

    async fn attach(
        &self,
        name: &str,
        read_only: bool,
        wait_ms: u64,
        deadline: Instant,
    ) -> Answer<Attached> {
        let mode = if read_only { " ro" } else { "" };
        self.enter("attach", &format!("{name}{mode}"), deadline)
            .await?;
        let until = Instant::now() + Duration::from_millis(wait_ms);
        let volume = loop {
            let changed = self.changed.notified();
            let volume = self.find(name)?;
            let Some(other) = volume.attachment.as_ref().filter(|a| a.vm != HERE) else {
                break volume;
            };
            let text = format!("Volume {name} is attached to VM {}", other.vm);
            tokio::select! {
                biased;
                () = changed => {}
                () = sleep_until(until) => return said(ErrorKind::Timeout, text),
            }
        };
        let content = {
            let state = self.state();
            let content = state.contents.get(&volume.id);
            content.cloned().unwrap_or(FakeContent::Blank)
        };
        if self.devices.disk(&place(volume.id)).is_none() {
            self.devices
                .plug(&place(volume.id), Capacity::DEFAULT, content);
        }
        let locator = match place(volume.id) {
            Place::Path(path) => Locator::Path(path.to_string_lossy().into_owned()),
            Place::Scsi { .. } => return said(ErrorKind::Internal, "the fake has paths only"),
        };
        let mut state = self.state();
        let Some(volume) = state.volumes.get_mut(&volume.id) else {
            return said(ErrorKind::NotFound, format!("Volume {name} not found"));
        };
        volume.epoch = volume.epoch.next();
        volume.state = "attached".into();
        volume.attachment = Some(Attachment {
            vm: HERE.into(),
            vm_uuid: Uuid::from_u128(1).to_string(),
            locator: Some(locator.clone()),
        });
        Ok(Attached {
            volume: volume.clone(),
            epoch: volume.epoch,
            locator,
            disk_uuid: None,
        })
    }

    async fn detach(&self, volume: VolumeId, epoch: Epoch, deadline: Instant) -> Answer<bool> {
        let name = self
            .by_id(volume)
            .map_or_else(|_| volume.to_string(), |v| v.name.to_string());
        self.enter("detach", &name, deadline).await?;
        let found = self.by_id(volume)?;
        let ours = found.attachment.as_ref().is_some_and(|a| a.vm == HERE);
        if !ours || found.epoch != epoch {
            return Ok(false);
        }
        self.unplug(volume);
        if let Some(volume) = self.state().volumes.get_mut(&volume) {
            free(volume);
        }
        self.changed.notify_waiters();
        Ok(true)
    }

    async fn begin_format(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        deadline: Instant,
    ) -> Answer<Uuid> {
        let name = self.by_id(volume)?.name.to_string();
        self.enter("begin_format", &name, deadline).await?;
        let mut state = self.state();
        let fresh = Uuid::from_u128(0xf5_0000_0000 + u128::from(state.next));
        let Some(volume) = state.volumes.get_mut(&volume).filter(|v| v.epoch == epoch) else {
            return said(ErrorKind::Superseded, "superseded");
        };
        match volume.filesystem.state.begin_format(fresh) {
            Ok((next, uuid)) => {
                volume.filesystem.state = next;
                Ok(uuid)
            }
            Err(e) => said(e.kind(), e.to_string()),
        }
    }

    async fn finish_format(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        uuid: Uuid,
        deadline: Instant,
    ) -> Answer<()> {
        let name = self.by_id(volume)?.name.to_string();
        self.enter("finish_format", &name, deadline).await?;
        let mut state = self.state();
        let Some(volume) = state.volumes.get_mut(&volume).filter(|v| v.epoch == epoch) else {
            return said(ErrorKind::Superseded, "superseded");
        };
        match volume.filesystem.state.finish_format(uuid) {
            Ok(next) => {
                volume.filesystem.state = next;
                Ok(())
            }
            Err(e) => said(e.kind(), e.to_string()),
        }
    }

    async fn report_inventory(
        &self,
        items: &[InventoryItem],
        deadline: Instant,
    ) -> Answer<InventoryAnswer> {
        self.enter("inventory", "", deadline).await?;
        let answer = self.inventory(items);
        loop {
            let changed = self.changed.notified();
            if !self.state().slow {
                return Ok(answer);
            }
            changed.await;
        }
    }
}
