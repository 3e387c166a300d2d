//! Which agent answers a VM now.
//!
//! A VM's connection ends at the host where it is registered at this moment, and only while an agent runs there. It
//! may be cut on its own. Whoever holds a [`Line`] across an await has to expect that its agent dies:
//! [`Session::died`] says when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vdvs_domain::{HostId, VmId};
use vdvs_engine::Engine;
use vdvs_host_sim::{Bell, Session};

/// The agent at the other end of a VM's connection. It is the same process while `incarnation` is the same.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its host.
    pub host: HostId,
    /// The host's name.
    pub host_name: String,
    /// What it serves.
    pub engine: Arc<Engine>,
    /// The process; dies.
    pub session: Arc<Session>,
    /// Number of this agent process, in the whole run.
    pub incarnation: u64,
}

#[derive(Debug, Default)]
struct Board {
    agents: BTreeMap<HostId, Line>,
    registered: BTreeMap<VmId, HostId>,
    cut: BTreeSet<VmId>,
    incarnations: u64,
}

/// All connections. Cloning gives the same board.
#[derive(Debug, Clone, Default)]
pub struct Switchboard {
    board: Arc<Mutex<Board>>,
    bell: Bell,
}

impl Switchboard {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent that answers `vm` now; none: no agent runs there, the connection is cut, or no host knows the VM.
    #[must_use]
    pub fn agent_of(&self, vm: &VmId) -> Option<Line> {
        let board = self.board();
        if board.cut.contains(vm) {
            return None;
        }
        let line = board.agents.get(board.registered.get(vm)?)?;
        (!line.session.is_dead()).then(|| line.clone())
    }

    /// Rings at every change of who answers whom.
    #[must_use]
    pub const fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Where a VM is registered.
    #[must_use]
    pub fn host_of(&self, vm: &VmId) -> Option<HostId> {
        self.board().registered.get(vm).copied()
    }

    /// A VM is registered on a host now, or on none.
    pub fn register(&self, vm: &VmId, host: Option<HostId>) {
        match host {
            Some(host) => drop(self.board().registered.insert(vm.clone(), host)),
            None => drop(self.board().registered.remove(vm)),
        }
        self.bell.ring();
    }

    /// An agent serves now. Returns its incarnation.
    pub fn serve(
        &self,
        host: HostId,
        host_name: &str,
        engine: Arc<Engine>,
        session: Arc<Session>,
    ) -> u64 {
        let incarnation = {
            let mut board = self.board();
            board.incarnations += 1;
            let incarnation = board.incarnations;
            board.agents.insert(
                host,
                Line {
                    host,
                    host_name: host_name.to_owned(),
                    engine,
                    session,
                    incarnation,
                },
            );
            incarnation
        };
        self.bell.ring();
        incarnation
    }

    /// No agent serves there any more.
    pub fn silence(&self, host: HostId) {
        self.board().agents.remove(&host);
        self.bell.ring();
    }

    /// Cuts a VM's connection to its agent, or mends it.
    pub fn cut(&self, vm: &VmId, cut: bool) {
        match cut {
            true => drop(self.board().cut.insert(vm.clone())),
            false => drop(self.board().cut.remove(vm)),
        }
        self.bell.ring();
    }
}
