//! The crash matrix: the agent dies at every call it makes, before, in the middle of, and after the call's effect;
//! another one starts, and nothing is lost and nothing leaks. Then the same request comes again, twice.

use std::time::Duration;

use tokio::time::advance;
use vdvs_domain::{Epoch, Error, ErrorKind, Ownership, VolumeId};
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Fault, When};

use crate::consistency::{check, with_id};
use crate::support::{Lab, disk};

/// What the volume under test holds.
const CONTENT: u64 = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Attach,
    AttachAgain,
    TakeOver,
    Detach,
    Delete,
    Clone,
}

/// What the next agent does first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The caller repeats its request at once.
    Retry,
    /// The reconciler runs first.
    Sweep,
    /// The caller gave up; the reconciler runs after its deadline.
    Late,
}

/// What stands before the request.
struct Before {
    keep: VolumeId,
    id: Option<VolumeId>,
    epoch: Epoch,
}

async fn prepare(lab: &Lab, verb: Verb) -> Before {
    let keep = lab.create(1, "keep").await.id;
    let mut before = Before {
        keep,
        id: None,
        epoch: Epoch::default(),
    };
    if verb == Verb::Create {
        return before;
    }
    let db = lab.create(1, "db").await;
    lab.world.write_disk(&disk(&db), CONTENT);
    before.id = Some(db.id);
    if matches!(verb, Verb::AttachAgain | Verb::Detach | Verb::TakeOver) {
        before.epoch = lab.attach(1, "db").await.epoch;
    }
    if verb == Verb::TakeOver {
        lab.world.power(&lab.vms[0], Power::Off);
    }
    before
}

/// The request under test, always with the same id.
async fn act(lab: &Lab, verb: Verb, before: &Before) -> Result<(), Error> {
    match verb {
        Verb::Create => lab.try_create(1, 77, "db", &[]).await.map(drop),
        Verb::Attach | Verb::AttachAgain => {
            lab.try_attach(1, 77, "db", Duration::ZERO).await.map(drop)
        }
        Verb::TakeOver => lab.try_attach(2, 77, "db", Duration::ZERO).await.map(drop),
        Verb::Detach => lab
            .try_detach(1, 77, before.id.unwrap(), before.epoch)
            .await
            .map(drop),
        Verb::Delete => match lab.try_delete(1, 77, "db").await {
            // The record went with the volume: a retry on a new agent finds none, and that is done too.
            Err(Error::VolumeNotFound { .. }) => Ok(()),
            other => other.map(drop),
        },
        Verb::Clone => lab
            .try_create(1, 77, "copy", &[("clone-from", "db")])
            .await
            .map(drop),
    }
}

async fn settle(lab: &Lab) {
    // Twice with time between, so that what another host might still be making is seen unchanged for long enough.
    lab.engine.sweep().await;
    advance(Duration::from_secs(70)).await;
    lab.engine.sweep().await;
}

async fn one(verb: Verb, at: u64, when: When, next: Next) {
    let text = format!("{verb:?} dies {when:?} call {at}, then {next:?}");
    let mut lab = Lab::new();
    let before = prepare(&lab, verb).await;
    lab.session.plan(at, Fault::Crash(when));
    tokio::select! {
        biased;
        _ = act(&lab, verb, &before) => {}
        () = lab.session.died() => {}
    }
    lab.restart();
    match next {
        Next::Retry => {}
        Next::Sweep => {
            lab.engine.sweep().await;
            if !matches!(verb, Verb::Create | Verb::Clone) {
                check_kept(&lab, verb, &before, &text).await;
            }
        }
        Next::Late => {
            advance(Duration::from_secs(200)).await;
            settle(&lab).await;
            check_kept(&lab, verb, &before, &text).await;
        }
    }
    for round in ["first", "second"] {
        // An orphan of an unfinished claim is given time, as another host's would be.
        let answer = act(&lab, verb, &before).await;
        assert!(answer.is_ok(), "{text}: {round} retry: {answer:?}");
    }
    settle(&lab).await;
    let volumes = check(&lab, &text).await;
    assert!(
        with_id(&volumes, before.keep).is_some(),
        "{text}: an acknowledged volume is lost"
    );
    let view = volumes.iter().find(|v| v.name.as_str() == "db");
    match verb {
        Verb::Create => assert!(view.is_some(), "{text}"),
        Verb::Delete => assert!(view.is_none(), "{text}"),
        Verb::Detach => assert_eq!(view.unwrap().ownership, Ownership::Free, "{text}"),
        Verb::Attach | Verb::AttachAgain | Verb::TakeOver => {
            assert_eq!(view.unwrap().ownership.name(), "attached", "{text}");
        }
        Verb::Clone => {
            assert_eq!(view.unwrap().ownership, Ownership::Free, "{text}: source");
            let copy = volumes.iter().find(|v| v.name.as_str() == "copy");
            let copy = copy.unwrap_or_else(|| panic!("{text}: no clone"));
            assert_eq!(lab.world.read_disk(&disk(copy)), Some(CONTENT), "{text}");
        }
    }
}

/// What was acknowledged before the request is still there, and everything agrees.
async fn check_kept(lab: &Lab, verb: Verb, before: &Before, text: &str) {
    let volumes = check(lab, text).await;
    assert!(with_id(&volumes, before.keep).is_some(), "{text}");
    if let Some(id) = before.id
        && verb != Verb::Delete
    {
        let view = with_id(&volumes, id).unwrap_or_else(|| panic!("{text}: the volume is lost"));
        if verb == Verb::AttachAgain {
            assert_eq!(
                view.ownership.name(),
                "attached",
                "{text}: a mounted disk was pulled"
            );
        }
    }
}

async fn calls(verb: Verb) -> u64 {
    let lab = Lab::new();
    let before = prepare(&lab, verb).await;
    let start = lab.session.calls();
    act(&lab, verb, &before).await.unwrap();
    lab.session.calls() - start
}

async fn matrix(verb: Verb) {
    let calls = calls(verb).await;
    assert!(calls > 5, "the request was seen");
    for at in 0..calls {
        for when in [When::Before, When::Half, When::After] {
            for next in [Next::Retry, Next::Sweep, Next::Late] {
                one(verb, at, when, next).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn create_survives_a_crash_at_every_call() {
    matrix(Verb::Create).await;
}

#[tokio::test(start_paused = true)]
async fn clone_survives_a_crash_at_every_call() {
    matrix(Verb::Clone).await;
}

#[tokio::test(start_paused = true)]
async fn attach_survives_a_crash_at_every_call() {
    matrix(Verb::Attach).await;
}

#[tokio::test(start_paused = true)]
async fn attaching_again_survives_a_crash_at_every_call_and_never_pulls_the_disk() {
    matrix(Verb::AttachAgain).await;
}

#[tokio::test(start_paused = true)]
async fn taking_over_survives_a_crash_at_every_call() {
    matrix(Verb::TakeOver).await;
}

#[tokio::test(start_paused = true)]
async fn detach_survives_a_crash_at_every_call() {
    matrix(Verb::Detach).await;
}

#[tokio::test(start_paused = true)]
async fn delete_survives_a_crash_at_every_call() {
    matrix(Verb::Delete).await;
}

/// Who asked for a delete before its agent died asks again, when the name is somebody else's new volume already.
#[tokio::test(start_paused = true)]
async fn the_retry_of_a_delete_that_died_never_removes_what_was_made_under_the_name_since() {
    let mut made = 0;
    for at in 0..calls(Verb::Delete).await {
        for (when, sweep) in [When::Before, When::Half, When::After]
            .into_iter()
            .flat_map(|when| [(when, true), (when, false)])
        {
            let text = format!("delete dies {when:?} call {at}, swept first: {sweep}");
            let mut lab = Lab::new();
            let before = prepare(&lab, Verb::Delete).await;
            lab.session.plan(at, Fault::Crash(when));
            tokio::select! {
                biased;
                _ = act(&lab, Verb::Delete, &before) => {}
                () = lab.session.died() => {}
            }
            lab.restart();
            if sweep {
                settle(&lab).await;
            }
            let gone = lab.get(1, "db").await.is_err();
            let new = lab.try_create(2, 78, "db", &[]).await.ok();
            let new = new.filter(|_| gone).map(|new| new.into_inner().id);
            act(&lab, Verb::Delete, &before).await.ok();
            if let Some(new) = new {
                made += 1;
                let kept = check(&lab, &text).await;
                assert!(with_id(&kept, new).is_some(), "{text}: the new one is gone");
            }
        }
    }
    assert!(made > 10, "the name was free {made} times");
}

#[tokio::test(start_paused = true)]
async fn the_first_use_of_a_datastore_survives_a_crash_at_every_call() {
    let fresh = Lab::new();
    fresh.try_create(1, 77, "db", &[]).await.unwrap();
    for at in 0..fresh.session.calls() {
        for when in [When::Before, When::Half, When::After] {
            let text = format!("first use dies {when:?} call {at}");
            let mut lab = Lab::new();
            lab.session.plan(at, Fault::Crash(when));
            tokio::select! {
                biased;
                _ = lab.try_create(1, 77, "db", &[]) => {}
                () = lab.session.died() => {}
            }
            lab.restart();
            let answer = lab.try_create(1, 77, "db", &[]).await;
            assert!(answer.is_ok(), "{text}: {answer:?}");
            settle(&lab).await;
            assert_eq!(check(&lab, &text).await.len(), 1, "{text}");
        }
    }
}

/// Attaches until the disk is in the VM and the record does not say so yet, and dies there.
async fn die_with_the_disk_in_the_vm() -> Lab {
    for at in 0..calls(Verb::Attach).await {
        let mut lab = Lab::new();
        let before = prepare(&lab, Verb::Attach).await;
        lab.session.plan(at, Fault::Crash(When::Before));
        tokio::select! {
            biased;
            _ = act(&lab, Verb::Attach, &before) => {}
            () = lab.session.died() => {}
        }
        lab.restart();
        let view = lab.get(1, "db").await.unwrap();
        if view.ownership.name() == "attaching" && !lab.world.devices(&lab.vms[0]).is_empty() {
            return lab;
        }
    }
    panic!("the moment was not found");
}

#[tokio::test(start_paused = true)]
async fn an_attach_whose_deadline_passed_is_undone() {
    let lab = die_with_the_disk_in_the_vm().await;
    advance(Duration::from_secs(200)).await;
    lab.engine.sweep().await;
    assert!(lab.world.devices(&lab.vms[0]).is_empty());
    assert_eq!(lab.get(1, "db").await.unwrap().ownership, Ownership::Free);
}

#[tokio::test(start_paused = true)]
async fn an_attach_whose_caller_still_waits_is_finished_and_its_retry_answered() {
    let lab = die_with_the_disk_in_the_vm().await;
    lab.engine.sweep().await;
    assert_eq!(lab.get(1, "db").await.unwrap().ownership.name(), "attached");
    let retry = lab.try_attach(1, 77, "db", Duration::ZERO).await.unwrap();
    assert_eq!(retry.epoch, Epoch::new(1));
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_cannot_be_settled_blocks_only_its_own_volume() {
    let lab = die_with_the_disk_in_the_vm().await;
    let (elsewhere, _engine) = lab.second_host();
    lab.world.register(&lab.vms[0], elsewhere);
    let err = lab.try_delete(2, 5, "db").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable, "{err}");
    assert!(err.to_string().contains("unfinished attach"), "{err}");
    assert!(lab.try_attach(2, 6, "keep", Duration::ZERO).await.is_ok());
}
