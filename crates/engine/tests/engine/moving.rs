//! Volumes that change their vmgroup while they are in use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{advance, sleep};
use vdvs_domain::access::{ChangePrivilege, CreateGroup, Leaving};
use vdvs_domain::{Epoch, Error, ErrorKind, VolumeId};
use vdvs_engine::Engine;
use vdvs_engine::api::{AdminVolume, GroupChange, GroupChanged, Outcome, Teller, VolumeView};
use vdvs_host_sim::{Fault, When};

use crate::adoption::plant;
use crate::hosts::Two;
use crate::support::{Lab, call, disk, ds, rand_request, root};

pub(crate) const WHENS: [When; 3] = [When::Before, When::Half, When::After];

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
pub(crate) fn edit_config(lab: &Lab, edit: impl FnOnce(&mut Vec<Value>)) {
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

pub(crate) async fn move_to(
    engine: &Arc<Engine>,
    address: &str,
    to: &str,
) -> Result<Outcome<String>, Error> {
    let (user, call) = (root(), call(rand_request()));
    engine.admin_move(&user, &call, address, to, false).await
}

pub(crate) async fn named(engine: &Arc<Engine>, name: &str) -> Vec<AdminVolume> {
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
pub(crate) fn in_ledgers(lab: &Lab, id: VolumeId) -> usize {
    let files = lab.world.files(&ds("ds"));
    let mut newest = BTreeMap::new();
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

pub(crate) fn claims(lab: &Lab, name: &str) -> usize {
    let claim = format!("/{name}.vdvs");
    let files = lab.world.files(&ds("ds"));
    files.iter().filter(|f| f.ends_with(&claim)).count()
}

pub(crate) async fn settle(lab: &Lab) {
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
    let limit = GroupChange::SetPrivilege(ChangePrivilege {
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
    plant(&lab, "db").await;
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
