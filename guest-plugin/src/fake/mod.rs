//! An agent in memory, for tests: volumes, one owner each, epochs; it can be taken away, and made to wait or fail.
//!
//! It keeps the promises a caller may rely on: attaching raises the epoch, a stale detach changes nothing, the format
//! state moves only forward, and a deleted volume is not found.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;
use vdvs_blockdev::Locator as Place;
use vdvs_blockdev::fake::{FakeContent, FakeDevices};
use vdvs_domain::ownership::Locator;
use vdvs_domain::{
    Capacity, DatastoreName, Epoch, ErrorKind, Filesystem, FilesystemState, FsType, Layout,
    Timestamp, VolumeAddress, VolumeId,
};

use crate::agent::{
    Agent, AgentError, Answer, Attached, Attachment, InventoryAnswer, InventoryItem, Link, Listing,
    Notice, Silence, Volume,
};

/// The VM the fake takes its caller for.
pub const HERE: &str = "swarm01";

/// The datastore new volumes lie on.
pub const DATASTORE: &str = "vsanDatastore";

#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<VolumeId, Volume>,
    contents: HashMap<VolumeId, FakeContent>,
    calls: Vec<String>,
    failures: HashMap<&'static str, VecDeque<(ErrorKind, String)>>,
    away: bool,
    hidden: bool,
    slow: bool,
    next: u32,
}

/// The fake. Disks it attaches appear in the [`FakeDevices`] it was made with.
#[derive(Debug)]
pub struct FakeAgent {
    state: Mutex<State>,
    changed: Notify,
    link: watch::Sender<Link>,
    /// To the plugin that asked last.
    tell: Mutex<Option<mpsc::Sender<Notice>>>,
    devices: FakeDevices,
}

fn up() -> Link {
    Link::Up {
        vm_name: HERE.into(),
        vm_uuid: Uuid::from_u128(1).to_string(),
        host: "esx01".into(),
    }
}

fn said<T>(kind: ErrorKind, text: impl Into<String>) -> Answer<T> {
    Err(AgentError::Said {
        kind,
        text: text.into(),
    })
}

impl FakeAgent {
    /// An agent without volumes, connected.
    #[must_use]
    pub fn new(devices: FakeDevices) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Notify::new(),
            link: watch::Sender::new(up()),
            tell: Mutex::new(None),
            devices,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the agent away, or brings it back.
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
        self.link.send_replace(if away {
            Link::Down {
                why: "taken away".into(),
            }
        } else {
            up()
        });
        self.changed.notify_waiters();
    }

    /// The datastore with all volumes cannot be read when somebody lists, or can again.
    pub fn hide(&self, hidden: bool) {
        self.state().hidden = hidden;
    }

    /// Answers to inventories are on their way from now on, or arrive.
    pub fn hold_inventories(&self, held: bool) {
        self.state().slow = held;
        self.changed.notify_waiters();
    }

    /// Calls so far, `verb volume`, in order; `hello`, `list` and inventories left out.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    /// The next call of this verb fails so.
    pub fn fail_next(&self, verb: &'static str, kind: ErrorKind, text: &str) {
        let mut state = self.state();
        let failures = state.failures.entry(verb).or_default();
        failures.push_back((kind, text.to_owned()));
    }

    /// The volume of this name.
    #[must_use]
    pub fn volume(&self, name: &str) -> Option<Volume> {
        let address = VolumeAddress::parse(name).ok()?;
        self.state()
            .volumes
            .values()
            .find(|volume| is(volume, &address))
            .cloned()
    }

    /// Makes a volume as an administrator would, or another VM.
    pub fn add(&self, name: &str, options: &BTreeMap<String, String>) -> Volume {
        let mut state = self.state();
        state.next = state.next.saturating_add(1);
        let id = VolumeId::new(Uuid::from_u128(
            0x0192_0000_0000_7000_8000_0000_0000_0000 + u128::from(state.next),
        ));
        let volume = made(id, name, options);
        state.contents.insert(id, FakeContent::Blank);
        state.volumes.insert(id, volume.clone());
        volume
    }

    /// Changes a volume's record.
    pub fn change(&self, name: &str, how: impl FnOnce(&mut Volume)) {
        let Some(id) = self.volume(name).map(|volume| volume.id) else {
            return;
        };
        if let Some(volume) = self.state().volumes.get_mut(&id) {
            how(volume);
        }
        self.changed.notify_waiters();
    }

    /// The volume goes, as if removed from elsewhere.
    pub fn drop_volume(&self, name: &str) {
        if let Some(volume) = self.volume(name) {
            self.state().volumes.remove(&volume.id);
        }
    }

    /// Puts something onto a disk that is attached nowhere.
    pub fn set_content(&self, name: &str, content: FakeContent) {
        if let Some(volume) = self.volume(name) {
            self.state().contents.insert(volume.id, content);
        }
    }

    /// Another VM attaches the volume: whatever this one had is over. The disk leaves this VM.
    pub fn give_to(&self, name: &str, vm: &str) {
        let Some(volume) = self.volume(name) else {
            return;
        };
        self.unplug(volume.id);
        self.change(name, |volume| {
            volume.epoch = volume.epoch.next();
            volume.state = "attached".into();
            volume.attachment = Some(Attachment {
                vm: vm.to_owned(),
                vm_uuid: Uuid::from_u128(2).to_string(),
                locator: None,
            });
        });
    }

    /// Nobody has the volume any more.
    pub fn release(&self, name: &str) {
        self.change(name, free);
    }

    /// Sends a notice.
    pub async fn notify(&self, notice: Notice) {
        let tell = self
            .tell
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(tell) = tell {
            drop(tell.send(notice).await);
        }
    }

    /// What is so at this moment.
    fn inventory(&self, items: &[InventoryItem]) -> InventoryAnswer {
        let state = self.state();
        let here = |volume: &Volume| volume.attachment.as_ref().is_some_and(|a| a.vm == HERE);
        InventoryAnswer {
            attached: state
                .volumes
                .values()
                .filter(|v| here(v))
                .cloned()
                .collect(),
            superseded: items
                .iter()
                .filter(|item| {
                    state
                        .volumes
                        .get(&item.volume)
                        .is_some_and(|v| !here(v) || v.epoch != item.epoch)
                })
                .map(|item| item.volume)
                .collect(),
            wanted: Vec::new(),
        }
    }

    fn unplug(&self, id: VolumeId) {
        if let Some(disk) = self.devices.pull(&place(id)) {
            self.state().contents.insert(id, disk.content);
        }
    }

    /// Every call passes here: away means silence until the deadline.
    async fn enter(&self, verb: &'static str, what: &str, deadline: Instant) -> Answer<()> {
        loop {
            let changed = self.changed.notified();
            if !self.state().away {
                break;
            }
            let begun = Instant::now();
            if timeout_at(deadline, changed).await.is_err() {
                return Err(AgentError::Away(Silence {
                    why: "no agent at this address".into(),
                    heard: false,
                    waited: begun.elapsed(),
                }));
            }
        }
        let mut state = self.state();
        if !matches!(verb, "list" | "inventory") {
            state.calls.push(format!("{verb} {what}"));
        }
        let failure = state.failures.get_mut(verb).and_then(VecDeque::pop_front);
        match failure {
            Some((kind, text)) => said(kind, text),
            None => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Answer<Volume> {
        match self.volume(name) {
            Some(volume) => Ok(volume),
            None => said(
                ErrorKind::NotFound,
                format!("Volume {name} not found (looked on: {DATASTORE})"),
            ),
        }
    }

    fn by_id(&self, id: VolumeId) -> Answer<Volume> {
        match self.state().volumes.get(&id) {
            Some(volume) => Ok(volume.clone()),
            None => said(ErrorKind::NotFound, format!("Volume {id} not found")),
        }
    }
}

fn is(volume: &Volume, address: &VolumeAddress) -> bool {
    volume.name == address.name
        && address
            .datastore
            .as_ref()
            .is_none_or(|ds| ds.matches(&volume.datastore))
}

fn place(id: VolumeId) -> Place {
    Place::Path(format!("/dev/vdvs-{}", id.id8()).into())
}

fn free(volume: &mut Volume) {
    volume.state = "free".into();
    volume.attachment = None;
}

fn made(id: VolumeId, name: &str, options: &BTreeMap<String, String>) -> Volume {
    let address = VolumeAddress::parse(name).expect("tests name volumes rightly");
    let mut all: BTreeMap<String, String> = [
        ("size", "1GB"),
        ("fstype", "ext4"),
        ("diskformat", "thin"),
        ("attach-as", "independent_persistent"),
        ("access", "read-write"),
        ("failover", "wait"),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect();
    all.extend(options.clone());
    let fstype = all.get("fstype").map_or("ext4", String::as_str);
    Volume {
        id,
        name: address.name,
        datastore: address.datastore.unwrap_or_else(|| {
            DatastoreName::new(DATASTORE).expect("a plain name is a datastore's")
        }),
        group: "_DEFAULT".into(),
        capacity: Capacity::DEFAULT.bytes(),
        allocated: 32 << 20,
        filesystem: Filesystem {
            fstype: FsType::new(fstype).unwrap_or_else(|_| FsType::ext4()),
            state: FilesystemState::Never,
        },
        layout: Layout::Data,
        options: all,
        created: Timestamp::from_millis(1_491_833_348_000),
        created_by: HERE.into(),
        state: "free".into(),
        attachment: None,
        epoch: Epoch::default(),
        waiting: String::new(),
    }
}

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

    async fn delete(&self, name: &str, deadline: Instant) -> Answer<()> {
        self.enter("delete", name, deadline).await?;
        let volume = self.find(name)?;
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
