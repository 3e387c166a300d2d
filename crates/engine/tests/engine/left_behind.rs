//! What a dead agent leaves under way, or a dead host in its VM's hands: who ends it, when, and by what is then there.

use std::time::Duration;

use tokio::time::sleep;
use vdvs_domain::{Epoch, Error};
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Fault, When};

use crate::hosts::Two;
use crate::support::{Lab, WAIT, disk, ds, volume};

/// The agent of a lab dies when it is about to write that the volume `db` is made.
async fn dies_creating(lab: &Lab) {
    let probe = Lab::new();
    probe.session.begin_trace();
    probe.create(1, "db").await;
    let calls = probe.session.end_trace();
    let last = calls.iter().rposition(|c| c.verb == "write").unwrap();
    let dies = Fault::Crash(When::Before);
    lab.session.plan(u64::try_from(last).unwrap(), dies);
    tokio::select! {
        biased;
        made = lab.try_create(1, 1, "db", &[]) => panic!("{made:?}"),
        () = lab.session.died() => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_disk_is_whole_is_finished_and_not_undone() {
    let mut lab = Lab::new();
    dies_creating(&lab).await;
    lab.restart();
    lab.engine.sweep().await;
    let made = lab.get(1, "db").await.unwrap();
    assert!(lab.world.read_disk(&disk(&made)).is_some());
    lab.attach(1, "db").await;
}

/// Courtesy towards an agent that may only be slow. To the millisecond, since both hosts have one clock here.
#[tokio::test(start_paused = true)]
async fn another_hosts_create_is_finished_by_anybody_when_it_is_older_than_ten_minutes() {
    let lab = Lab::new();
    let (_, other) = lab.second_host();
    dies_creating(&lab).await;
    let caller = lab.caller(1);
    let made = async || {
        other.sweep().await;
        other.get(&caller, &volume("db")).await.is_ok()
    };
    sleep(Duration::from_millis(600_000)).await;
    assert!(!made().await);
    sleep(Duration::from_millis(1)).await;
    assert!(made().await);
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_volume_from_being_settled_is_said_with_its_name() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.world.power(&lab.vms[0], Power::Off);
    lab.session.plan_at("detach", Fault::Fail);
    lab.engine.sweep().await;
    let said = lab.engine.admin_status().await.unwrap().warnings;
    assert!(
        said.iter().any(|w| w.starts_with("volume db@ds: ")),
        "{said:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_configuration_file_of_a_dead_vm_may_be_long() {
    let two = Two::new().quiet();
    let (made, _) = two.held(&[]).await;
    two.near.world.crash_host(two.near.host);
    let long = "comment = \"a virtual machine with very many devices\"\n".repeat(2000);
    two.near
        .world
        .put_file(&ds("ds"), "vm1/vm1.vmx", long.as_bytes());
    two.attach_far(1, WAIT).await.unwrap();
    assert_eq!(two.writers(&made), ["far1"]);
}

/// `vm1` is off and its agent does nothing. The other host proves that in five seconds; then the call after the last one
/// of `verb` takes two seconds.
async fn proven_up_to(verb: &str) -> Two {
    let off = async || {
        let two = Two::new().quiet();
        two.held(&[]).await;
        two.near.world.power(&two.near.vms[0], Power::Off);
        two
    };
    let probe = off().await;
    probe.far_session.begin_trace();
    probe.attach_far(1, WAIT).await.unwrap();
    let calls = probe.far_session.end_trace();
    let released = calls.iter().position(|c| c.verb == "audit").unwrap();
    let at = calls[..released].iter().rposition(|c| c.verb == verb);
    let two = off().await;
    let slow = Fault::Slow(Duration::from_secs(2));
    let next = at.unwrap() + 1;
    two.far_session.plan(u64::try_from(next).unwrap(), slow);
    two
}

/// The proof is of the attachment that was looked at; when the record is read for the release the VM has another one.
#[tokio::test(start_paused = true)]
async fn a_proof_does_not_release_what_came_after_it() {
    let two = proven_up_to("lock").await;
    let vm = &two.near.vms[0];
    let again = async {
        sleep(Duration::from_secs(6)).await;
        assert!(two.near.world.power(vm, Power::On));
        two.near.attach(1, "db").await
    };
    let (got, again) = tokio::join!(two.attach_far(1, Duration::from_secs(9)), again);
    got.unwrap_err();
    assert_eq!(again.epoch, Epoch::new(2));
    let view = two.far_view().await;
    assert!(view.ownership.is_owned_by(vm), "{:?}", view.ownership);
}

/// The owner's host begins to release the volume between the last look of the other one and its write.
#[tokio::test(start_paused = true)]
async fn a_release_that_another_host_has_under_way_is_its_own_to_end() {
    let two = proven_up_to("vms").await;
    let here = async {
        sleep(Duration::from_secs(6)).await;
        let slow = Fault::Slow(Duration::from_secs(5));
        two.near.session.plan_at("detach", slow);
        two.near.attach(2, "db").await
    };
    let (there, here) = tokio::join!(two.attach_far(1, WAIT), here);
    assert!(matches!(there, Err(Error::Contended { .. })), "{there:?}");
    assert_eq!(here.epoch, Epoch::new(2));
    assert_eq!(two.audit(two.far_host, "release"), []);
    assert_eq!(two.audit(two.near.host, "release").len(), 1);
}
