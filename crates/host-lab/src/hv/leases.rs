//! Leases: how a host's locks on a datastore outlive it, and end.
//!
//! ```text
//! <datastore>/.labhv/hosts/<host id>.lease     one block, written again and again by the host's labhv
//! ```
//!
//! A reader never compares clocks: a lease has lapsed when its block did not change for the lapse time *as the reader
//! itself saw it*, by its monotonic clock, as VMFS does with its heartbeats. A reader that has just begun to look knows
//! nothing of the time before, so for it every lease is good for one lapse time more.
//!
//! ```text
//!            renewed                       renewal fails for half the lapse time, or hangs for three quarters
//!   held ────────────► held        held ────────────────────────────────────────► lost: all disks there cut off
//!                                   ▲                                               │ reachable again, every
//!                                   └───────────────────────────────────────────────┘ lock file of ours removed
//! ```
//!
//! The rest is left for cutting off. What is cut off is found by the devices' labels, without the world's
//! lock: a call that hangs on the datastore does not keep its disks alive. A thread per datastore renews, so that one
//! that hangs costs only its own lease; one more thread looks after all of them.
//!
//! A lapse time of 0 means that locks end with the loop devices: no lease is kept.

use std::collections::{BTreeSet, HashMap};
use std::fs::{OpenOptions, create_dir, read, read_dir, remove_file};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::config::{DatastoreConfig, HostConfig, isolation_flag};
use crate::sys;

/// The folder of labhv's own files on a datastore.
pub(super) const OWN: &str = ".labhv";
/// A lease is rewritten in place, so that a full datastore does not end it: always the same length.
const BLOCK: usize = 512;
/// Renewals in a lapse time.
const BEATS: u32 = 10;
/// Between two renewals, at least and at most.
const BEAT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Between two looks of the guard where no lease is kept.
const LOOK: Duration = Duration::from_millis(100);

/// Whose leases these are.
#[derive(Debug, Clone)]
pub(crate) struct Me {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Differs from run to run.
    pub(crate) boot: u64,
}

/// A lease as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Lease {
    format: u32,
    host: String,
    host_id: String,
    lapse_ms: u64,
    boot: u64,
    beat: u64,
}

/// A datastore as this host's locks see it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) name: String,
    pub(crate) root: PathBuf,
    pub(super) me: Me,
    lapse: Duration,
    flag: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the last successful renewal began; before the first: when we began to try.
    last: Instant,
    held: bool,
    /// The last attempt failed.
    failing: bool,
    trying: Option<Instant>,
    lost: bool,
    /// With what lock files it may end.
    rejoin: Option<BTreeSet<String>>,
    beat: u64,
    seen: HashMap<String, Seen>,
}

/// What was read of another host's lease.
#[derive(Debug)]
struct Seen {
    block: Option<Vec<u8>>,
    since: Instant,
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails while this host is cut off from the datastore.
    pub(crate) fn reachable(&self) -> io::Result<()> {
        if self.flag.exists() {
            return Err(io::Error::other("this host is cut off from it"));
        }
        Ok(())
    }

    /// A folder among labhv's own; made where missing, never the datastore itself.
    pub(super) fn folder(&self, name: &str) -> io::Result<PathBuf> {
        self.reachable()?;
        let own = self.root.join(OWN);
        let dir = own.join(name);
        for dir in [&own, &dir] {
            match create_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        Ok(dir)
    }

    fn path_of(&self, host_id: &str) -> PathBuf {
        let hosts = self.root.join(OWN).join("hosts");
        hosts.join(format!("{host_id}.lease"))
    }

    /// Writes our lease once more.
    fn renew(&self) -> io::Result<()> {
        let begun = Instant::now();
        let beat = {
            let mut state = self.state();
            state.trying = Some(begun);
            state.beat += 1;
            state.beat
        };
        let written = self.write(beat);
        let mut state = self.state();
        state.trying = None;
        let was_failing = state.failing;
        state.failing = written.is_err();
        match &written {
            Ok(()) => {
                state.last = begun;
                state.held = true;
                if was_failing {
                    info!(datastore = self.name, "the lease is renewed again");
                }
            }
            Err(e) if !was_failing => {
                warn!(datastore = self.name, error = %e, "cannot renew the lease");
            }
            Err(_) => {}
        }
        written
    }

    fn write(&self, beat: u64) -> io::Result<()> {
        let lease = Lease {
            format: 1,
            host: self.me.name.clone(),
            host_id: self.me.id.clone(),
            lapse_ms: u64::try_from(self.lapse.as_millis()).unwrap_or(u64::MAX),
            boot: self.me.boot,
            beat,
        };
        let mut block = serde_json::to_vec(&lease)?;
        block.resize(BLOCK.max(block.len() + 1), b' ');
        if let Some(last) = block.last_mut() {
            *last = b'\n';
        }
        self.folder("hosts")?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path_of(&self.me.id))?;
        // Not flushed: other hosts of the lab read the same page cache.
        file.write_all_at(&block, 0)
    }

    /// Whether this host may open disks here.
    pub(crate) fn assure(&self) -> io::Result<()> {
        self.reachable()?;
        let state = self.state();
        if state.lost {
            return Err(io::Error::other("its lease is lost"));
        }
        let fresh = state.held && !state.failing && state.last.elapsed() < self.lapse / 2;
        if self.lapse.is_zero() || fresh {
            return Ok(());
        }
        if state.trying.is_some() {
            // Nobody waits for a datastore that may hang.
            return Err(io::Error::other("a renewal is under way"));
        }
        drop(state);
        self.renew()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.state().lost
    }

    /// Nothing of ours is open there any more, but what these lock files stand for: the host may begin anew as soon as
    /// it reaches the datastore.
    pub(crate) fn may_rejoin(&self, keep: BTreeSet<String>) {
        self.state().rejoin = Some(keep);
    }

    /// Begins anew after a loss, if it may: lock files first, so that none comes to life again.
    fn rejoin(&self) -> io::Result<()> {
        let Some(keep) = self.state().rejoin.clone() else {
            return Ok(());
        };
        self.sweep(&keep)?;
        if self.keeps_leases() {
            self.renew()?;
        }
        let mut state = self.state();
        state.lost = false;
        state.rejoin = None;
        info!(datastore = self.name, "back");
        Ok(())
    }

    /// Whether calls may come back soon.
    pub(crate) fn answers(&self) -> bool {
        let state = self.state();
        let hangs = state
            .trying
            .is_some_and(|since| since.elapsed() > self.lapse / 4);
        !state.lost && !hangs
    }

    /// Whether another host's lease is over, as far as we saw. An unreadable one is not.
    pub(crate) fn lapsed(&self, host_id: &str) -> io::Result<bool> {
        self.reachable()?;
        let block = match read(self.path_of(host_id)) {
            Ok(block) => Some(block),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        Ok(self.note(host_id, block))
    }

    fn note(&self, host_id: &str, block: Option<Vec<u8>>) -> bool {
        let lease = block
            .as_deref()
            .and_then(|b| serde_json::from_slice::<Lease>(b).ok());
        let theirs = lease.map_or(Duration::ZERO, |l| Duration::from_millis(l.lapse_ms));
        let mut state = self.state();
        let now = Instant::now();
        let seen = state
            .seen
            .entry(host_id.to_owned())
            .or_insert_with(|| Seen {
                block: block.clone(),
                since: now,
            });
        if seen.block != block {
            *seen = Seen { block, since: now };
        }
        seen.since.elapsed() >= self.lapse.max(theirs)
    }

    fn observe(&self) -> io::Result<()> {
        self.reachable()?;
        for entry in read_dir(self.root.join(OWN).join("hosts"))? {
            let name = entry?.file_name();
            if let Some(id) = name.to_str().and_then(|n| n.strip_suffix(".lease"))
                && id != self.me.id
            {
                self.lapsed(id)?;
            }
        }
        Ok(())
    }

    /// Whether locks here outlive their host at all.
    pub(crate) fn keeps_leases(&self) -> bool {
        !self.lapse.is_zero()
    }

    fn beat(&self) -> Duration {
        (self.lapse / BEATS).clamp(BEAT.0, BEAT.1)
    }

    fn keep(&self) {
        loop {
            // What failed is told by `renew`, what follows from it is the guard's.
            if self.is_lost() {
                self.rejoin().ok();
            } else {
                self.renew().ok();
            }
            // Nothing seen proves nothing.
            self.observe().ok();
            sleep(self.beat());
        }
    }

    /// Notices the loss of the lease; true while it is lost.
    fn is_over(&self) -> bool {
        let isolated = self.flag.exists();
        let mut state = self.state();
        let (half, age) = (self.lapse / 2, state.last.elapsed());
        // A renewal that does not end may be one that a busy disk delays: it gets half of what is left.
        let stuck = state.trying.is_some_and(|since| since.elapsed() > half);
        let over = if self.lapse.is_zero() {
            isolated
        } else {
            (state.failing && age > half) || (stuck && age > half + half / 2)
        };
        if over && !state.lost {
            state.lost = true;
            state.rejoin = None;
            error!(datastore = self.name, "lost: its disks are cut off");
        }
        state.lost
    }

    /// Cuts every device of ours off that lies on this datastore.
    fn cut_all(&self) {
        let label = format!("vdvs:{}:", self.me.id);
        let loops = match sys::loops() {
            Ok(loops) => loops,
            Err(e) => {
                error!(error = %e, "cannot list loop devices");
                return;
            }
        };
        for l in loops {
            if !l.backing.starts_with(&self.root) || l.is_cut() {
                continue;
            }
            let done = sys::loop_open_as(l.number, &l.backing, &label)
                .and_then(|device| device.map_or(Ok(false), |d| d.cut().map(|()| true)));
            match done {
                Ok(true) => info!(number = l.number, backing = %l.backing.display(), "cut off"),
                Ok(false) => {}
                Err(e) => error!(number = l.number, error = %e, "cannot cut a device off"),
            }
        }
    }

    /// Lets go of everything, at the end of a host without VMs.
    fn leave(&self) {
        if self.reachable().is_ok()
            && let Err(e) = remove_file(self.path_of(&self.me.id))
            && e.kind() != io::ErrorKind::NotFound
        {
            warn!(datastore = self.name, error = %e, "cannot remove the lease");
        }
    }
}

/// All datastores of a host.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    stores: Vec<Arc<Store>>,
}

impl Leases {
    pub(crate) fn new(host_dir: &Path, config: &HostConfig, boot: u64) -> Self {
        let me = Me {
            id: config.host_id.simple().to_string(),
            name: config.name.clone(),
            boot,
        };
        let store = |ds: &DatastoreConfig| Store {
            name: ds.name.clone(),
            root: ds.path.canonicalize().unwrap_or_else(|_| ds.path.clone()),
            me: me.clone(),
            lapse: config.lapse(ds),
            flag: isolation_flag(host_dir, &ds.name),
            state: Mutex::new(State {
                last: Instant::now(),
                held: false,
                failing: false,
                trying: None,
                lost: false,
                rejoin: None,
                beat: 0,
                seen: HashMap::new(),
            }),
        };
        Self {
            stores: config.datastores.iter().map(store).map(Arc::new).collect(),
        }
    }

    pub(crate) fn store(&self, name: &str) -> Option<&Arc<Store>> {
        self.stores.iter().find(|s| s.name == name)
    }

    pub(crate) fn stores(&self) -> &[Arc<Store>] {
        &self.stores
    }

    /// The first renewal, so that the first call finds leases.
    pub(crate) fn begin(&self) {
        for store in self.kept() {
            // Told there.
            store.renew().ok();
            store.observe().ok();
        }
    }

    fn kept(&self) -> impl Iterator<Item = &Arc<Store>> {
        self.stores.iter().filter(|s| !s.lapse.is_zero())
    }

    /// Starts the threads.
    pub(crate) fn spawn(&self) -> io::Result<()> {
        let mut look = LOOK;
        for store in self.kept() {
            look = look.min(store.beat());
            let store = Arc::clone(store);
            Builder::new()
                .name("lease".to_owned())
                .spawn(move || store.keep())?;
        }
        let stores = self.stores.clone();
        Builder::new().name("guard".to_owned()).spawn(move || {
            loop {
                for store in &stores {
                    if store.is_over() {
                        store.cut_all();
                        if !store.keeps_leases() {
                            // Not yet, if it fails.
                            store.rejoin().ok();
                        }
                    }
                }
                sleep(look);
            }
        })?;
        Ok(())
    }

    pub(crate) fn leave(&self) {
        for store in &self.stores {
            store.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::{TempDir, tempdir};
    use uuid::Uuid;

    use super::*;
    use crate::config::Kind;

    fn host(dir: &TempDir, name: &str, lapse_ms: u64) -> Arc<Store> {
        let config = HostConfig {
            name: name.to_owned(),
            host_id: Uuid::from_u128(name.len() as u128),
            datastores: vec![DatastoreConfig {
                name: "ds".to_owned(),
                kind: Kind::Nfs,
                path: dir.path().to_owned(),
                lock_lapse_ms: Some(lapse_ms),
                storage_hosts: None,
            }],
            lock_lapse_ms: 0,
        };
        let leases = Leases::new(&dir.path().join(name), &config, 1);
        Arc::clone(&leases.stores()[0])
    }

    #[test]
    fn a_lease_lapses_when_it_was_seen_unchanged_for_so_long_and_not_by_any_clock_in_it() {
        let dir = tempdir().unwrap();
        let (a, b) = (host(&dir, "a", 300), host(&dir, "bb", 300));
        a.renew().unwrap();
        assert!(!b.lapsed(&a.me.id).unwrap(), "just begun to look");
        let begun = Instant::now();
        // Taken before the look, since any time may pass after it.
        let mut seen = begun;
        while begun.elapsed() < Duration::from_millis(600) {
            a.renew().unwrap();
            seen = Instant::now();
            assert!(!b.lapsed(&a.me.id).unwrap(), "renewed all the time");
        }
        while !b.lapsed(&a.me.id).unwrap() {
            sleep(Duration::from_millis(5));
        }
        assert!(seen.elapsed() >= Duration::from_millis(300));
        a.renew().unwrap();
        assert!(!b.lapsed(&a.me.id).unwrap(), "it is back");
    }

    #[test]
    fn the_owner_notices_in_half_the_time_and_a_reader_not_before_all_of_it() {
        let dir = tempdir().unwrap();
        let (a, b) = (host(&dir, "a", 400), host(&dir, "bb", 400));
        a.renew().unwrap();
        b.lapsed(&a.me.id).unwrap();
        let flag = isolation_flag(&dir.path().join("a"), "ds");
        fs::create_dir_all(flag.parent().unwrap()).unwrap();
        fs::write(&flag, "").unwrap();
        assert!(!a.is_over());
        while !a.is_over() {
            a.renew().unwrap_err();
            let lapsed = b.lapsed(&a.me.id).unwrap();
            assert!(!lapsed || a.is_over(), "the reader before the owner");
        }
        fs::remove_file(&flag).unwrap();
        a.rejoin().unwrap();
        assert!(a.assure().is_err(), "only who has closed all begins anew");
        a.may_rejoin(BTreeSet::new());
        a.rejoin().unwrap();
        a.assure().unwrap();
    }

    #[test]
    fn a_folder_that_went_away_is_not_made_again() {
        let dir = tempdir().unwrap();
        let a = host(&dir, "a", 400);
        fs::remove_dir(dir.path()).unwrap();
        a.renew().unwrap_err();
        assert!(!dir.path().exists());
    }
}
