//! A volume that goes: who asked for it, and until when.

use vdvs_engine::ports::Datastores;

use super::{Lab, ds};
use crate::check::{Checker, Promise, Removal};

#[tokio::test(start_paused = true)]
async fn a_removal_that_was_asked_for_is_none_unless_somebody_has_the_disk_open() {
    for open in [false, true] {
        let lab = Lab::new().await;
        lab.checker.created("v", &ds());
        if open {
            lab.attach(&lab.a).await;
        }
        let _removal = lab.checker.removing("v");
        let session = lab.world.session(lab.host);
        session.delete_disk(&ds(), &lab.disk.path).await.unwrap();
        lab.checker.removed("v");
        assert_eq!(lab.broken().is_empty(), !open);
    }
}

/// What happens to a volume between the moment when its removal is asked for and the moment when its disk goes.
async fn removed_after(between: impl FnOnce(&Checker, Removal) -> Option<Removal>) -> Vec<Promise> {
    let lab = Lab::new().await;
    lab.checker.created("v", &ds());
    let removal = lab.checker.removing("v@ds");
    let _under_way = between(&lab.checker, removal);
    let session = lab.world.session(lab.host);
    session.delete_disk(&ds(), &lab.disk.path).await.unwrap();
    lab.broken()
}

fn found_there(checker: &Checker) {
    checker.there_already("v", &ds(), checker.asks());
}

#[tokio::test(start_paused = true)]
async fn a_removal_may_end_after_somebody_found_the_volume_there_while_it_or_a_copy_is_under_way() {
    let whole = removed_after(|checker, removal| {
        found_there(checker);
        Some(removal)
    });
    assert_eq!(whole.await, []);
    let a_copy = removed_after(|checker, removal| {
        let copy = removal.clone();
        drop(removal);
        found_there(checker);
        Some(copy)
    });
    assert_eq!(a_copy.await, [], "the asker is gone, and an agent is at it");
    let ended_since = removed_after(|checker, removal| {
        let asked = checker.asks();
        drop(removal);
        checker.there_already("v", &ds(), asked);
        None
    });
    assert_eq!(ended_since.await, [], "it ended between look and answer");
    let not_found_there = removed_after(|_, removal| {
        drop(removal);
        None
    });
    assert_eq!(not_found_there.await, [], "who knows what it began");
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_seen_of_a_volume_that_was_found_there_after_its_removal_had_failed() {
    let failed = removed_after(|checker, removal| {
        drop(removal);
        found_there(checker);
        None
    });
    assert_eq!(failed.await, [Promise::NothingLost]);
    let of_another = removed_after(|checker, removal| {
        drop(removal);
        let other = checker.removing("w");
        found_there(checker);
        Some(other)
    });
    assert_eq!(of_another.await, [Promise::NothingLost]);
    let anew = removed_after(|checker, removal| {
        checker.created("v", &ds());
        found_there(checker);
        Some(removal)
    });
    assert_eq!(anew.await, [Promise::NothingLost], "a new one was made");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_was_removed_while_somebody_found_it_there_need_not_be_there() {
    let lab = Lab::new().await;
    lab.checker.created("v", &ds());
    let (asked, removal) = (lab.checker.asks(), lab.checker.removing("v"));
    let session = lab.world.session(lab.host);
    session.delete_disk(&ds(), &lab.disk.path).await.unwrap();
    lab.checker.removed("v");
    drop(removal);
    lab.checker.there_already("v", &ds(), asked);
    assert_eq!(lab.checker.verdict(), []);
    found_there(&lab.checker);
    assert_eq!(lab.checker.verdict().len(), 1, "it was there after that");
}
