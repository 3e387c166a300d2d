//! What is said of a name: P4, broken on purpose.

use std::time::Duration;

use tokio::time::advance;
use tokio_util::sync::CancellationToken;

use super::{Lab, ds};
use crate::check::Promise;

#[tokio::test(start_paused = true)]
async fn not_found_for_what_is_there_is_seen() {
    let lab = Lab::new().await;
    lab.checker.created("v", &ds());
    lab.checker
        .told_not_found(&lab.b, "v@ds", lab.checker.asks());
    assert_eq!(lab.broken(), [Promise::NeverDenyByGuess]);
    let _removal = lab.checker.removing("v");
    lab.checker.told_not_found(&lab.b, "v", lab.checker.asks());
    assert_eq!(lab.broken().len(), 1, "it may be gone already");
}

#[tokio::test(start_paused = true)]
async fn what_is_created_while_somebody_asks_need_not_be_found() {
    let lab = Lab::new().await;
    let asked = lab.checker.asks();
    lab.checker.created("v", &ds());
    lab.checker.told_not_found(&lab.a, "v", asked);
    assert_eq!(lab.broken(), []);
    let asked = lab.checker.asks();
    lab.checker.created("v", &ds());
    lab.checker.told_not_found(&lab.a, "v", asked);
    let it_was_there = [Promise::NeverDenyByGuess];
    assert_eq!(lab.broken(), it_was_there, "though it was reported again");
}

#[tokio::test(start_paused = true)]
async fn not_found_without_having_looked_is_seen() {
    let lab = Lab::new().await;
    lab.attach(&lab.a).await;
    lab.world.reach(lab.host, &ds(), false);
    lab.checker.told_not_found(&lab.a, "w", lab.checker.asks());
    assert_eq!(lab.broken(), [], "it may have been looked for before");
    advance(Duration::from_secs(200)).await;
    lab.checker.told_not_found(&lab.a, "w", lab.checker.asks());
    assert_eq!(lab.broken(), [Promise::NeverDenyByGuess]);
    lab.world.reach(lab.host, &ds(), true);
    lab.checker.told_not_found(&lab.a, "w", lab.checker.asks());
    assert_eq!(lab.broken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_local_twin_of_a_known_name_is_seen() {
    let lab = Lab::new().await;
    lab.checker.created("v", &ds());
    lab.checker.local_twin(&lab.a, "v", lab.checker.asks());
    assert_eq!(lab.broken(), [], "this plugin never saw it");
    lab.checker.seen(&lab.a, "v@ds");
    lab.checker.local_twin(&lab.a, "v", lab.checker.asks());
    assert_eq!(lab.broken(), [Promise::NeverDenyByGuess]);
}

/// What could not be written down is known as long as the process lives that heard it.
#[tokio::test(start_paused = true)]
async fn a_local_twin_of_a_name_heard_without_room_is_seen_until_the_process_ends() {
    let lab = Lab::new().await;
    lab.checker.created("v", &ds());
    let (dead, next) = (CancellationToken::new(), CancellationToken::new());
    lab.checker.heard(&lab.a, "v@ds", dead.clone());
    lab.checker.local_twin(&lab.a, "v", lab.checker.asks());
    assert_eq!(lab.broken(), [Promise::NeverDenyByGuess]);
    dead.cancel();
    lab.checker.local_twin(&lab.a, "v", lab.checker.asks());
    assert_eq!(lab.broken().len(), 1, "nobody knows it");
    lab.checker.heard(&lab.a, "v", next.clone());
    lab.checker.seen(&lab.a, "v");
    next.cancel();
    lab.checker.local_twin(&lab.a, "v", lab.checker.asks());
    assert_eq!(lab.broken().len(), 2, "once written it is known for good");
}
