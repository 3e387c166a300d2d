//! What hosts reach of the datastores.

use vdvs_domain::DatastoreName;

use super::{Universe, locked};

impl Universe {
    /// Number of datastores.
    #[must_use]
    pub fn datastores(&self) -> usize {
        self.inner.datastores.len()
    }

    /// The name of a datastore.
    ///
    /// # Panics
    /// Never: every shape has one.
    #[must_use]
    pub fn datastore(&self, ds: usize) -> &DatastoreName {
        let all = &self.inner.datastores;
        let at = ds.checked_rem(all.len()).unwrap_or(0);
        all.get(at)
            .expect("a universe has datastores, and this is one of them")
    }

    /// A host is cut off from all storage, or reaches it again.
    pub fn isolate(&self, host: usize, isolated: bool) {
        if let Some(is) = locked(&self.inner.isolated).get_mut(host) {
            *is = isolated;
        }
        self.inner.world.cut_off(self.host_id(host), isolated);
    }

    /// Whether a host is cut off from all storage.
    #[must_use]
    pub fn is_isolated(&self, host: usize) -> bool {
        locked(&self.inner.isolated)
            .get(host)
            .copied()
            .unwrap_or_default()
    }

    /// A host does not reach one datastore, or does again. `lapses`: its locks there end after their time.
    pub fn reach(&self, host: usize, ds: usize, reachable: bool) {
        let (id, ds) = (self.host_id(host), self.datastore(ds));
        self.inner.world.cut_off_from(id, ds, !reachable);
    }

    /// Calls of a host to a datastore hang, or go through.
    pub fn hang(&self, host: usize, ds: usize, hangs: bool) {
        self.inner
            .world
            .hang(self.host_id(host), self.datastore(ds), hangs);
    }

    /// Storage is well again everywhere.
    pub fn heal_storage(&self) {
        self.inner.world.hide_locks(false);
        for ds in 0..self.datastores() {
            self.inner.world.fill(self.datastore(ds), None);
        }
        for host in 0..self.hosts() {
            self.isolate(host, false);
            for ds in 0..self.datastores() {
                self.reach(host, ds, true);
                self.hang(host, ds, false);
            }
        }
    }
}
