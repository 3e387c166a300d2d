//! Where a rule begins and ends: the round, the moment, the answer and the writer from which on something else happens.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use vdvs_domain::{Epoch, Error};
use vdvs_engine::api::Outcome;
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Event, Fault, When};

use crate::hosts::Two;
use crate::support::{Lab, WAIT, disk, rand_request, record, take};

/// Its owner is off whenever somebody looks whether to release the volume, and runs again when that is begun.
#[tokio::test(start_paused = true)]
async fn an_attach_that_others_always_undo_gives_up_after_its_rounds() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.world.power(&lab.vms[0], Power::Off);
    let (filed, mut records) = mpsc::unbounded_channel();
    lab.world.observe(move |_, event| {
        if let Event::Filed { bytes, .. } = event {
            let releases = String::from_utf8_lossy(bytes).contains("\"release\"");
            filed.send(releases).unwrap();
        }
    });
    let mut begun = 0;
    let mischief = async {
        while let Some(releases) = records.recv().await {
            begun += u32::from(releases);
            let power = match releases && begun < 40 {
                true => Power::On,
                false => Power::Off,
            };
            lab.world.power(&lab.vms[0], power);
        }
    };
    let refused = tokio::select! {
        refused = lab.try_attach(2, 1, "db", Duration::ZERO) => refused,
        () = mischief => unreachable!("the world is there"),
    };
    assert!(
        matches!(refused, Err(Error::Contended { .. })),
        "{refused:?}"
    );
    assert_eq!(begun, 17, "sixteen times anew");
}

/// The host cannot say whether the lock is free: the volume is tried every two seconds, each costs two changes.
#[tokio::test(start_paused = true)]
async fn a_lock_nobody_can_see_is_tried_now_and_then_only() {
    let (lab, made) = Lab::with_lingering_lock(Duration::from_secs(7)).await;
    lab.world.hide_locks(true);
    let got = lab.try_attach(2, 1, "db", WAIT).await.unwrap();
    assert_eq!(got.waited, Duration::from_secs(8), "the next try after 7 s");
    assert_eq!(got.epoch, Epoch::new(6), "refused at 0, 2, 4 and 6 s");
    assert_eq!(lab.world.writers(&disk(&made)), ["vm2"]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_gave_no_answer_is_asked_once_more() {
    for when in [When::Before, When::After] {
        let lab = Lab::new();
        let made = lab.create(1, "db").await;
        lab.session.plan_at("attach", Fault::NoAnswer(when));
        let held = lab.attach(1, "db").await;
        assert_eq!(held.epoch, Epoch::new(1), "{when:?}");
        assert_eq!(lab.world.writers(&disk(&made)), ["vm1"]);
        lab.session.plan_at("detach", Fault::NoAnswer(when));
        assert_eq!(lab.detach(1, &held).await, Outcome::Changed(()));
        assert!(lab.world.devices(&lab.vms[0]).is_empty(), "{when:?}");
    }
}

/// Twice no word that it was attached: the VM's device list has it, in the mode that was asked for.
#[tokio::test(start_paused = true)]
async fn a_disk_that_is_in_the_vm_after_all_is_attached() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.session.plan_at("attach", Fault::NoAnswer(When::After));
    lab.session.plan_at("attach", Fault::Fail);
    let held = lab.attach(1, "db").await;
    assert_eq!(held.epoch, Epoch::new(1));
    assert_eq!(lab.get(1, "db").await.unwrap().ownership.name(), "attached");
    assert_eq!(lab.world.writers(&disk(&made)), ["vm1"]);
}

/// A write that had its effect and no answer is found again as this request's own: nothing is begun or ended twice.
#[tokio::test(start_paused = true)]
async fn no_lost_answer_to_a_write_shows_in_an_attach_or_a_detach() {
    let mut writes = 0;
    loop {
        let lab = Lab::new();
        lab.create(1, "db").await;
        lab.session.begin_trace();
        let probe = lab.attach(1, "db").await;
        lab.detach(1, &probe).await;
        let calls = lab.session.end_trace();
        let mut at = calls.iter().enumerate().filter(|(_, c)| c.verb == "write");
        let Some((at, _)) = at.nth(writes) else { break };
        let lab = Lab::new();
        lab.create(1, "db").await;
        let lost = Fault::NoAnswer(When::After);
        lab.session.plan(u64::try_from(at).unwrap(), lost);
        let held = lab.attach(1, "db").await;
        assert_eq!(held.epoch, Epoch::new(1), "write {writes}");
        let left = lab.detach(1, &held).await;
        assert_eq!(left, Outcome::Changed(()), "write {writes}");
        writes += 1;
    }
    assert_eq!(writes, 4, "each begins and ends");
}

/// An attach that was taken for dead and ends long after: what another host has begun since is not its own to undo.
#[tokio::test(start_paused = true)]
async fn an_attach_that_fails_late_undoes_nothing_that_came_after_it() {
    let two = Two::new().quiet();
    let made = two.near.create(1, "db").await;
    let slow = |secs| Fault::Slow(Duration::from_secs(secs));
    two.near.session.plan_at("attach", slow(20));
    two.far_session.plan_at("attach", slow(30));
    let far = async {
        sleep(Duration::from_secs(1)).await;
        two.attach_far(1, WAIT).await
    };
    let off = async {
        sleep(Duration::from_secs(10)).await;
        assert_eq!(two.far_record().await["operation"]["kind"], "attach");
        two.near.world.power(&two.near.vms[0], Power::Off);
    };
    let near = two.near.try_attach(1, rand_request(), "db", Duration::ZERO);
    let begun = Instant::now();
    let (near, got, ()) = tokio::join!(near, far, off);
    assert!(near.unwrap_err().to_string().contains("not powered on"));
    assert_eq!(got.unwrap().epoch, Epoch::new(2));
    assert!(begun.elapsed() > Duration::from_secs(30), "the other order");
    assert_eq!(two.writers(&made), ["far1"]);
}

/// Nobody knows whether the host still does it: the record goes on saying that it is under way, until somebody can see.
#[tokio::test(start_paused = true)]
async fn a_detach_that_nobody_can_see_the_end_of_stays_under_way() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let held = lab.attach(1, "db").await;
    lab.lose_detach(1, 1, &held).await;
    let view = lab.get(1, "db").await.unwrap();
    assert_eq!(view.ownership.name(), "detaching");
    let again = lab.try_detach(1, 1, made.id, held.epoch).await;
    assert_eq!(again.unwrap(), Outcome::Unchanged(()), "it is done");
    assert!(lab.world.devices(&lab.vms[0]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_is_refused_is_given_up_and_one_without_answer_stays_under_way() {
    let state = async |lab: &Lab| {
        let record = record(&lab.engine).await;
        (
            record["operation"]["kind"].clone(),
            record["ownership"]["state"].clone(),
        )
    };
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.session.plan_at("fence", Fault::Fail);
    let refused = take(&lab.engine, "db", true).await.unwrap_err();
    assert!(
        matches!(refused, Error::HostFailed { .. }),
        "asked once: {refused}"
    );
    assert_eq!(state(&lab).await, (Value::Null, "attached".into()));
    assert_eq!(lab.world.writers(&disk(&made)), ["vm1"]);
    let lost = Fault::NoAnswer(When::Before);
    lab.session.plan_at("fence", lost);
    lab.session.plan_at("fence", lost);
    let unknown = take(&lab.engine, "db", true).await.unwrap_err();
    assert!(
        matches!(unknown, Error::Unresolved { .. }),
        "asked twice: {unknown}"
    );
    assert_eq!(state(&lab).await, ("fence".into(), "attached".into()));
    lab.session.plan_at("fence", lost);
    take(&lab.engine, "db", true).await.unwrap();
    assert_eq!(state(&lab).await, (Value::Null, "free".into()));
    assert!(lab.world.devices(&lab.vms[0]).is_empty());
}

/// Its disk is gone when the sweep looks first, and there when it looks under the volume's key.
#[tokio::test(start_paused = true)]
async fn a_disk_that_is_back_in_its_vm_is_not_called_vanished() {
    let gone = async || {
        let lab = Lab::new();
        let made = lab.create(1, "db").await;
        lab.attach(1, "db").await;
        lab.world.pull_disk(&lab.vms[0], &disk(&made));
        (lab, made)
    };
    let (probe, _) = gone().await;
    probe.session.begin_trace();
    probe.engine.sweep().await;
    let calls = probe.session.end_trace();
    // One for each VM, then the first look; what follows is under the key.
    let mut looks = calls.iter().enumerate().filter(|(_, c)| c.verb == "disks");
    let (first, _) = looks.nth(3).unwrap();
    let (lab, made) = gone().await;
    let slow = Fault::Slow(Duration::from_secs(1));
    lab.session.plan(u64::try_from(first).unwrap() + 1, slow);
    let back = async {
        sleep(Duration::from_millis(500)).await;
        lab.world.plug_disk(&lab.vms[0], &disk(&made));
    };
    tokio::join!(lab.engine.sweep(), back);
    let view = lab.get(1, "db").await.unwrap();
    assert!(view.ownership.is_owned_by(&lab.vms[0]));
    assert_eq!(lab.world.writers(&disk(&made)), ["vm1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_with_a_vm_is_ended_by_the_next_word_of_that_vm() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let held = lab.attach(1, "db").await;
    let _reconciler = lab.reconcile();
    sleep(Duration::from_secs(1)).await;
    lab.lose_detach(1, 1, &held).await;
    let state = async || lab.get(2, "db").await.unwrap().ownership.name();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(state().await, "detaching", "nobody ends it unasked");
    lab.world.power(&lab.vms[0], Power::Off);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(state().await, "free");
}

/// A look at a VM's disks reads the record, and waits for the key while that VM attaches the volume.
#[tokio::test(start_paused = true)]
async fn a_disk_that_became_its_vms_own_while_somebody_looked_is_not_taken_out() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.world.plug_disk(&lab.vms[0], &disk(&made));
    let slow = Fault::Slow(Duration::from_secs(1));
    lab.session.plan_at("write", slow);
    let look = async {
        sleep(Duration::from_millis(500)).await;
        lab.engine.sweep().await;
    };
    let (held, ()) = tokio::join!(lab.attach(1, "db"), look);
    assert_eq!(lab.world.writers(&disk(&made)), ["vm1"]);
    assert_eq!(lab.detach(1, &held).await, Outcome::Changed(()));
}
