//! What survives an agent, as one number: whether a call had any effect can be seen by comparing two of them.
//!
//! Nobody says of a verb that it only reads. A call that asked for what was so already had no effect either.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::state::State;

struct Sum(DefaultHasher);

impl Sum {
    fn add(&mut self, part: &impl Debug) {
        self.0.write(format!("{part:?};").as_bytes());
    }
}

impl State {
    /// The same for two moments at which everything that outlives agents is the same.
    pub(crate) fn survives(&self) -> u64 {
        let mut sum = Sum(DefaultHasher::new());
        for (name, ds) in &self.datastores {
            sum.add(&(name, &ds.dirs, &ds.disks));
            ds.files.hash(&mut sum.0);
        }
        for (id, host) in &self.hosts {
            sum.add(&(id, &host.ghosts, host.audit.len()));
            for (config, kept) in &host.kept {
                sum.add(&(config, kept.seq, kept.confirmed));
                kept.bytes.hash(&mut sum.0);
            }
            let mut deleted: Vec<_> = host.deleted.iter().collect();
            deleted.sort();
            sum.add(&deleted);
        }
        sum.add(&self.vms);
        sum.add(&(&self.lingering, &self.pinned, &self.late));
        sum.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use vdvs_domain::DatastoreName;
    use vdvs_engine::ports::{DatastoreKind, Datastores, DsPath};

    use crate::World;

    #[tokio::test(start_paused = true)]
    async fn a_trace_tells_which_calls_changed_something() {
        let world = World::new();
        let ds = DatastoreName::new("ds").unwrap();
        world.add_datastore(&ds, DatastoreKind::Vmfs);
        let session = world.session(world.add_host("esx01"));
        let (dir, file) = (DsPath::new("d").unwrap(), DsPath::new("d/f").unwrap());
        session.begin_trace();
        session.make_dir(&ds, &dir).await.unwrap();
        session.make_dir(&ds, &dir).await.unwrap();
        session.create_new(&ds, &file).await.unwrap();
        session.create_new(&ds, &file).await.unwrap_err();
        session.write(&ds, &file, b"some").await.unwrap();
        session.write(&ds, &file, b"some").await.unwrap();
        session.read(&ds, &file, 10).await.unwrap();
        session.remove(&ds, &file).await.unwrap();
        session.remove(&ds, &file).await.unwrap();
        let changed: Vec<bool> = session.end_trace().iter().map(|c| c.changed).collect();
        let yes_no = [true, false, true, false, true, false, false, true, false];
        assert_eq!(changed, yes_no);
    }
}
