//! The claimant's side of a claim, with no agent at the other end: who stands in the record, how long, and what it costs.
//! Then the owner's side: whose records are followed, and how long a wish is remembered.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use vdvs_engine::api::{Notice, VolumeView};
use vdvs_host_sim::{Fault, Session};

use crate::hosts::{FENCE, Two};
use crate::support::{WAIT, ds, take};

const SECOND: Duration = Duration::from_secs(1);

/// `db` is `vm1`'s, whose agent is dead; the agent of the other host does only what it is asked for.
async fn deserted() -> (Two, VolumeView) {
    let two = Two::new().quiet();
    let (made, _) = two.held(&[]).await;
    (two, made)
}

/// The claim in the record, and in how many milliseconds it ends.
async fn claim(two: &Two) -> (Value, u64) {
    let claim = two.record().await["claim"].take();
    let now = two.near.session.ports().clock.now().millis();
    let left = claim["deadline"].as_u64().map_or(0, |d| d - now);
    (claim, left)
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_renewed_long_before_its_end_and_not_with_every_look() {
    let (two, _) = deserted().await;
    let look = async {
        sleep(SECOND / 2).await;
        two.far_session.begin_trace();
        for second in 0..40 {
            sleep(SECOND).await;
            let (claim, left) = claim(&two).await;
            assert_eq!(claim["vm"]["name"], "far1", "after {second} s");
            assert!((7000..=10_000).contains(&left), "{left} ms left");
        }
        two.far_session.end_trace()
    };
    let wait = Duration::from_secs(50);
    let (refused, calls) = tokio::join!(two.attach_far(1, wait), look);
    refused.unwrap_err();
    let writes = calls.iter().filter(|c| c.verb == "write").count();
    assert_eq!(writes, 16, "one each 2.5 s");
}

#[tokio::test(start_paused = true)]
async fn the_first_claim_stands_while_it_is_renewed_and_goes_when_its_writer_died() {
    let (mut two, _) = deserted().await;
    let others = async {
        sleep(SECOND).await;
        let second = two.attach_far(2, Duration::from_secs(25));
        let look = async {
            for _ in 0..24 {
                sleep(SECOND).await;
                assert_eq!(claim(&two).await.0["vm"]["name"], "far1");
            }
        };
        tokio::join!(second, look).0.unwrap_err();
    };
    tokio::select! {
        _ = two.attach_far(1, WAIT) => unreachable!("it waits on"),
        () = others => two.far_session.crash(),
    }
    two.kill_far();
    two.start_far();
    let next = async {
        sleep(Duration::from_secs(9)).await;
        assert_eq!(claim(&two).await.0["vm"]["name"], "far1");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(claim(&two).await.0["vm"]["name"], "far2");
    };
    tokio::select! {
        _ = two.attach_far(2, WAIT) => unreachable!("it waits on"),
        () = next => {}
    }
}

#[tokio::test(start_paused = true)]
async fn an_administrators_claim_comes_before_one_that_is_alive() {
    let (two, _) = deserted().await;
    let forced = async {
        sleep(SECOND).await;
        let taken = timeout(SECOND, take(&two.far, "db", true)).await;
        assert!(taken.is_err(), "it waits on: {taken:?}");
    };
    let look = async {
        sleep(SECOND * 3 / 2).await;
        claim(&two).await.0
    };
    tokio::select! {
        _ = two.attach_far(1, WAIT) => unreachable!("it waits on"),
        ((), claim) = async { tokio::join!(forced, look) } => {
            assert_eq!(claim["at_once"], true, "{claim}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_that_claim_at_the_same_moment_one_writes() {
    let (two, _) = deserted().await;
    two.far_session.begin_trace();
    let wait = Duration::from_secs(1);
    let (first, second) = tokio::join!(two.attach_far(1, wait), two.attach_far(2, wait));
    assert!(first.is_err() && second.is_err());
    let calls = two.far_session.end_trace();
    let writes = calls.iter().filter(|c| c.verb == "write").count();
    assert_eq!(writes, 1, "the other one's is not replaced");
}

/// Each would come before the other, as fast as the datastore writes.
#[tokio::test(start_paused = true)]
async fn of_two_administrators_who_take_at_once_the_first_claim_stays() {
    let (two, _) = deserted().await;
    let a_call = Fault::Slow(Duration::from_millis(1));
    two.far_session.plan_always(Some(a_call));
    two.far_session.begin_trace();
    let (one, other) = tokio::join!(take(&two.far, "db", true), take(&two.far, "db", true));
    assert!(one.is_err() && other.is_err(), "its lock is held");
    let calls = two.far_session.end_trace();
    let writes = calls.iter().filter(|c| c.verb == "write").count();
    assert!(writes < 40, "{writes} writes");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_withdraws_its_own_claim_and_no_other() {
    let (two, _) = deserted().await;
    let forced = async {
        sleep(SECOND).await;
        take(&two.far, "db", true).await
    };
    let look = async {
        sleep(SECOND * 9 / 2).await;
        two.far_session.begin_trace();
        sleep(SECOND).await;
        let calls = two.far_session.end_trace();
        assert!(calls.iter().all(|c| c.verb != "write"), "{calls:?}");
        assert_eq!(claim(&two).await.0["at_once"], true);
    };
    let leaves = two.attach_far(1, SECOND * 5);
    tokio::select! {
        taken = forced => panic!("{taken:?}"),
        (left, ()) = async { tokio::join!(leaves, look) } => drop(left.unwrap_err()),
    }
}

/// Calls to read a small file, two for each look, in ten seconds from `after` on, between two sweeps.
async fn reads(session: &Session, after: Duration) -> usize {
    sleep(after).await;
    session.begin_trace();
    sleep(SECOND * 10).await;
    let calls = session.end_trace();
    calls.iter().filter(|c| c.verb == "read").count()
}

#[tokio::test(start_paused = true)]
async fn an_agent_follows_what_its_vms_have_and_nothing_else() {
    let two = Two::new();
    let (_, held) = two.held(&[]).await;
    two.attach_far(1, SECOND).await.unwrap_err();
    let (near, far) = (&two.near.session, &two.far_session);
    // What the hosts tell each other is read as well, each five seconds.
    let (few, follows) = (0..8, 40..48);
    let asked_once = reads(far, SECOND * 2).await;
    let swept = reads(far, SECOND * 20).await;
    let owner = reads(near, SECOND * 20).await;
    two.near.detach(1, &held).await;
    let left = reads(near, SECOND * 2).await;
    assert!(follows.contains(&owner), "{owner}");
    for reads in [asked_once, swept, left] {
        assert!(few.contains(&reads), "{asked_once} {swept} {left}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_datastore_that_cannot_be_read_is_left_alone_for_ten_seconds() {
    let two = Two::new();
    two.held(&[]).await;
    sleep(SECOND).await;
    two.near.world.reach(two.near.host, &ds("ds"), false);
    let near = &two.near.session;
    let begun = Instant::now();
    near.begin_trace();
    sleep(SECOND * 41).await;
    let calls = near.end_trace();
    let reads = calls.iter().filter(|c| c.verb == "read");
    let at: Vec<_> = reads.map(|c| (c.at - begun).as_millis()).collect();
    let (sweep, looks): (Vec<u128>, Vec<_>) = at.into_iter().partition(|at| *at == 29_000);
    assert_eq!(looks, [0, 10_000, 20_000, 30_000, 40_000]);
    assert_eq!(sweep.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_is_long_over_does_not_count_for_the_next() {
    let two = Two::new();
    let (made, _) = two.held(FENCE).await;
    let mut notices = two.near.engine.watch(&two.near.vms[0]);
    two.attach_far(1, SECOND * 10).await.unwrap_err();
    assert!(matches!(notices.try_recv(), Ok(Notice::Wanted { .. })));
    sleep(SECOND * 20).await;
    assert!(notices.try_recv().is_err());
    let got = two.attach_far(1, WAIT).await.unwrap();
    assert!(got.waited >= SECOND * 15, "{:?}", got.waited);
    assert!(matches!(notices.try_recv(), Ok(Notice::Wanted { .. })));
    assert_eq!(two.writers(&made), ["far1"]);
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_the_host_refused_is_tried_again_after_five_seconds() {
    let two = Two::new();
    let (made, _) = two.held(FENCE).await;
    two.near.session.plan_at("fence", Fault::Fail);
    let got = two.attach_far(1, WAIT).await.unwrap();
    let waited = got.waited.as_millis();
    assert!((20_000..21_500).contains(&waited), "{waited}");
    assert_eq!(two.writers(&made), ["far1"]);
}
