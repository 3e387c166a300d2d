//! The claimant's side of a claim, with no agent at the other end: who stands in the record, how long, and what it costs.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;
use vdvs_engine::api::VolumeView;

use crate::hosts::Two;
use crate::support::{WAIT, call, rand_request, root};

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
        let (user, once) = (root(), call(rand_request()));
        tokio::select! {
            taken = two.far.admin_take(&user, &once, "db", true) => panic!("{taken:?}"),
            () = sleep(SECOND) => {}
        }
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

#[tokio::test(start_paused = true)]
async fn who_leaves_withdraws_its_own_claim_and_no_other() {
    let (two, _) = deserted().await;
    let forced = async {
        sleep(SECOND).await;
        let (user, once) = (root(), call(rand_request()));
        two.far.admin_take(&user, &once, "db", true).await
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
