//! `doctor` over two hosts, and what guests report.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{advance, sleep};
use vdvs_domain::{Epoch, VmId};
use vdvs_engine::api::{About, Guests, InventoryItem, Repaired};
use vdvs_engine::ports::Power;

use crate::doctor::{find, fix, found, is_repaired};
use crate::hosts::Two;
use crate::support::{Lab, disk, ds, until};

/// A plugin of this version in each VM.
#[derive(Debug)]
struct Plugins(&'static str);

impl Guests for Plugins {
    fn seen(&self, _: &VmId) -> (bool, String) {
        (true, self.0.to_owned())
    }
}

fn about(agent: &str, plugin: &'static str) -> About {
    About {
        program: agent.to_owned(),
        guests: Arc::new(Plugins(plugin)),
    }
}

/// Until each host has told the other what it has now.
pub(crate) async fn told(two: &Two) {
    sleep(Duration::from_secs(40)).await;
    until("both hosts are known", async || {
        let near = two.near.engine.admin_hosts().await.unwrap();
        let far = two.far.admin_hosts().await.unwrap();
        near.len() == 2 && far.len() == 2
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_off_on_another_host_is_named_with_the_host_where_it_is_repaired() {
    let mut two = Two::new();
    two.held(&[]).await;
    told(&two).await;
    assert_eq!(found(&two.far).await, []);
    two.near.world.power(&two.near.vms[0], Power::Suspended);
    told(&two).await;
    let suspended = find(&two.far, "suspended-owner").await;
    assert!(suspended.command.contains("on host esx01"), "{suspended:?}");
    two.near.world.power(&two.near.vms[0], Power::On);
    told(&two).await;
    two.kill_near();
    sleep(Duration::from_secs(600)).await;
    let seen = found(&two.far).await;
    assert_eq!(seen, [("silent-host", "esx01".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_no_host_has_loses_its_volume_only_when_nobody_can_write() {
    let mut two = Two::new();
    let (made, _) = two.held(&[]).await;
    told(&two).await;
    let world = two.near.world.clone();
    world.linger_locks(&two.near.vms[0], Duration::from_secs(60));
    world.delete_vm(&two.near.vms[0]);
    told(&two).await;
    two.kill_near();
    let seen = find(&two.far, "missing-owner").await;
    assert_eq!(seen.object, "db@ds");
    world.hide_locks(true);
    let refused = fix(&two.far, "missing-owner").await;
    let [(Repaired::Refused, why)] = refused.as_slice() else {
        panic!("{refused:?}")
    };
    assert!(why.contains("nothing proves that it is dead"), "{why}");
    assert!(two.far_view().await.ownership.owner().is_some());
    world.hide_locks(false);
    sleep(Duration::from_secs(61)).await;
    world.delete_vm(&two.near.vms[0]);
    let fixed = fix(&two.far, "missing-owner").await;
    assert!(
        matches!(fixed.as_slice(), [(Repaired::Done, _)]),
        "{fixed:?}"
    );
    assert_eq!(two.writers(&made), Vec::<String>::new());
    two.attach_far(1, Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_moved_is_written_into_the_record() {
    let two = Two::new().quiet();
    two.held(&[]).await;
    two.near.world.register(&two.near.vms[0], two.far_host);
    is_repaired(&two.far, "moved-owner", "db@ds").await;
    assert_eq!(two.far_view().await.host_name, "esx02");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_comes_back_with_vms_that_run_elsewhere_is_warned_of_deleting_them() {
    let mut two = Two::new();
    let (made, _) = two.held(&[]).await;
    let world = two.near.world.clone();
    told(&two).await;
    // Its agent is up and has not come to it yet: what it does by itself is take the disk out.
    two.kill_near();
    two.near.restart();
    world.leave_registered(&two.near.vms[0], two.near.host);
    world.register(&two.near.vms[0], two.far_host);
    told(&two).await;
    let seen = find(&two.near.engine, "registered-twice").await;
    assert_eq!(seen.object, "vm1");
    assert!(seen.text.contains("db@ds"), "{seen:?}");
    assert_eq!(world.writers(&disk(&made)), ["vm1"], "it goes on there");
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_who_does_not_wait_any_more_is_withdrawn_and_a_renewed_one_stays() {
    let mut two = Two::new();
    two.held(&[]).await;
    told(&two).await;
    let near = Arc::clone(&two.near.engine);
    tokio::select! {
        waited = two.attach_far(1, Duration::from_secs(90)) => panic!("{waited:?}"),
        () = async {
            sleep(Duration::from_secs(60)).await;
            assert_eq!(found(&near).await, [], "it is renewed");
            two.far_session.crash();
        } => {}
    }
    two.kill_far();
    // What the agent does by itself too.
    let two = two.quiet();
    sleep(Duration::from_secs(60)).await;
    is_repaired(&near, "stale-claim", "db@ds").await;
    assert!(two.record().await["claim"].is_null());
}

#[tokio::test(start_paused = true)]
async fn datastores_of_one_host_and_older_programs_are_said() {
    let two = Two::over(Lab::with_datastores(&["ds", "own"]));
    two.near.world.reach(two.far_host, &ds("own"), false);
    two.near.create(1, "db2").await;
    two.near.create(1, "db@own").await;
    two.near
        .engine
        .introduce(about("vdvsd 0.6.0", "vdvs-plugin 0.5.9"));
    two.far
        .introduce(about("vdvsd 0.10.0", "vdvs-plugin 0.10.0"));
    sleep(Duration::from_secs(120)).await;
    told(&two).await;
    let seen = found(&two.near.engine).await;
    let names: Vec<_> = seen.iter().map(|(n, o)| (*n, o.as_str())).collect();
    assert_eq!(
        names,
        [
            ("lonely-datastore", "own"),
            ("old-agent", "esx01"),
            ("old-plugin", "vm1"),
            ("old-plugin", "vm2"),
            ("old-plugin", "vm3"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_guest_is_asked_for_what_it_does_not_know_and_warned_of_what_is_not_its_own() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let attached = lab.attach(1, "db").await;
    let report = async |epoch: Option<Epoch>| {
        let items: Vec<_> = epoch
            .into_iter()
            .map(|epoch| InventoryItem {
                volume: made.id,
                epoch,
                mounted: true,
            })
            .collect();
        let caller = lab.caller(1);
        lab.engine.report_inventory(&caller, &items).await.unwrap();
    };
    report(None).await;
    assert_eq!(found(&lab.engine).await, [], "it was told a moment ago");
    advance(Duration::from_secs(90)).await;
    report(None).await;
    let seen = find(&lab.engine, "unreported-volume").await;
    assert_eq!(seen.object, "db@ds");
    report(Some(attached.epoch)).await;
    assert_eq!(found(&lab.engine).await, []);
    lab.detach(1, &attached).await;
    assert_eq!(
        found(&lab.engine).await,
        [],
        "the report is older than that"
    );
    advance(Duration::from_secs(90)).await;
    report(Some(attached.epoch)).await;
    let seen = find(&lab.engine, "superseded-mount").await;
    assert!(seen.text.contains("vm1"), "{seen:?}");
    report(None).await;
    assert_eq!(found(&lab.engine).await, []);
}
