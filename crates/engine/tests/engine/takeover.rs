//! Volumes of owners that died, moved, or lost their disk.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use vdvs_domain::{Epoch, ErrorKind, Ownership};
use vdvs_engine::api::Notice;
use vdvs_engine::ports::{DiskPath, Power};
use vdvs_host_sim::{Fault, When};

use crate::hosts::Two;
use crate::support::{Lab, WAIT, call, disk, ds, rand_request, until, volume};

#[tokio::test(start_paused = true)]
async fn a_powered_off_owner_loses_its_volume_to_who_asks() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    assert!(lab.world.power(&lab.vms[0], Power::Off));
    let mut notices = lab.engine.watch(&lab.vms[0]);
    let begun = Instant::now();
    let taken = lab.attach(2, "db").await;
    assert!(begun.elapsed() < Duration::from_millis(10));
    assert_eq!(taken.epoch, Epoch::new(2));
    assert_eq!(lab.world.writers(&disk(&made)), ["vm2"]);
    assert!(
        lab.world.devices(&lab.vms[0]).is_empty(),
        "it boots without it"
    );
    assert_eq!(
        notices.try_recv().unwrap(),
        Notice::Superseded {
            volume: made.id,
            epoch: Epoch::new(1)
        }
    );
    let audit = lab.world.audit(lab.host);
    assert!(
        audit
            .iter()
            .any(|e| e.verb == "release" && e.detail.contains("power-off release"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiter_gets_the_volume_when_its_owner_loses_power() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let _reconciler = lab.reconcile();
    let cut = async {
        sleep(Duration::from_secs(5)).await;
        lab.world.power(&lab.vms[0], Power::Off);
        Instant::now()
    };
    let (got, cut_at) = tokio::join!(lab.try_attach(2, 1, "db", WAIT), cut);
    got.unwrap();
    assert!(
        cut_at.elapsed() < Duration::from_millis(50),
        "{:?}",
        cut_at.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn power_events_release_volumes_that_nobody_waits_for() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let _reconciler = lab.reconcile();
    sleep(Duration::from_secs(1)).await;
    lab.world.power(&lab.vms[0], Power::Off);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(lab.get(2, "db").await.unwrap().ownership, Ownership::Free);
    assert!(lab.world.devices(&lab.vms[0]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_suspended_owner_keeps_its_volume() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.world.power(&lab.vms[0], Power::Suspended);
    let err = lab
        .try_attach(2, 1, "db", Duration::from_secs(60))
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Timeout);
    assert!(lab.world.power(&lab.vms[0], Power::On));
    assert_eq!(lab.world.writers(&disk(&made)), ["vm1"]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_not_here_is_proven_dead_by_its_lock() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let (other, _engine) = lab.second_host();
    lab.world.register(&lab.vms[0], other);
    let err = lab
        .try_attach(2, 1, "db", Duration::from_secs(20))
        .await
        .unwrap_err();
    assert_eq!(
        err.kind(),
        ErrorKind::Timeout,
        "it runs there and holds the lock"
    );
    lab.world.linger_locks(&lab.vms[0], Duration::from_secs(8));
    lab.world.power(&lab.vms[0], Power::Off);
    let got = lab.try_attach(2, 2, "db", WAIT).await.unwrap();
    let waited = got.waited.as_secs();
    assert!(
        (13..16).contains(&waited),
        "8 s of lock and 5 s of proof, not {waited}"
    );
    assert_eq!(lab.world.writers(&disk(&made)), ["vm2"]);
}

#[tokio::test(start_paused = true)]
async fn unknown_locks_and_suspended_vms_elsewhere_prove_nothing() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let (other, _engine) = lab.second_host();
    lab.world.register(&lab.vms[0], other);
    lab.world.power(&lab.vms[0], Power::Suspended);
    let err = lab
        .try_attach(2, 1, "db", Duration::from_secs(30))
        .await
        .unwrap_err();
    assert_eq!(
        err.kind(),
        ErrorKind::Timeout,
        "suspended: the lock is free"
    );
    lab.world.power(&lab.vms[0], Power::Off);
    lab.world.hide_locks(true);
    let err = lab
        .try_attach(2, 2, "db", Duration::from_secs(30))
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Timeout, "unknown");
}

/// Whether the VM is suspended cannot be told then.
#[tokio::test(start_paused = true)]
async fn who_cannot_read_a_dead_vms_configuration_file_says_so_until_it_can() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let (other, _engine) = lab.second_host();
    lab.world.register(&lab.vms[0], other);
    lab.world.power(&lab.vms[0], Power::Off);
    let config = lab.world.file(&ds("ds"), "vm1/vm1.vmx").unwrap();
    lab.world.lose_file(&ds("ds"), "vm1/vm1.vmx");
    let wait = Duration::from_secs(20);
    let err = lab.try_attach(2, 1, "db", wait).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Timeout);
    assert!(err.to_string().contains("cannot be read"), "{err}");
    let warnings = lab.engine.admin_status().await.unwrap().warnings;
    assert!(
        matches!(&warnings[..], [one] if one.contains("[ds] vm1/vm1.vmx: it cannot be read")
            && one.contains("vdvs volume detach --force")),
        "{warnings:?}"
    );
    lab.world.put_file(&ds("ds"), "vm1/vm1.vmx", &config);
    lab.try_attach(2, 2, "db", wait).await.unwrap();
    let warnings = lab.engine.admin_status().await.unwrap().warnings;
    assert_eq!(warnings, Vec::<String>::new());
}

/// The VM is resumed while the call of this number, counted from the attach, is under way. `false`: in the time that a
/// proof takes and two seconds more there was none of this number.
async fn is_resumed_at(call: u64) -> bool {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let (other, _engine) = lab.second_host();
    lab.world.register(&lab.vms[0], other);
    lab.world.power(&lab.vms[0], Power::Suspended);
    let begun = lab.session.calls();
    lab.session
        .plan(call, Fault::Slow(Duration::from_millis(100)));
    let wait = Duration::from_secs(7);
    let resumed = async {
        let end = Instant::now() + wait;
        while lab.session.calls() <= begun + call {
            if Instant::now() > end {
                return false;
            }
            sleep(Duration::from_millis(10)).await;
        }
        let resumed = lab.world.power(&lab.vms[0], Power::On);
        assert!(resumed, "call {call}: somebody else has its disk");
        true
    };
    let (got, resumed) = tokio::join!(lab.try_attach(2, 1, "db", wait), resumed);
    assert!(got.is_err(), "call {call}: {got:?}");
    let view = lab.get(1, "db").await.unwrap();
    assert!(view.ownership.is_owned_by(&lab.vms[0]), "call {call}");
    let writers = lab.world.writers(&disk(&made));
    assert_eq!(writers.contains(&"vm1".to_owned()), resumed, "call {call}");
    assert!(writers.len() <= 1, "call {call}: {writers:?}");
    resumed
}

/// A lock that was free just now, and a configuration file that names no saved state any more, are no proof together.
#[tokio::test(start_paused = true)]
async fn a_vm_that_is_resumed_at_any_call_of_a_proof_keeps_its_volume() {
    let mut call = 0;
    while is_resumed_at(call).await {
        call += 1;
    }
    assert!(call > 50, "{call} calls");
}

#[tokio::test(start_paused = true)]
async fn the_hypervisors_lock_has_the_last_word() {
    let (lab, made) = Lab::with_lingering_lock(Duration::from_secs(4)).await;
    let got = lab.try_attach(2, 1, "db", WAIT).await.unwrap();
    assert_eq!(got.waited.as_secs(), 4);
    assert_eq!(
        got.epoch,
        Epoch::new(3),
        "refused once, then looked at until it was free"
    );
    assert_eq!(lab.world.writers(&disk(&made)), ["vm2"]);
    assert!(
        lab.session.calls() < 2000,
        "waiting is not spinning: {}",
        lab.session.calls()
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_vanished_from_its_vm_is_released_by_the_sweep() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let mut notices = lab.engine.watch(&lab.vms[0]);
    lab.world.pull_disk(&lab.vms[0], &disk(&made));
    lab.engine.sweep().await;
    assert_eq!(lab.get(1, "db").await.unwrap().ownership, Ownership::Free);
    assert!(matches!(
        notices.try_recv().unwrap(),
        Notice::Superseded { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn the_reconciler_starts_with_what_was_left() {
    let mut lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.world.power(&lab.vms[0], Power::Off);
    lab.restart();
    let _reconciler = lab.reconcile();
    until("the release", async || {
        lab.get(2, "db")
            .await
            .is_ok_and(|v| v.ownership == Ownership::Free)
    })
    .await;
}

/// The host of the owner died while it detached, and that VM exists no more: nobody ends the detach. The one before it,
/// started again with its old configuration, has the lock.
#[tokio::test(start_paused = true)]
async fn a_vm_that_booted_with_anothers_disk_gives_it_back_though_something_is_under_way_there() {
    let mut two = Two::new();
    let (made, _) = two.held(&[]).await;
    two.crash_near();
    let got = two.attach_far(1, WAIT).await.unwrap();
    two.far_session
        .plan_at("detach", Fault::Crash(When::Before));
    let (caller, gone) = (two.far_caller(1), call(rand_request()));
    tokio::select! {
        biased;
        _ = two.far.detach(&caller, &gone, made.id, got.epoch) => unreachable!("its agent died"),
        () = two.far_session.died() => {}
    }
    two.crash_far();
    two.near.world.delete_vm(&two.far_vms[0]);
    let vm = two.near.vms[0].clone();
    assert!(two.near.world.power(&vm, Power::On), "the lock is free");
    assert!(two.near.world.power(&two.near.vms[1], Power::On));
    two.start_near();
    let record = two.record().await;
    assert_eq!(record["operation"]["kind"], "detach");
    let attached = two.near.try_attach(2, rand_request(), "db", WAIT).await;
    assert!(attached.unwrap().waited < Duration::from_secs(10));
    assert_eq!(two.writers(&made), ["vm2"]);
    two.expect_taken_out("foreign-disk: taken out of VM vm1, which runs");
}

/// Another host's VM attaches the volume `db` of `vm1`, gives it back and removes it.
async fn removes_it_from_afar(two: &Two) {
    let got = two.attach_far(1, WAIT).await.unwrap();
    two.detach_far(1, &got).await;
    let (caller, gone) = (two.far_caller(1), call(rand_request()));
    let removed = two.far.delete(&caller, &gone, &volume("db"), None).await;
    removed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_vm_starts_whose_former_volume_was_removed_while_its_host_was_away() {
    let mut two = Two::new();
    two.held(&[]).await;
    two.crash_near();
    removes_it_from_afar(&two).await;
    let vm = two.near.vms[0].clone();
    assert!(
        !two.near.world.power(&vm, Power::On),
        "its configuration names a disk that is gone"
    );
    two.start_near();
    until("the VM starts", async || {
        two.near.world.power(&vm, Power::On)
    })
    .await;
    assert!(two.near.world.devices(&vm).is_empty());
    two.expect_taken_out("unknown-disk: taken out of VM vm1, which is off");
}

/// `vm1` has the volume `db` in its configuration, whose disk another host removed when the locks of this one had
/// lapsed. This one is still cut off.
async fn cut_off_with_a_removed_volume() -> Two {
    let two = Two::new();
    two.held(&[]).await;
    two.near.world.set_lapse(Duration::from_secs(8));
    let (host, storage) = (two.near.host, ds("ds"));
    two.near.world.cut_off_from(host, &storage, true);
    two.near.world.reach(host, &storage, false);
    removes_it_from_afar(&two).await;
    assert_eq!(two.near.world.devices(&two.near.vms[0]).len(), 1);
    two
}

fn is_back(two: &Two) {
    let (host, storage) = (two.near.host, ds("ds"));
    two.near.world.reach(host, &storage, true);
    two.near.world.cut_off_from(host, &storage, false);
}

#[tokio::test(start_paused = true)]
async fn a_running_vm_loses_the_dead_entry_of_a_volume_that_was_removed_while_its_host_was_cut_off()
{
    let two = cut_off_with_a_removed_volume().await;
    let vm = two.near.vms[0].clone();
    two.near.engine.sweep().await;
    assert_eq!(
        two.near.world.devices(&vm).len(),
        1,
        "what cannot be looked at is not gone"
    );
    is_back(&two);
    until("the dead entry is gone", async || {
        two.near.world.devices(&vm).is_empty()
    })
    .await;
    assert_eq!(two.near.world.power_of(&vm), Some(Power::On));
    two.expect_taken_out("unknown-disk: taken out of VM vm1, which runs");
    two.near.create(1, "db").await;
    two.near.attach(1, "db").await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_vm_keeps_the_dead_entry_of_a_removed_volume_until_it_is_off() {
    let two = cut_off_with_a_removed_volume().await;
    let vm = two.near.vms[0].clone();
    assert!(two.near.world.power(&vm, Power::Suspended));
    is_back(&two);
    until("it is said", async || {
        said(&two.near).await.contains("it goes when that is off")
    })
    .await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(two.near.world.devices(&vm).len(), 1);
    assert!(
        !two.near.world.power(&vm, Power::On),
        "a disk that is gone keeps it from being resumed"
    );
    assert!(two.near.world.power(&vm, Power::Off));
    until("the dead entry is gone", async || {
        two.near.world.devices(&vm).is_empty()
    })
    .await;
    two.expect_taken_out("unknown-disk: taken out of VM vm1, which is off");
}

/// What is said of disks that no record explains.
async fn said(lab: &Lab) -> String {
    let warnings = lab.engine.admin_status().await.unwrap().warnings;
    let unknown = warnings.iter().filter(|w| w.contains("unknown-disk"));
    unknown.cloned().collect::<Vec<_>>().join("\n")
}

/// A volume's disk in the configuration of `vm1`, which runs; neither record nor disk is there.
async fn without_record_and_disk() -> (Lab, DiskPath) {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.try_delete(1, rand_request(), "db").await.unwrap();
    lab.world.plug_disk(&lab.vms[0], &disk(&made));
    (lab, disk(&made))
}

fn taken_out(lab: &Lab) -> usize {
    let audit = lab.world.audit(lab.host);
    audit.iter().filter(|e| e.verb == "take out").count()
}

#[tokio::test(start_paused = true)]
async fn a_dead_entry_that_the_guest_uses_stays_until_it_lets_go() {
    let (lab, gone) = without_record_and_disk().await;
    lab.world.use_disk(&lab.vms[0], &gone, true);
    lab.engine.sweep().await;
    assert_eq!(lab.world.devices(&lab.vms[0]).len(), 1);
    let odd = said(&lab).await;
    assert!(
        odd.contains("stop what uses it there, or power the VM off"),
        "{odd}"
    );
    assert_eq!(taken_out(&lab), 0);
    lab.world.use_disk(&lab.vms[0], &gone, false);
    lab.engine.sweep().await;
    assert!(lab.world.devices(&lab.vms[0]).is_empty());
    assert_eq!((said(&lab).await.as_str(), taken_out(&lab)), ("", 1));
}

/// An export whose file system is not mounted on its server is empty, and everything on it is back with that.
#[tokio::test(start_paused = true)]
async fn nothing_is_taken_out_of_a_running_vm_while_its_datastore_shows_nothing_of_ours() {
    let (lab, _) = without_record_and_disk().await;
    let marker = "dockvols/.vdvs/datastore.json";
    let bytes = lab.world.file(&ds("ds"), marker).unwrap();
    lab.world.lose_file(&ds("ds"), marker);
    lab.engine.sweep().await;
    assert_eq!(lab.world.devices(&lab.vms[0]).len(), 1);
    let odd = said(&lab).await;
    assert!(
        odd.contains("nothing of ours is on its datastore now"),
        "{odd}"
    );
    lab.world.put_file(&ds("ds"), marker, &bytes);
    lab.engine.sweep().await;
    assert!(lab.world.devices(&lab.vms[0]).is_empty());
    assert_eq!((said(&lab).await.as_str(), taken_out(&lab)), ("", 1));
}

/// A look begins with a list of disks that may be old when the look is over.
#[tokio::test(start_paused = true)]
async fn a_disk_that_left_its_vm_and_was_removed_during_a_look_is_neither_odd_nor_taken_out() {
    let (lab, gone) = without_record_and_disk().await;
    let slow = Fault::Slow(Duration::from_secs(1));
    lab.session.plan_at("stat_disk", slow);
    let leaves = async {
        sleep(Duration::from_millis(500)).await;
        lab.world.pull_disk(&lab.vms[0], &gone);
    };
    tokio::join!(lab.engine.sweep(), leaves);
    assert_eq!((said(&lab).await.as_str(), taken_out(&lab)), ("", 0));
}

#[tokio::test(start_paused = true)]
async fn a_disk_without_a_record_stays_in_a_running_vm_while_its_file_is_there() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let slot = |f: &String| f.contains(&format!("db.{}.vdvs.", made.id.id8()));
    for file in lab.world.files(&ds("ds")).into_iter().filter(slot) {
        lab.world.lose_file(&ds("ds"), &file);
    }
    lab.engine.sweep().await;
    assert_eq!(lab.world.writers(&disk(&made)), ["vm1"]);
    let odd = said(&lab).await;
    assert!(odd.ends_with("it has no record"), "{odd}");
}
