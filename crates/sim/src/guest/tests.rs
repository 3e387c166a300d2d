//! The simulated kernel alone: what a flush promises and what a power cut takes.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use uuid::Uuid;
use vdvs_domain::options::DiskFormat;
use vdvs_domain::{Capacity, DatastoreName, FsType, HostId, VmId};
use vdvs_engine::ports::{
    DatastoreKind, Datastores, DiskPath, DiskSpec, DsPath, Host, Power, Progress,
};
use vdvs_host_sim::{Session, World};

use super::format::{self, BLOCKS, DATA};
use super::kernel::{EIO, ENXIO, Kernel, Plugs};
use super::life::Life;
use crate::check::Checker;
use crate::schedule::Dice;

struct Bench {
    world: World,
    host: HostId,
    vm: VmId,
    disk: DiskPath,
    session: Arc<Session>,
    plugs: Plugs,
}

impl Bench {
    async fn new() -> Self {
        let world = World::new();
        let ds = DatastoreName::new("ds1").unwrap();
        world.add_datastore(&ds, DatastoreKind::Vmfs);
        let host = world.add_host("esx01");
        let vm = world.add_vm(host, "vm1", &ds);
        let session = world.session(host);
        let path = DsPath::new("vm1/data.vmdk").unwrap();
        let spec = DiskSpec {
            capacity: Capacity::DEFAULT,
            format: DiskFormat::default(),
            uuid: Uuid::nil(),
        };
        let progress = Arc::new(Progress::default());
        let made = session.create_disk(&ds, &path, &spec, &progress).await;
        made.unwrap();
        Self {
            plugs: Plugs::of(&world, &vm),
            disk: DiskPath {
                datastore: ds,
                path,
            },
            world,
            host,
            vm,
            session,
        }
    }

    async fn plug(&self) {
        let attached = self
            .session
            .attach(&self.vm, &self.disk, false, Instant::now());
        attached.await.unwrap();
    }

    async fn pull(&self) {
        let detached = self.session.detach(&self.vm, &self.disk, Instant::now());
        detached.await.unwrap();
    }

    fn boot(&self) -> Kernel {
        Kernel::new(
            &self.vm,
            &self.world,
            &Checker::new(&self.world),
            Life::default(),
            self.plugs.clone(),
            Arc::new(Mutex::new(Dice::new(1))),
        )
    }
}

fn mount(kernel: &Kernel) -> u32 {
    let node = kernel.look().nodes.values().next().unwrap().clone();
    kernel.begin_use(&node, &FsType::ext4(), false, false);
    node.minor
}

async fn values(kernel: &Kernel, minor: u32) -> Vec<u64> {
    let mut values = Vec::new();
    for block in DATA..DATA + BLOCKS {
        values.push(format::value(&kernel.get(minor, block).await.unwrap()));
    }
    values.retain(|value| *value > 0);
    values.sort_unstable();
    values
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_keeps_what_was_flushed_and_takes_any_part_of_the_rest() {
    let mut kept = Vec::new();
    for torn in 0..20 {
        let bench = Bench::new().await;
        bench.plug().await;
        let kernel = bench.boot();
        let minor = mount(&kernel);
        for _ in 0..4 {
            kernel.put(minor).unwrap();
        }
        kernel.sync(minor).await.unwrap();
        for _ in 0..4 {
            kernel.put(minor).unwrap();
        }
        assert_eq!(values(&kernel, minor).await, [1, 2, 3, 4, 5, 6, 7, 8]);
        kernel.life.end();
        kernel.power_cut(&mut Dice::new(torn));
        bench.world.power(&bench.vm, Power::Off);
        bench.world.power(&bench.vm, Power::On);
        let kernel = bench.boot();
        let minor = mount(&kernel);
        let there = values(&kernel, minor).await;
        assert!(there.starts_with(&[1, 2, 3, 4]), "{there:?}");
        kept.push(there.len() - 4);
    }
    assert!(kept.contains(&0) || kept.contains(&1), "{kept:?}");
    assert!(kept.iter().any(|n| *n > 2), "{kept:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_left_and_came_back_is_another_device() {
    let bench = Bench::new().await;
    bench.plug().await;
    let kernel = bench.boot();
    let old = mount(&kernel);
    kernel.put(old).unwrap();
    bench.pull().await;
    assert_eq!(kernel.sync(old).await, Err(ENXIO));
    bench.plug().await;
    assert_eq!(kernel.put(old), Err(EIO), "the old mount came back to life");
    assert_eq!(kernel.read(old, DATA).await, Err(ENXIO));
    let new = mount(&kernel);
    assert_ne!(old, new);
    kernel.put(new).unwrap();
    kernel.sync(new).await.unwrap();
    assert_eq!(values(&kernel, new).await, [1]);
    assert!(kernel.uses(&bench.disk));
    assert_eq!(bench.world.host_of(&bench.vm), Some(bench.host));
}
