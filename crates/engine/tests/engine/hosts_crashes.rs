//! The crash matrix of two hosts: the owner's agent dies at every call around a fence, the claimant's at every call of
//! a claim; another one starts, and what was wanted happens, once.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{Epoch, Error, ErrorKind, Ownership, VolumeId};
use vdvs_engine::api::{Notice, Outcome};
use vdvs_host_sim::{Fault, When};

use crate::hosts::Two;
use crate::support::{WAIT, call, disk, rand_request, until, volume};

const WHENS: [When; 3] = [When::Before, When::Half, When::After];
/// As short as it can be, so that the matrix is.
const FENCE: &[(&str, &str)] = &[("failover", "fence"), ("fence-after", "1s")];
/// When the matrix of the fence begins: shortly before it is due.
const NEARLY: Duration = Duration::from_millis(800);

/// What the claimant does when the owner's agent died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claimant {
    Waits,
    Leaves,
}

/// Calls of the owner's agent from [`NEARLY`] to the end of the fence.
async fn calls_of_a_fence() -> u64 {
    let two = Two::new();
    two.held(FENCE).await;
    let from = async {
        sleep(NEARLY).await;
        two.near.session.calls()
    };
    let (got, from) = tokio::join!(two.attach_far(1, WAIT), from);
    got.unwrap();
    two.near.session.calls() - from
}

async fn fence_dies(at: u64, when: When, claimant: Claimant) {
    let text = format!("fence dies {when:?} call {at}, claimant {claimant:?}");
    let mut two = Two::new();
    let (made, _) = two.held(FENCE).await;
    let wait = match claimant {
        Claimant::Waits => WAIT,
        Claimant::Leaves => Duration::from_secs(3),
    };
    let (near, far) = (two.near.session.clone(), two.far.clone());
    let request = rand_request();
    let (caller, once, address) = (two.far_caller(1), call(request), volume("db"));
    let attach = far.attach(&caller, &once, &address, false, wait);
    let story = async {
        sleep(NEARLY).await;
        near.plan(at, Fault::Crash(when));
        drop(timeout(Duration::from_secs(2), near.died()).await);
        sleep(Duration::from_secs(1)).await;
        two.kill_near();
        two.start_near();
    };
    let (got, ()) = tokio::join!(attach, story);
    let writers = two.near.world.writers(&disk(&made));
    assert!(writers.len() <= 1, "{text}: {writers:?}");
    if claimant == Claimant::Waits {
        let got = got.unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(got.epoch, Epoch::new(2), "{text}");
    }
    sleep(Duration::from_secs(35)).await;
    let view = two.near.get(1, "db").await.unwrap();
    let record = two.record().await;
    assert!(
        record["operation"].is_null() && record["claim"].is_null(),
        "{text}: {record:#}"
    );
    let owner = view.ownership.owner().map(|o| o.vm.name.clone());
    let has: Vec<String> = two.near.world.writers(&disk(&made));
    assert_eq!(has, owner.clone().into_iter().collect::<Vec<_>>(), "{text}");
    if claimant == Claimant::Waits {
        assert_eq!(owner.as_deref(), Some("far1"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fence_survives_a_crash_at_every_call() {
    let calls = calls_of_a_fence().await;
    assert!(calls > 8, "the fence was seen: {calls}");
    for at in 0..calls {
        for when in WHENS {
            fence_dies(at, when, Claimant::Waits).await;
            fence_dies(at, when, Claimant::Leaves).await;
        }
    }
}

/// Without an answer, or failing once, the fence is repeated or tried again.
#[tokio::test(start_paused = true)]
async fn a_fence_survives_a_failure_at_every_call() {
    for at in 0..calls_of_a_fence().await {
        for fault in [
            Fault::Fail,
            Fault::NoAnswer(When::Before),
            Fault::NoAnswer(When::After),
        ] {
            let two = Two::new();
            let (made, _) = two.held(FENCE).await;
            let spoil = async {
                sleep(NEARLY).await;
                two.near.session.plan(at, fault);
            };
            let begun = Instant::now();
            let (got, ()) = tokio::join!(two.attach_far(1, WAIT), spoil);
            let text = format!("{fault:?} at {at}");
            got.unwrap_or_else(|why| panic!("{text}: {why}"));
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{text}: {:?}",
                begun.elapsed()
            );
            assert_eq!(two.near.world.writers(&disk(&made)), ["far1"], "{text}");
            assert!(
                two.near.world.devices(&two.near.vms[0]).is_empty(),
                "{text}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_survives_a_crash_of_its_writer_at_every_call() {
    let calls = {
        let two = Two::new();
        two.held(&[]).await;
        let before = two.far_session.calls();
        drop(two.attach_far(1, Duration::from_secs(1)).await);
        two.far_session.calls() - before
    };
    for at in 0..calls {
        for when in WHENS {
            let text = format!("claimant dies {when:?} call {at}");
            let mut two = Two::new();
            let (made, held) = two.held(&[]).await;
            two.far_session.plan(at, Fault::Crash(when));
            tokio::select! {
                biased;
                _ = two.attach_far_as(1, 99, Duration::from_secs(1)) => {}
                () = two.far_session.died() => {}
            }
            two.kill_far();
            two.start_far();
            let leave = async {
                sleep(Duration::from_secs(2)).await;
                two.near.detach(1, &held).await
            };
            let (got, left) = tokio::join!(two.attach_far_as(1, 99, WAIT), leave);
            assert_eq!(left, Outcome::Changed(()), "{text}");
            assert_eq!(got.unwrap().epoch, Epoch::new(2), "{text}");
            assert_eq!(two.near.world.writers(&disk(&made)), ["far1"], "{text}");
            assert!(two.record().await["claim"].is_null(), "{text}");
        }
    }
}

/// The owner's agent finds the operation of its dead predecessor, long after.
#[tokio::test(start_paused = true)]
async fn an_old_fence_is_taken_back_and_the_owner_keeps_the_volume() {
    let mut found = false;
    for at in 0..calls_of_a_fence().await {
        let mut two = Two::new();
        let (made, _) = two.held(FENCE).await;
        let spoil = async {
            sleep(NEARLY).await;
            two.near.session.plan(at, Fault::Crash(When::After));
            sleep(Duration::from_secs(2)).await;
        };
        let (_, ()) = tokio::join!(two.attach_far(1, Duration::from_secs(2)), spoil);
        let record = two.far_record().await;
        if record["operation"]["kind"] != "fence"
            || two.near.world.devices(&two.near.vms[0]).is_empty()
        {
            continue;
        }
        found = true;
        two.kill_near();
        sleep(Duration::from_secs(300)).await;
        two.start_near();
        until("the end of the operation", async || {
            two.record().await["operation"].is_null()
        })
        .await;
        assert_eq!(two.near.world.writers(&disk(&made)), ["vm1"]);
        let view = two.near.get(1, "db").await.unwrap();
        assert!(matches!(view.ownership, Ownership::Attached { .. }));
    }
    assert!(found, "the moment was not found");
}

/// Two hosts change one record, each slow at one of its calls: whoever was told that his change is done finds it in the
/// end. A host that takes its own readable value for settled, when another writer may have passed its last look before,
/// fails this.
#[tokio::test(start_paused = true)]
async fn a_slow_writer_never_replaces_what_another_host_was_told_is_done() {
    // The second writer is still at its write when the first looks back, and not yet so late that it begins anew.
    let (first, second) = (Duration::from_secs(1), Duration::from_millis(1500));
    for slow_here in 6..12 {
        for slow_there in 12..36 {
            let two = Two::new();
            let (made, held) = two.held(&[]).await;
            // Polls of the two agents would count among the calls.
            let two = two.quiet();
            drop(two.far_record().await);
            let here = async {
                two.near.session.plan(slow_here, Fault::Slow(first));
                let (caller, once) = (two.near.caller(1), call(rand_request()));
                let format = two
                    .near
                    .engine
                    .begin_format(&caller, &once, made.id, held.epoch);
                format.await.unwrap()
            };
            let there = async {
                sleep(Duration::from_millis(100)).await;
                two.far_session.plan(slow_there, Fault::Slow(second));
                two.attach_far(1, Duration::from_secs(3)).await.unwrap_err();
            };
            let (uuid, ()) = tokio::join!(here, there);
            let state = &two.far_record().await["filesystem"]["state"];
            let kept = state.to_string().contains(&uuid.to_string());
            assert!(
                kept,
                "slow at {slow_here} here and {slow_there} there: {state}"
            );
        }
    }
}

/// The claimant may attach between the write that ends a fence and the look after it. The fence took place all the same:
/// it is in the audit, once, and the guest is told.
#[tokio::test(start_paused = true)]
async fn a_fence_that_is_slow_at_any_call_is_audited_once_and_told() {
    for at in 1..=calls_of_a_fence().await {
        let two = Two::new();
        let (made, _) = two.held(FENCE).await;
        let mut notices = two.near.engine.watch(&two.near.vms[0]);
        let slow = async {
            sleep(NEARLY).await;
            let pause = Duration::from_secs(1);
            two.near.session.plan(at, Fault::Slow(pause));
        };
        let (got, ()) = tokio::join!(two.attach_far(1, WAIT), slow);
        got.unwrap_or_else(|why| panic!("slow call {at}: {why}"));
        sleep(Duration::from_secs(5)).await;
        let audited = two.audit(two.near.host, "fence");
        assert_eq!(audited.len(), 1, "slow call {at}: {audited:?}");
        let mut told = false;
        while let Ok(notice) = notices.try_recv() {
            told |= matches!(notice, Notice::Superseded { volume, .. } if volume == made.id);
        }
        assert!(told, "slow call {at}");
    }
}

/// A guest's removal of `db`, which it knows to be `meant`.
async fn remove_near(two: &Two, request: u128, meant: VolumeId) -> Result<VolumeId, Error> {
    let (caller, call, address) = (two.near.caller(1), call(request), volume("db"));
    let engine = &two.near.engine;
    engine.delete(&caller, &call, &address, Some(meant)).await
}

async fn calls_of_a_delete() -> u64 {
    let two = Two::new().quiet_near();
    let old = two.near.create(1, "db").await;
    let from = two.near.session.calls();
    remove_near(&two, rand_request(), old.id).await.unwrap();
    two.near.session.calls() - from
}

/// The agent of `esx01` dies in a removal; the other host's finishes it, and gives the name to a new volume as soon as
/// it can be had. Then the first one is back and hears the same request again. Says whether it came so far.
async fn delete_is_asked_again(at: u64, when: When) -> bool {
    let text = format!("delete dies {when:?} call {at}");
    let mut two = Two::new().quiet_near();
    let old = two.near.create(1, "db").await;
    let request = rand_request();
    two.near.session.plan(at, Fault::Crash(when));
    tokio::select! {
        biased;
        _ = remove_near(&two, request, old.id) => {}
        () = two.near.session.died() => {}
    }
    two.kill_near();
    let (caller, address) = (two.far_caller(2), volume("db"));
    if two.far.get(&caller, &address).await.is_ok() {
        // It had not begun.
        return false;
    }
    let end = Instant::now() + Duration::from_secs(15 * 60);
    let new = loop {
        let (once, options) = (call(rand_request()), GivenOptions::default());
        match two.far.create(&caller, &once, &address, &options).await {
            Ok(new) => break new.into_inner().id,
            Err(why) => assert!(Instant::now() < end, "{text}: {why}"),
        }
        sleep(Duration::from_secs(5)).await;
    };
    two.near.restart();
    match remove_near(&two, request, old.id).await {
        Ok(id) => assert_eq!(id, old.id, "{text}"),
        Err(why) => assert_eq!(why.kind(), ErrorKind::NotFound, "{text}: {why}"),
    }
    let kept = two.far.get(&caller, &address).await;
    let kept = kept.unwrap_or_else(|why| panic!("{text}: the new one is gone: {why}"));
    assert_eq!((new == old.id, kept.id), (false, new), "{text}");
    true
}

#[tokio::test(start_paused = true)]
async fn the_retry_of_a_delete_that_another_host_finished_spares_what_was_made_under_the_name_since()
 {
    let mut asked = 0;
    for at in 0..calls_of_a_delete().await {
        for when in WHENS {
            asked += u32::from(delete_is_asked_again(at, when).await);
        }
    }
    assert!(asked > 10, "the name was free {asked} times");
}
