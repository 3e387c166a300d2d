//! An agent in memory, for tests: volumes, one owner each, epochs; it can be taken away, and made to wait or fail.
//!
//! It keeps the promises a caller may rely on: attaching raises the epoch, a stale detach changes nothing, the format
//! state moves only forward, and a deleted volume is not found.

mod agent;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;
use vdvs_blockdev::Locator as Place;
use vdvs_blockdev::fake::{FakeContent, FakeDevices};
use vdvs_domain::{
    Capacity, DatastoreName, Epoch, ErrorKind, Filesystem, FilesystemState, FsType, Layout,
    Timestamp, VolumeAddress, VolumeId,
};

use crate::agent::{
    AgentError, Answer, Attachment, InventoryAnswer, InventoryItem, Link, Notice, Silence, Volume,
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
    passes_on: bool,
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

    /// Before the next removal arrives here, its name passes to another volume.
    pub fn pass_name_on(&self) {
        self.state().passes_on = true;
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
