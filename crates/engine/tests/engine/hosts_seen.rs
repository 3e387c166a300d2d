//! Seeing all hosts from one: what an agent tells, when, where, and what others make of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vdvs_domain::VmId;
use vdvs_engine::api::{About, AdminHost, Guests, Settings};
use vdvs_engine::ports::{DatastoreKind, Power};

use crate::hosts::Two;
use crate::support::{Lab, ds, until};

/// One VM's plugin is connected.
#[derive(Debug)]
struct Connected(VmId);

impl Guests for Connected {
    fn seen(&self, vm: &VmId) -> (bool, String) {
        (*vm == self.0, "vdvs-plugin 1".to_owned())
    }
}

fn introduce(two: &Two) {
    two.near.engine.introduce(About {
        program: "vdvsd 1".to_owned(),
        guests: Arc::new(Connected(two.near.vms[0].clone())),
    });
}

/// The other host as `esx02` sees it.
async fn near_from_far(two: &Two) -> Option<AdminHost> {
    let hosts = two.far.admin_hosts().await.unwrap();
    hosts.into_iter().find(|h| h.name == "esx01")
}

/// The newest slot of a host's file on a datastore.
fn slot(two: &Two, name: &str) -> Option<u64> {
    let start = format!("dockvols/.vdvs/host.{}.", two.near.host);
    let files = two.near.world.files(&ds(name));
    let slots = files.iter().filter_map(|f| f.strip_prefix(&start));
    slots.filter_map(|s| s.parse().ok()).max()
}

#[tokio::test(start_paused = true)]
async fn each_host_shows_the_others_with_their_vms_what_these_hold_and_when_that_was_told() {
    let two = Two::new();
    introduce(&two);
    two.held(&[]).await;
    until("it is told", async || {
        near_from_far(&two).await.is_some_and(|h| h.vms == 3)
    })
    .await;
    let near = near_from_far(&two).await.unwrap();
    assert_eq!((near.local, near.kind.as_str()), (false, "sim"));
    assert_eq!(near.program, "vdvsd 1");
    assert_eq!((near.guests_connected, near.volumes_held), (1, 1));
    assert_eq!(near.datastores, ["ds"]);
    assert_eq!(near.warnings, Vec::<String>::new());
    let far = &two.far.admin_hosts().await.unwrap()[0];
    assert_eq!((far.local, far.name.as_str(), far.vms), (true, "esx02", 2));
    assert_eq!(near.configs, far.configs, "they follow one configuration");

    let vms = two.far.admin_vms().await.unwrap();
    let names: Vec<_> = vms
        .iter()
        .map(|v| (v.vm.name.as_str(), v.host.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("far1", "esx02"),
            ("far2", "esx02"),
            ("vm1", "esx01"),
            ("vm2", "esx01"),
            ("vm3", "esx01")
        ]
    );
    assert_eq!(vms[0].told_at, None);
    assert_eq!(vms[2].told_at, Some(near.told_at));
    assert_eq!(vms[2].volumes, ["db@ds"]);
    assert_eq!(vms[2].guest, (true, "vdvs-plugin 1".to_owned()));
    assert_eq!(
        vms[2].group.as_ref().map(ToString::to_string).as_deref(),
        Some("_DEFAULT")
    );
    let status = two.far.admin_status().await.unwrap();
    assert_eq!(
        (status.hosts, status.vms, status.config_mode.as_str()),
        (2, 2, "MultiNode")
    );
    assert!(status.open_to_all && status.lock_hint.contains("vmgroup rm --name=_DEFAULT"));
    assert_eq!(status.warnings, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_soon_and_seldom_and_quiet_is_told_by_a_heartbeat_alone() {
    let two = Two::new();
    sleep(Duration::from_secs(60)).await;
    let files = two.near.world.files(&ds("ds"));
    assert!(
        !files.iter().any(|f| f.starts_with("dockvols")),
        "nobody uses it yet: {files:?}"
    );
    two.held(&[]).await;
    until("it is told", async || slot(&two, "ds").is_some()).await;
    sleep(Duration::from_secs(40)).await;
    let quiet = slot(&two, "ds").unwrap();
    sleep(Duration::from_secs(200)).await;
    assert_eq!(slot(&two, "ds").unwrap(), quiet, "nothing changed");
    let begun = Instant::now();
    two.near.world.power(&two.near.vms[2], Power::Off);
    until("the news is told", async || {
        slot(&two, "ds").unwrap() > quiet
    })
    .await;
    assert!(
        begun.elapsed() <= Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let told = slot(&two, "ds").unwrap();
    for on in [true, false].into_iter().cycle().take(30) {
        let power = if on { Power::On } else { Power::Off };
        two.near.world.power(&two.near.vms[2], power);
        sleep(Duration::from_secs(2)).await;
    }
    assert!(
        slot(&two, "ds").unwrap() - told <= 2,
        "sixty seconds of changes"
    );
    let before = slot(&two, "ds").unwrap();
    sleep(Duration::from_secs(650)).await;
    let beats = slot(&two, "ds").unwrap() - before;
    assert!((2..=4).contains(&beats), "{beats} heartbeats");
    let files = two.near.world.files(&ds("ds"));
    let slots = files
        .iter()
        .filter(|f| f.contains(&format!("host.{}.", two.near.host)));
    assert!(slots.count() <= 2, "older slots go: {files:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_is_named_and_hides_nobody_else() {
    let two = Two::new();
    two.held(&[]).await;
    until("it is told", async || near_from_far(&two).await.is_some()).await;
    let world = &two.near.world;
    let put = |host: &str, slot: &str, bytes: &[u8]| {
        let path = format!("dockvols/.vdvs/host.{host}.{slot}");
        world.put_file(&ds("ds"), &path, bytes);
    };
    let (torn, newer, stranger) = (
        "00000000-0000-0000-0000-0000000000aa",
        "00000000-0000-0000-0000-0000000000bb",
        "00000000-0000-0000-0000-0000000000cc",
    );
    put(torn, "1", b"vdvs host 1 3 00000000\nxyz");
    // `{}` and its checksum, of a format to come.
    put(newer, "1", b"vdvs host 9 2 a3a95f5e\n{}");
    put(newer, "2", &world_frame("{}", 9));
    put(stranger, "7", &world_frame("{\"host\":1}", 1));
    put("not-a-uuid", "1", b"x");
    put(&two.near.host.to_string(), "01", b"x");
    sleep(Duration::from_secs(2)).await;
    let hosts = two.far.admin_hosts().await.unwrap();
    let named: Vec<_> = hosts.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(named, ["esx02", "esx01", newer, stranger]);
    assert!(
        hosts[2].warnings[0].contains("format 9"),
        "{:?}",
        hosts[2].warnings
    );
    assert_eq!(hosts[1].warnings, Vec::<String>::new());
    let warnings = two.far.admin_status().await.unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with(&format!("host {newer}: ")),
        "{warnings:?}"
    );
}

/// A whole file of this kind, as its writer makes it.
fn world_frame(body: &str, version: u32) -> Vec<u8> {
    let crc = crc32fast::hash(body.as_bytes());
    format!("vdvs host {version} {} {crc:08x}\n{body}", body.len()).into_bytes()
}

#[tokio::test(start_paused = true)]
async fn volumes_that_only_one_host_sees_are_told_and_warned_of() {
    let near = Lab::with_datastores(&["ds", "local"]);
    let two = Two::over(near);
    two.near.world.reach(two.far_host, &ds("local"), false);
    two.held(&[]).await;
    let made = two.near.create(1, "alone@local").await;
    until("it is told", async || {
        let listed = two.far.admin_volumes().await.unwrap();
        listed.volumes.iter().any(|v| v.told.is_some())
    })
    .await;
    let listed = two.far.admin_volumes().await.unwrap();
    let names: Vec<_> = listed
        .volumes
        .iter()
        .map(|v| v.view.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["db", "alone"],
        "what is seen here is not told twice"
    );
    let alone = &listed.volumes[1];
    assert_eq!(alone.view.id, made.id);
    assert_eq!(alone.view.datastore, ds("local"));
    assert_eq!(alone.told.as_ref().unwrap().0, "esx01");
    assert!(alone.disk_path.starts_with("dockvols/"));
    assert_eq!(listed.unreadable, [ds("local")]);

    let status = two.near.engine.admin_status().await.unwrap();
    let lonely = "datastore local: only this host sees it; its volumes (1, 0 attached) cannot follow their VMs to another \
                  host: share the datastore, or move them";
    assert_eq!(status.warnings, [lonely]);
    let why = two.far.admin_why("alone").await.unwrap();
    assert!(
        why.headline
            .starts_with("datastore local cannot be read on this host"),
        "{why:?}"
    );
    assert_eq!(why.volume.unwrap().view.id, made.id);
    two.near.world.reach(two.far_host, &ds("local"), true);
    sleep(Duration::from_secs(40)).await;
    assert_eq!(
        two.near.engine.admin_status().await.unwrap().warnings,
        Vec::<String>::new()
    );
    let listed = two.far.admin_volumes().await.unwrap();
    assert!(listed.volumes.iter().all(|v| v.told.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_falls_silent_is_warned_of_for_a_week_and_then_only_shown() {
    let mut two = Two::new();
    two.held(&[]).await;
    until("it is told", async || near_from_far(&two).await.is_some()).await;
    two.kill_near();
    sleep(Duration::from_secs(300)).await;
    assert_eq!(
        two.far.admin_status().await.unwrap().warnings,
        Vec::<String>::new()
    );
    sleep(Duration::from_secs(420)).await;
    let warnings = two.far.admin_status().await.unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "host esx01: silent for 12 min: is its agent running, and does it reach a datastore that is seen here?"
        ]
    );
    assert_eq!(
        near_from_far(&two).await.unwrap().vms,
        3,
        "what it told last stays to be seen"
    );
    two.kill_far();
    sleep(Duration::from_secs(8 * 24 * 3600)).await;
    two.start_far();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        two.far.admin_status().await.unwrap().warnings,
        Vec::<String>::new()
    );
    let near = near_from_far(&two).await.unwrap();
    assert_eq!(near.warnings, ["silent for 8 days: it counts as gone"]);
}

#[tokio::test(start_paused = true)]
async fn a_datastore_that_hangs_is_tried_once_and_the_others_are_told_elsewhere() {
    let near = Lab::with_datastores(&["ds", "other"]);
    let two = Two::over(near);
    two.held(&[]).await;
    two.near.create(1, "more@other").await;
    until("it is told twice", async || {
        slot(&two, "ds").is_some() && slot(&two, "other").is_some()
    })
    .await;
    sleep(Duration::from_secs(40)).await;
    two.near.world.hang(two.near.host, &ds("ds"), true);
    let (stuck, other) = (slot(&two, "ds"), slot(&two, "other"));
    two.near.world.power(&two.near.vms[2], Power::Off);
    until("it is told on the other one", async || {
        slot(&two, "other") > other
    })
    .await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(slot(&two, "ds"), stuck);
    let vms = two.far.admin_vms().await.unwrap();
    assert_eq!(
        vms.last().unwrap().power,
        Power::Off,
        "the newest word counts"
    );
    let defaults = Settings::default();
    assert!(defaults.status_every >= Duration::from_secs(30));
    two.near.world.hang(two.near.host, &ds("ds"), false);
    two.near.world.power(&two.near.vms[2], Power::On);
    let deadline = Instant::now() + defaults.status_heartbeat + Duration::from_secs(60);
    while slot(&two, "ds") == stuck {
        assert!(Instant::now() < deadline, "it is tried again");
        sleep(Duration::from_secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_moved_is_shown_once_where_it_is() {
    let two = Two::new();
    two.held(&[]).await;
    until("it is told", async || near_from_far(&two).await.is_some()).await;
    two.near.world.register(&two.near.vms[0], two.far_host);
    let vms = two.far.admin_vms().await.unwrap();
    let moved: Vec<_> = vms.iter().filter(|v| v.vm.name == "vm1").collect();
    assert_eq!(moved.len(), 1);
    assert_eq!((moved[0].host.as_str(), moved[0].told_at), ("esx02", None));
    sleep(Duration::from_secs(40)).await;
    let vms = two.near.engine.admin_vms().await.unwrap();
    let moved: Vec<_> = vms.iter().filter(|v| v.vm.name == "vm1").collect();
    assert_eq!(moved.len(), 1);
    assert_eq!(moved[0].host, "esx02");
    assert!(moved[0].told_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_datastore_of_that_kind_needs_no_other_host_to_be_told_on() {
    let two = Two::new();
    two.near
        .world
        .add_datastore(&ds("late"), DatastoreKind::Nfs);
    two.near.create(1, "v@late").await;
    until("it is told", async || slot(&two, "late").is_some()).await;
    assert_eq!(slot(&two, "ds"), None, "nobody uses that one");
}
