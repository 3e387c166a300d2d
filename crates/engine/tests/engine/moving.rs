//! Volumes that change their vmgroup while they are in use, and VMs that change theirs with them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{advance, sleep};
use vdvs_domain::access::{ChangeMembers, CreateGroup, Leaving};
use vdvs_domain::{Epoch, Error, ErrorKind, VolumeId};
use vdvs_engine::Engine;
use vdvs_engine::api::{
    AdminVolume, Caller, GroupChange, GroupChanged, LocalUser, Outcome, Teller, VolumeView,
};
use vdvs_host_sim::{Fault, When};

use crate::hosts::Two;
use crate::support::{Lab, call, disk, ds, given, rand_request, until, volume};

const WHENS: [When; 3] = [When::Before, When::Half, When::After];

pub(crate) fn root() -> LocalUser {
    LocalUser {
        name: "root".to_owned(),
        uid: Some(0),
    }
}

pub(crate) async fn make_group(
    engine: &Arc<Engine>,
    name: &str,
    vms: &[&str],
    volumes: Leaving,
) -> Result<GroupChanged, Error> {
    let change = GroupChange::Create(CreateGroup {
        name: name.to_owned(),
        default_datastore: "ds".to_owned(),
        vms: vms.iter().map(|vm| (*vm).to_owned()).collect(),
        volumes,
        ..CreateGroup::default()
    });
    let tell = Teller::default();
    engine.admin_change_group(&root(), &change, &tell).await
}

/// The next version of the configuration, as a restored or edited one comes.
fn edit_config(lab: &Lab, edit: impl FnOnce(&mut Vec<Value>)) {
    let files = lab.world.files(&ds("ds"));
    let slot = |f: &String| {
        f.strip_prefix("dockvols/.vdvs/config.")?
            .parse::<u64>()
            .ok()
    };
    let newest = files.iter().filter_map(slot).max().unwrap();
    let path = |seq: u64| format!("dockvols/.vdvs/config.{seq}");
    let mut document = json(lab, &path(newest)).unwrap();
    edit(document["access"]["groups"].as_array_mut().unwrap());
    document["version"] = (document["version"].as_u64().unwrap() + 1).into();
    let body = serde_json::to_string(&document).unwrap();
    let crc = crc32fast::hash(body.as_bytes());
    let framed = format!("vdvs config 1 {} {crc:08x}\n{body}", body.len());
    lab.world
        .put_file(&ds("ds"), &path(newest + 1), framed.as_bytes());
}

pub(crate) fn forget_group(lab: &Lab, name: &str) {
    edit_config(lab, |groups| groups.retain(|g| g["name"] != name));
}

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

pub(crate) async fn move_to(
    engine: &Arc<Engine>,
    address: &str,
    to: &str,
) -> Result<Outcome<String>, Error> {
    let (user, call) = (root(), call(rand_request()));
    engine.admin_move(&user, &call, address, to, false).await
}

async fn named(engine: &Arc<Engine>, name: &str) -> Vec<AdminVolume> {
    let mut all = engine.admin_volumes().await.unwrap().volumes;
    all.retain(|v| v.view.name.as_str() == name);
    all
}

fn json(lab: &Lab, file: &str) -> Option<Value> {
    let bytes = lab.world.file(&ds("ds"), file)?;
    let text = String::from_utf8(bytes).ok()?;
    serde_json::from_str(text.split_once('\n')?.1).ok()
}

/// Volumes by vmgroup in its ledger.
fn in_ledgers(lab: &Lab, id: VolumeId) -> usize {
    let files = lab.world.files(&ds("ds"));
    let mut newest = std::collections::BTreeMap::new();
    for file in files.iter().filter(|f| f.contains("/ledger.")) {
        let (stem, seq) = file.rsplit_once('.').unwrap();
        if let Some(ledger) = json(lab, file) {
            let seq: u64 = seq.parse().unwrap();
            let held: &mut (u64, Value) = newest.entry(stem).or_default();
            if seq > held.0 {
                *held = (seq, ledger);
            }
        }
    }
    let has = |ledger: &Value| !ledger["entries"][id.to_string()].is_null();
    newest.values().filter(|(_, l)| has(l)).count()
}

fn claims(lab: &Lab, name: &str) -> usize {
    let claim = format!("/{name}.vdvs");
    let files = lab.world.files(&ds("ds"));
    files.iter().filter(|f| f.ends_with(&claim)).count()
}

async fn settle(lab: &Lab) {
    for _ in 0..5 {
        lab.engine.sweep().await;
        advance(Duration::from_secs(70)).await;
    }
    lab.engine.sweep().await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_moves_while_it_is_attached_and_its_guest_notices_nothing() {
    let two = Two::new();
    let (made, held) = two.held(&[]).await;
    two.near.world.write_disk(&disk(&made), 42);
    let mut notices = two.near.engine.watch(&two.near.vms[0]);
    make_group(&two.far, "dev", &["far1"], Leaving::Ask)
        .await
        .unwrap();
    assert!(move_to(&two.far, "db", "dev").await.unwrap().is_change());
    assert!(
        !move_to(&two.far, "dev/db@ds", "dev")
            .await
            .unwrap()
            .is_change()
    );
    // Where it was, the name is free; where it is, it is the same volume.
    let gone = two.near.get(2, "db").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    assert_eq!(two.far_view().await.id, made.id);
    assert_eq!(two.far_view().await.group.as_str(), "dev");
    let other = two.near.create(2, "db").await;
    assert_ne!(other.id, made.id);
    // The agent of its VM goes on watching it: whoever waits is told of, and the detach is served.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(two.writers(&made), ["vm1"]);
    assert!(notices.try_recv().is_err());
    let wait = async {
        sleep(Duration::from_secs(2)).await;
        assert!(
            notices.try_recv().is_ok(),
            "the guest was not told who waits"
        );
        two.near.detach(1, &held).await
    };
    let (got, left) = tokio::join!(two.attach_far(1, Duration::from_secs(20)), wait);
    assert_eq!(left, Outcome::Changed(()));
    let got = got.unwrap();
    assert_eq!((got.view.id, got.epoch), (made.id, Epoch::new(2)));
    assert_eq!(two.writers(&made), ["far1"]);
    assert_eq!(two.near.world.read_disk(&disk(&made)), Some(42));
    assert_eq!(
        (in_ledgers(&two.near, made.id), claims(&two.near, "db")),
        (1, 2)
    );
    // Back again, under another name's folder or not: the files stay where they are.
    let taken = move_to(&two.near.engine, "dev/db", "_DEFAULT")
        .await
        .unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{taken}");
    two.near.try_delete(2, rand_request(), "db").await.unwrap();
    move_to(&two.near.engine, "db", "_DEFAULT").await.unwrap();
    let record = two.record().await;
    assert!(
        record["folder"].is_null() && record["moving"].is_null(),
        "{record:#}"
    );
}

/// What must hold after a crash at any call of a move, and once everything is settled.
async fn moved_or_not(lab: &Lab, id: VolumeId, text: &str) -> String {
    settle(lab).await;
    let found = named(&lab.engine, "db").await;
    assert_eq!(found.len(), 1, "{text}");
    assert_eq!(found[0].view.id, id, "{text}");
    assert_eq!(in_ledgers(lab, id), 1, "{text}: ledgers");
    assert_eq!(claims(lab, "db"), 1, "{text}: claims");
    let record = lab.engine.admin_inspect("db").await.unwrap().record_json;
    let record: Value = serde_json::from_str(&record).unwrap();
    assert!(record["moving"].is_null(), "{text}: {record:#}");
    found[0].view.group.to_string()
}

/// A claim of which nobody can say whose it is gets its time.
async fn move_patiently(lab: &Lab, text: &str) {
    for _ in 0..10 {
        match move_to(&lab.engine, "db", "dev").await {
            Ok(_) => return,
            Err(why) => assert!(why.kind().row().retry, "{text}: {why}"),
        }
        advance(Duration::from_secs(20)).await;
        lab.engine.sweep().await;
    }
    panic!("{text}: it never came");
}

#[tokio::test(start_paused = true)]
async fn a_move_survives_a_crash_at_every_call_and_the_name_is_in_one_vmgroup() {
    let prepare = async || {
        let lab = Lab::new();
        let made = lab.create(1, "db").await;
        let held = lab.attach(1, "db").await;
        let made_group = make_group(&lab.engine, "dev", &["vm3"], Leaving::Ask);
        made_group.await.unwrap();
        (lab, made.id, held)
    };
    let calls = {
        let (lab, ..) = prepare().await;
        let before = lab.session.calls();
        move_to(&lab.engine, "db", "dev").await.unwrap();
        lab.session.calls() - before
    };
    assert!(calls > 20, "the move was seen: {calls}");
    let mut both = [0, 0];
    for at in 0..calls {
        for when in WHENS {
            {
                let retry = (at + u64::from(when == When::Half)) % 2 == 0;
                let text = format!("move dies {when:?} call {at}, retry {retry}");
                let (mut lab, id, held) = prepare().await;
                lab.session.plan(at, Fault::Crash(when));
                tokio::select! {
                    biased;
                    _ = move_to(&lab.engine, "db", "dev") => {}
                    () = lab.session.died() => {}
                }
                lab.restart();
                // No moment at which neither vmgroup knows it.
                let views = [lab.get(1, "db").await, lab.get(3, "db").await];
                let missing =
                    |v: &Result<_, Error>| matches!(v, Err(e) if e.kind() == ErrorKind::NotFound);
                assert!(!views.iter().all(missing), "{text}: {views:?}");
                if retry {
                    move_patiently(&lab, &text).await;
                }
                let group = moved_or_not(&lab, id, &text).await;
                both[usize::from(group == "dev")] += 1;
                assert!(!retry || group == "dev", "{text}");
                assert_eq!(lab.detach(1, &held).await, Outcome::Changed(()), "{text}");
                lab.attach(if group == "dev" { 3 } else { 1 }, "db").await;
            }
        }
    }
    assert!(both[0] > 10 && both[1] > 10, "{both:?}");
}

#[tokio::test(start_paused = true)]
async fn another_host_ends_or_takes_back_what_a_dead_one_left() {
    for at in 0..36 {
        let mut two = Two::new();
        let (made, _) = two.held(&[]).await;
        let group = make_group(&two.near.engine, "dev", &["vm3"], Leaving::Ask);
        group.await.unwrap();
        two.far_session.plan(at, Fault::Crash(When::After));
        tokio::select! {
            biased;
            _ = move_to(&two.far, "db", "dev") => {}
            () = two.far_session.died() => {}
        }
        two.kill_far();
        let text = format!("the mover's host died at call {at}");
        sleep(Duration::from_secs(150)).await;
        moved_or_not(&two.near, made.id, &text).await;
        assert_eq!(two.writers(&made), ["vm1"], "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_the_new_vmgroup_hold_unless_forced() {
    let lab = Lab::new();
    lab.try_create(1, 1, "big", &[("size", "3gb")])
        .await
        .unwrap();
    lab.try_create(1, 2, "small", &[("size", "1gb")])
        .await
        .unwrap();
    make_group(&lab.engine, "dev", &["vm3"], Leaving::Ask)
        .await
        .unwrap();
    let limit = GroupChange::SetPrivilege(vdvs_domain::access::ChangePrivilege {
        group: "dev".to_owned(),
        datastore: "ds".to_owned(),
        max_size: Some("2GB".to_owned()),
        total_size: Some("3GB".to_owned()),
        ..Default::default()
    });
    let tell = Teller::default();
    lab.engine
        .admin_change_group(&root(), &limit, &tell)
        .await
        .unwrap();
    let refused = move_to(&lab.engine, "big", "dev").await.unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("Volume size exceeds the max volume size limit"),
        "{refused}"
    );
    move_to(&lab.engine, "small", "dev").await.unwrap();
    let forced = lab
        .engine
        .admin_move(&root(), &call(5), "big", "dev", true)
        .await;
    assert!(forced.unwrap().is_change());
    lab.try_create(1, 6, "one", &[("size", "1gb")])
        .await
        .unwrap();
    let full = move_to(&lab.engine, "one", "dev").await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::QuotaExceeded, "{full}");
    settle(&lab).await;
    let one = named(&lab.engine, "one").await.remove(0);
    assert_eq!(
        (one.view.group.as_str(), claims(&lab, "one")),
        ("_DEFAULT", 1)
    );
    let unknown = move_to(&lab.engine, "one", "nobody").await.unwrap_err();
    assert!(
        unknown
            .to_string()
            .starts_with("Vmgroup nobody does not exist"),
        "{unknown}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_the_original_moves_and_leaves_no_ghost_in_its_old_vmgroup() {
    let lab = Lab::new();
    lab.create(1, "ours").await;
    make_group(&lab.engine, "dev", &["vm3"], Leaving::Ask)
        .await
        .unwrap();
    crate::adoption::plant(&lab, "db").await;
    let seen = lab.get(1, "db").await.unwrap();
    move_to(&lab.engine, "db", "dev").await.unwrap();
    let gone = lab.get(1, "db").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
    settle(&lab).await;
    let names = |list: Vec<VolumeView>| -> Vec<_> {
        list.into_iter()
            .map(|v| (v.name.to_string(), v.id))
            .collect()
    };
    let old = lab.engine.list(&lab.caller(1)).await.unwrap().volumes;
    assert!(!names(old).iter().any(|(name, _)| name == "db"));
    let new = lab.engine.list(&lab.caller(3)).await.unwrap().volumes;
    assert_eq!(names(new), [("db".to_owned(), seen.id)]);
    let attached = lab.attach(3, "db").await;
    assert_eq!(attached.view.id, seen.id);
    lab.detach(3, &attached).await;
    let another = lab.create(1, "db").await;
    assert_ne!(another.id, seen.id);
    lab.try_delete(3, rand_request(), "db").await.unwrap();
    assert_eq!(named(&lab.engine, "db").await.len(), 1);
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
