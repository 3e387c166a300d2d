//! A volume that goes: who asked for it, and until when.

use vdvs_engine::ports::{Datastores, DiskPath, Host, Progress};

use super::{FOLDER, Lab, SPEC, ds, path, soon};
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

/// Of two hosts that make `v` at once, one takes the other for dead and is done first: what the slow one makes then is
/// nobody's volume, and it takes that back.
async fn made_late_and_removed(between: impl AsyncFnOnce(&Lab, &DiskPath)) -> Vec<Promise> {
    let lab = Lab::new().await;
    lab.checker.created("v", &ds());
    let late = path(&format!("{FOLDER}/v.00000002.vmdk"));
    let session = lab.world.session(lab.host);
    let progress = Progress::default().into();
    let made = session.create_disk(&ds(), &late, &SPEC, &progress).await;
    made.unwrap();
    let disk = DiskPath {
        datastore: ds(),
        path: late,
    };
    between(&lab, &disk).await;
    session.delete_disk(&ds(), &disk.path).await.unwrap();
    lab.broken()
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_was_made_late_may_go_unless_it_is_the_volumes_by_now() {
    assert_eq!(made_late_and_removed(async |_, _| {}).await, []);
    let acknowledged = made_late_and_removed(async |lab, _| lab.checker.created("v", &ds()));
    assert_eq!(acknowledged.await, [Promise::NothingLost]);
    let mounted = made_late_and_removed(async |lab, disk| {
        let session = lab.world.session(lab.host);
        session.attach(&lab.a, disk, false, soon()).await.unwrap();
        lab.checker.mounted(&lab.a, disk, "task");
        lab.checker.unmounted(&lab.a, disk);
        lab.checker.detached(&lab.a, disk, false);
        session.detach(&lab.a, disk, soon()).await.unwrap();
    });
    assert_eq!(mounted.await, [Promise::NothingLost]);
}
