//! VMs that change their vmgroup with their volumes, while everybody uses these.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use vdvs_domain::access::{ChangeMembers, Leaving};
use vdvs_domain::{Error, ErrorKind, VolumeId};
use vdvs_engine::Engine;
use vdvs_engine::api::{Caller, GroupChange, GroupChanged, Teller};
use vdvs_host_sim::{Fault, When};

use crate::hosts::Two;
use crate::moving::{WHENS, claims, edit_config, in_ledgers, make_group, named, settle};
use crate::support::{Lab, call, given, rand_request, root, until, volume};

async fn leave_group(engine: &Arc<Engine>, group: &str, vm: &str) -> Result<GroupChanged, Error> {
    let ask = ChangeMembers {
        group: group.to_owned(),
        vms: vec![vm.to_owned()],
        volumes: Leaving::Move,
    };
    let change = GroupChange::RemoveMembers(ask, Vec::new());
    let tell = Teller::default();
    engine.admin_change_group(&root(), &change, &tell).await
}

/// How often a VM asks while the vmgroups change, and while what a crash left is found.
const OFTEN: Duration = Duration::from_millis(90);
const NOW_AND_THEN: Duration = Duration::from_millis(900);

/// One VM asks for the name all the time, as an orchestrator does that starts a task again and again. Every answer is
/// the volume, or *try again*.
async fn ask_for_ever(engine: Arc<Engine>, caller: Caller, id: VolumeId, pause: Duration) -> Error {
    let mut n = 0u64;
    loop {
        n += 1;
        let (name, once) = (volume("db"), call(rand_request()));
        let answer = match n % 3 {
            0 => engine.get(&caller, &name).await.map(|v| v.id),
            1 => {
                let made = engine.create(&caller, &once, &name, &given(&[])).await;
                made.map(|o| o.into_inner().id)
            }
            _ => {
                let wait = Duration::ZERO;
                let got = engine.attach(&caller, &once, &name, false, wait).await;
                match got {
                    Ok(got) => {
                        let (again, epoch) = (call(rand_request()), got.epoch);
                        let left = engine.detach(&caller, &again, id, epoch).await;
                        left.map(|_| got.view.id)
                    }
                    // Somebody has it: it exists.
                    Err(Error::InUse { .. }) => Ok(id),
                    Err(why) => Err(why),
                }
            }
        };
        match answer {
            Ok(found) if found == id => {}
            Ok(other) => panic!("an empty twin {other} of {id}"),
            Err(why) if why.kind().row().retry => {}
            Err(why) => return why,
        }
        sleep(pause).await;
    }
}

fn everybody_asks(
    two: &Two,
    id: VolumeId,
    pause: Duration,
) -> impl Future<Output = (Error, Error)> + use<> {
    let (one, other) = (two.far_caller(1), two.far_caller(2));
    let engines = [Arc::clone(&two.far), Arc::clone(&two.far)];
    async move {
        let [first, second] = engines;
        tokio::join!(
            ask_for_ever(first, one, id, pause),
            ask_for_ever(second, other, id, pause)
        )
    }
}

/// The VMs of both hosts come to `dev` with the volume that one of them has mounted, while all ask for it. The agent
/// that began dies at one of its calls, and comes back or does not.
async fn introduce(at: u64, when: When, comes_back: bool) -> bool {
    let text = format!("transfer dies {when:?} call {at}, comes back: {comes_back}");
    let mut two = Two::new();
    let made = two.near.create(1, "db").await;
    two.near.create(2, "other").await;
    let known = async || {
        let vms = two.near.engine.admin_vms().await.unwrap();
        vms.iter().filter(|v| v.vm.name.starts_with("far")).count() == 2
    };
    until("the other host's VMs", known).await;
    two.near.session.plan(at, Fault::Crash(when));
    let engine = Arc::clone(&two.near.engine);
    let died = two.near.session.clone();
    let asks = everybody_asks(&two, made.id, OFTEN);
    let story = async {
        sleep(Duration::from_millis(200)).await;
        let vms = ["far1", "far2", "vm1"];
        let change = make_group(&engine, "dev", &vms, Leaving::Move);
        let ended = tokio::select! {
            biased;
            done = change => Some(done),
            () = died.died() => None,
        };
        ended
    };
    let ended = tokio::select! {
        why = asks => panic!("{text}: {why:?}"),
        ended = story => ended,
    };
    let finished = ended.is_some();
    if let Some(done) = ended {
        done.unwrap_or_else(|e| panic!("{text}: {e}"));
    }
    if !finished {
        two.kill_near();
        if comes_back {
            two.start_near();
        }
    }
    tokio::select! {
        why = everybody_asks(&two, made.id, NOW_AND_THEN) => panic!("{text}, later: {why:?}"),
        () = sleep(Duration::from_secs(60)) => {}
    }
    // The name in the old vmgroup is given up.
    sleep(Duration::from_secs(200)).await;
    let found = named(&two.far, "db").await;
    assert_eq!(found.len(), 1, "{text}: twins");
    assert_eq!(found[0].view.id, made.id, "{text}");
    let group = found[0].view.group.to_string();
    let vms = two.far.admin_vms().await.unwrap();
    let of = |name: &str| {
        vms.iter()
            .find(|v| v.vm.name == name)
            .unwrap()
            .group
            .clone()
    };
    assert_eq!(
        of("far1").unwrap().as_str(),
        group,
        "{text}: VM and volume part"
    );
    assert_eq!(in_ledgers(&two.near, made.id), 1, "{text}: ledgers");
    assert_eq!(claims(&two.near, "db"), 1, "{text}: claims");
    finished
}

#[tokio::test(start_paused = true)]
async fn groups_come_while_everybody_uses_the_volumes_and_no_task_finds_an_empty_twin() {
    let mut step = 0;
    let mut kills = 0;
    loop {
        let (when, back) = (WHENS[usize::try_from(step % 3).unwrap()], step % 2 == 0);
        match introduce(step * 6, when, back).await {
            true => break,
            false => kills += 1,
        }
        step += 1;
    }
    assert!(kills > 10, "only {kills} kills took place");
}

fn add_to_dev(vm: &str) -> GroupChange {
    let ask = ChangeMembers {
        group: "dev".to_owned(),
        vms: vec![vm.to_owned()],
        volumes: Leaving::Move,
    };
    GroupChange::AddMembers(ask, Vec::new())
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_cannot_begin_changes_nothing_and_one_goes_there_and_back() {
    let two = Two::new();
    let engine = &two.near.engine;
    let made = two.near.create(1, "db").await;
    two.near.attach(1, "db").await;
    make_group(engine, "dev", &["vm3"], Leaving::Ask)
        .await
        .unwrap();
    two.near.create(3, "db").await;
    let (user, change, tell) = (root(), add_to_dev("vm1"), Teller::default());
    let add = || engine.admin_change_group(&user, &change, &tell);
    let refused = add().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    assert_eq!(two.near.get(1, "db").await.unwrap().id, made.id);
    two.near.try_delete(3, rand_request(), "db").await.unwrap();
    // What it makes while rules are on their way comes along.
    let late = async {
        sleep(Duration::from_millis(20)).await;
        two.near.try_create(1, 5, "late", &[]).await
    };
    let (added, late) = tokio::join!(add(), late);
    added.unwrap();
    assert_eq!(two.near.get(3, "db").await.unwrap().id, made.id);
    if let Ok(late) = late {
        let id = late.into_inner().id;
        assert_eq!(two.near.get(3, "late").await.unwrap().id, id);
    }
    assert_eq!(two.writers(&made), ["vm1"]);
    leave_group(engine, "dev", "vm1").await.unwrap();
    assert_eq!(two.near.get(1, "db").await.unwrap().id, made.id);
    let gone = two.near.get(3, "db").await.unwrap_err();
    assert!(gone.kind().row().retry, "{gone}");
    sleep(Duration::from_secs(200)).await;
    let gone = two.near.get(3, "db").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_cannot_end_is_taken_back_whole() {
    let lab = Lab::new();
    let first = lab.create(1, "alpha").await;
    let second = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    make_group(&lab.engine, "dev", &["vm3"], Leaving::Ask)
        .await
        .unwrap();
    let (user, change, tell) = (root(), add_to_dev("vm1"), Teller::default());
    let add = lab.engine.admin_change_group(&user, &change, &tell);
    let spoil = async {
        sleep(Duration::from_millis(700)).await;
        edit_config(&lab, |groups| {
            let dev = groups.iter_mut().find(|g| g["name"] == "dev").unwrap();
            dev["privileges"][0]["total_bytes"] = first.capacity.bytes().into();
        });
    };
    let (added, ()) = tokio::join!(add, spoil);
    let refused = added.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::QuotaExceeded, "{refused}");
    let moves = lab.world.audit(lab.host);
    assert!(moves.iter().any(|e| e.verb == "move"), "one had moved");
    settle(&lab).await;
    for made in [first, second] {
        let name = made.name.as_str();
        assert_eq!(lab.get(1, name).await.unwrap().id, made.id);
        assert_eq!((in_ledgers(&lab, made.id), claims(&lab, name)), (1, 1));
        let gone = lab.get(3, name).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    }
    lab.try_create(1, 9, "more", &[]).await.unwrap();
}
