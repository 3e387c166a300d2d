//! Takeovers between hosts, each case by itself: who has the volume in the end, what was read there, and how soon.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::time::Duration;

use tokio::time::{Instant, sleep};
use vdvs_engine::ports::{DiskPath, DsPath, Power};
use vdvs_sim::check::Violation;
use vdvs_sim::schedule::{Shape, Trace};
use vdvs_sim::universe::Universe;

const LAPSE: Duration = Duration::from_secs(12);
const NAME: &str = "data";
/// Longer than any wait in here.
const LONG: Duration = Duration::from_secs(600);

/// Two hosts: `vm1` and `vm3` on the first, `vm2` on the second. A container in `vm1` has the volume.
struct Scene {
    universe: Universe,
    trace: Trace,
}

impl Scene {
    async fn new(failover: &str) -> Self {
        let shape = Shape {
            hosts: 2,
            vms: 3,
            datastores: 2,
            fenced: Vec::new(),
            services: Vec::new(),
            lapse: LAPSE,
            pace: 0,
            driver_named: true,
        };
        let trace = Trace::new(true);
        let universe = Universe::new(&shape, 1, trace.clone());
        sleep(Duration::from_secs(5)).await;
        if failover == "fence" {
            universe.checker().may_fence(NAME);
        }
        let options = [("failover", failover)];
        universe.guest(0).create(NAME, &options).await.unwrap();
        let scene = Self { universe, trace };
        assert!(scene.start(0).await);
        // It writes and flushes meanwhile.
        sleep(Duration::from_secs(20)).await;
        scene
    }

    async fn start(&self, vm: usize) -> bool {
        let task = format!("t{vm}");
        self.universe
            .start_task(vm, &task, &[NAME.to_owned()])
            .await
    }

    /// Starts it there and says how long that took.
    async fn taken_by(&self, vm: usize) -> Duration {
        let begun = Instant::now();
        while !self.start(vm).await {
            assert!(begun.elapsed() < LONG, "{}", self.story());
        }
        begun.elapsed()
    }

    fn disks(&self, vm: usize) -> usize {
        self.universe.disks(vm)
    }

    fn disk(&self, vm: usize) -> DiskPath {
        let devices = self.universe.world().devices(self.universe.vm_id(vm));
        devices.first().unwrap().disk.clone()
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + LONG;
        while !holds() {
            assert!(Instant::now() < end, "{what}\n{}", self.story());
            sleep(Duration::from_millis(500)).await;
        }
    }

    fn story(&self) -> String {
        self.trace.lines().join("\n")
    }

    /// Nothing that was promised is broken; what lies around at the end is not looked at.
    fn well(&self) {
        all_kept(&self.universe.checker().violations(), &self.story());
    }
}

fn all_kept(violations: &[Violation], story: &str) {
    assert!(violations.is_empty(), "{violations:#?}\n{story}");
}

#[tokio::test(start_paused = true)]
async fn from_a_dead_host_when_its_locks_have_lapsed() {
    for failover in ["wait", "fence"] {
        let scene = Scene::new(failover).await;
        scene.universe.crash_host(0, 7);
        let took = scene.taken_by(1).await;
        assert!(
            took <= LAPSE + Duration::from_secs(10),
            "{failover}: {took:?}"
        );
        assert_eq!(scene.disks(1), 1);
        scene.well();
    }
}

#[tokio::test(start_paused = true)]
async fn from_a_host_that_lives_and_is_cut_off_from_all_storage() {
    let scene = Scene::new("wait").await;
    scene.universe.isolate(0, true);
    let took = scene.taken_by(1).await;
    assert!(took <= LAPSE + Duration::from_secs(10), "{took:?}");
    // The old owner still runs and believes that it has the disk; when its host is back it loses it for good.
    scene.universe.isolate(0, false);
    scene
        .until("the dead disk is taken out", || scene.disks(0) == 0)
        .await;
    sleep(Duration::from_secs(60)).await;
    assert!(scene.universe.guest(1).runs("t1"));
    scene.well();
}

#[tokio::test(start_paused = true)]
async fn from_a_host_that_lost_one_datastore() {
    let scene = Scene::new("wait").await;
    scene.universe.reach(0, 0, false);
    let took = scene.taken_by(1).await;
    assert!(took <= LAPSE + Duration::from_secs(10), "{took:?}");
    scene.universe.reach(0, 0, true);
    scene
        .until("the dead disk is taken out", || scene.disks(0) == 0)
        .await;
    scene.well();
}

#[tokio::test(start_paused = true)]
async fn from_a_vm_that_ha_started_elsewhere_with_its_disks() {
    let scene = Scene::new("wait").await;
    scene.universe.crash_host(0, 7);
    let runs = || scene.universe.restart_elsewhere(0, 1, 7);
    scene
        .until("HA starts it", || runs() || scene.universe.power_on(0))
        .await;
    assert_eq!(scene.universe.host_of(0), Some(1));
    // It came back with the disk in its configuration, and nothing in it uses the volume.
    let took = scene.taken_by(1).await;
    assert!(took < Duration::from_secs(90), "{took:?}");
    assert_eq!(
        (scene.disks(0), scene.disks(1)),
        (0, 1),
        "{}",
        scene.story()
    );
    // The dead host comes back with its old registration: nothing happens to the new owner.
    scene.universe.power_host(0);
    sleep(Duration::from_secs(90)).await;
    assert!(scene.universe.guest(1).runs("t1"));
    scene.well();
}

#[tokio::test(start_paused = true)]
async fn the_old_vm_starts_again_while_its_disk_belongs_to_another() {
    let scene = Scene::new("wait").await;
    scene.universe.crash_host(0, 7);
    scene.taken_by(1).await;
    scene.universe.power_host(0);
    // A disk that is locked elsewhere keeps it off until its host's agent has taken it out of the configuration.
    scene
        .until("the old VM starts", || scene.universe.power_on(0))
        .await;
    assert_eq!((scene.disks(0), scene.disks(1)), (0, 1));
    assert!(scene.universe.guest(1).runs("t1"));
    scene.well();
}

#[tokio::test(start_paused = true)]
async fn vmotion_in_the_middle_of_an_attach() {
    // The move comes after so many milliseconds, so it meets every part of the attach.
    for after in (0..40u64).step_by(5) {
        let scene = Scene::new("wait").await;
        scene.universe.stop_task(0, "t0").await;
        let universe = scene.universe.clone();
        scene.universe.spawn(async move {
            sleep(Duration::from_millis(after)).await;
            universe.vmotion(2, 1);
        });
        scene.taken_by(2).await;
        sleep(Duration::from_secs(40)).await;
        assert_eq!(scene.universe.host_of(2), Some(1));
        assert_eq!(scene.disks(2), 1, "after {after} ms");
        // The record followed: another VM waits, the new host's agent passes it on, and it is let go.
        scene.universe.stop_task(2, "t2").await;
        assert!(
            scene.taken_by(0).await < Duration::from_secs(10),
            "after {after} ms"
        );
        scene.well();
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_storage_vmotion_renamed_is_not_lost() {
    let scene = Scene::new("wait").await;
    let disk = scene.disk(0);
    let moved = DsPath::new("vm1/moved.vmdk").unwrap();
    assert!(scene.universe.world().rename_disk(&disk, &moved));
    sleep(Duration::from_secs(60)).await;
    assert!(scene.universe.guest(0).runs("t0"), "its owner goes on");
    // Nobody else is given a volume whose disk is not where its record says, and nobody makes a new one.
    assert!(!scene.start(1).await);
    assert_eq!((scene.disks(0), scene.disks(1)), (1, 0));
    let made = scene.universe.world().files(scene.universe.datastore(0));
    let disks = made
        .iter()
        .filter(|f| f.contains("data.") && f.ends_with("-flat.vmdk"));
    assert_eq!(disks.count(), 0, "{made:?}");
    scene.well();
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_a_snapshot_pins_keeps_its_disk_until_it_is_off() {
    let scene = Scene::new("fence").await;
    let (vm, disk) = (scene.universe.vm_id(0), scene.disk(0));
    scene.universe.world().pin(vm, &disk, true);
    // Even a fence cannot take it.
    assert!(!scene.start(1).await);
    assert_eq!(
        (scene.disks(0), scene.disks(1)),
        (1, 0),
        "{}",
        scene.story()
    );
    assert!(scene.universe.guest(0).runs("t0"));
    scene.universe.world().pin(vm, &disk, false);
    let took = scene.taken_by(1).await;
    assert!(took <= Duration::from_secs(20), "{took:?}");
    assert_eq!(scene.universe.power(0), Power::On);
    scene.well();
}

#[tokio::test(start_paused = true)]
async fn a_fence_takes_a_volume_from_a_live_vm_in_time() {
    let scene = Scene::new("fence").await;
    let took = scene.taken_by(1).await;
    assert!(took <= Duration::from_secs(20), "{took:?}");
    assert_eq!((scene.disks(0), scene.disks(1)), (0, 1));
    scene.well();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_from_a_live_vm_that_waits() {
    let scene = Scene::new("wait").await;
    assert!(!scene.start(1).await);
    assert!(scene.universe.guest(0).runs("t0"));
    scene.universe.stop_task(0, "t0").await;
    assert!(scene.taken_by(1).await < Duration::from_secs(10));
    scene.well();
}
