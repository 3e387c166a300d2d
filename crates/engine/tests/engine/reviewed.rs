//! What may not happen when things go wrong side by side: damage beside health, waiters beside waiters, names on
//! datastores that cannot be read.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::yield_now;
use tokio::time::advance;
use vdvs_domain::{ErrorKind, GroupId};
use vdvs_engine::api::Caller;

use crate::support::{Lab, WAIT, call, disk, ds, given, rand_request, volume};

const GROUP: &str = "dockvols/11111111-1111-1111-1111-111111111111";

/// The ledger's newest version, as text.
fn ledger(lab: &Lab) -> String {
    let prefix = format!("dockvols/.vdvs/ledger.{}.", GroupId::DEFAULT);
    let files = lab.world.files(&ds("ds"));
    let newest = files
        .iter()
        .filter_map(|f| f.strip_prefix(&prefix)?.parse::<u64>().ok())
        .max()
        .unwrap();
    let bytes = lab.world.file(&ds("ds"), &format!("{prefix}{newest}"));
    String::from_utf8(bytes.unwrap()).unwrap()
}

/// Makes the record of a volume one that only a newer program understands.
fn make_newer(lab: &Lab, name: &str, id8: &str) {
    let newer = format!("vdvs record 9 2 {:08x}\n{{}}", crc32fast::hash(b"{}"));
    let path = format!("{GROUP}/{name}.{id8}.vdvs.90");
    lab.world.put_file(&ds("ds"), &path, newer.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_record_cannot_be_read_keeps_its_place_in_the_ledger() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.create(1, "other").await;
    make_newer(&lab, "db", &made.id.id8());
    lab.engine.sweep().await;
    assert!(
        ledger(&lab).contains(&made.id.to_string()),
        "{}",
        ledger(&lab)
    );
}

#[tokio::test(start_paused = true)]
async fn damage_in_one_file_does_not_keep_the_sweep_from_the_others() {
    let lab = Lab::new();
    let made = lab.create(1, "a").await;
    make_newer(&lab, "a", &made.id.id8());
    let claim = format!("vdvs claim 9 2 {:08x}\n{{}}", crc32fast::hash(b"{}"));
    lab.world
        .put_file(&ds("ds"), &format!("{GROUP}/b.vdvs"), claim.as_bytes());
    let left = format!("{GROUP}/z.vdvs");
    lab.world.put_file(&ds("ds"), &left, b"torn");
    for _ in 0..4 {
        lab.engine.sweep().await;
        advance(Duration::from_secs(30)).await;
    }
    assert_eq!(lab.world.file(&ds("ds"), &left), None, "a leftover is gone");
    assert!(
        lab.world
            .file(&ds("ds"), &format!("{GROUP}/b.vdvs"))
            .is_some(),
        "what a newer program wrote stays"
    );
}

#[tokio::test(start_paused = true)]
async fn waiters_for_a_locked_disk_do_not_keep_each_other_awake() {
    let (lab, made) = Lab::with_lingering_lock(Duration::from_secs(4)).await;
    let before = lab.session.calls();
    let short = Duration::from_secs(10);
    let (two, three) = tokio::join!(
        lab.try_attach(2, 1, "db", short),
        lab.try_attach(3, 2, "db", short)
    );
    assert!(two.is_ok() != three.is_ok(), "{two:?} {three:?}");
    assert_eq!(lab.world.writers(&disk(&made)).len(), 1);
    let calls = lab.session.calls() - before;
    assert!(calls < 4000, "waiting is not spinning: {calls}");
}

#[tokio::test(start_paused = true)]
async fn a_short_name_is_not_given_to_another_volume_while_its_own_may_be_out_of_reach() {
    let mut lab = Lab::with_datastores(&["ds", "ds2"]);
    let vm = lab.world.add_vm(lab.host, "vm4", &ds("ds2"));
    lab.vms.push(vm.clone());
    let there = Caller {
        home: Some(ds("ds2")),
        ..lab
            .engine
            .caller(vm.instance_uuid, &vm.config_path)
            .await
            .unwrap()
    };
    let call = call(rand_request());
    let own = lab
        .engine
        .create(&there, &call, &volume("db"), &given(&[]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(own.datastore, ds("ds2"));
    lab.create(1, "db@ds").await;
    assert_eq!(lab.get(1, "db").await.unwrap().id, own.id);
    lab.world.reach(lab.host, &ds("ds2"), false);
    let err = lab.get(1, "db").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable, "{err}");
    let err = lab.try_attach(1, 5, "db", WAIT).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable, "{err}");
    assert!(lab.get(1, "db@ds").await.is_ok(), "by its full name");
}

#[tokio::test(start_paused = true)]
async fn a_datastore_whose_configuration_is_lost_may_hold_any_name() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    lab.create(1, "here").await;
    lab.create(1, "there@ds2").await;
    lab.world
        .put_file(&ds("ds2"), "dockvols/.vdvs/datastore.json", b"torn");
    let (host, other) = lab.second_host();
    let far = lab.world.add_vm(host, "far", &ds("ds"));
    let far = other
        .caller(far.instance_uuid, &far.config_path)
        .await
        .unwrap();
    assert!(other.get(&far, &volume("here")).await.is_ok());
    let err = other.get(&far, &volume("unheard-of")).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotConfigured, "{err}");
    let listing = other.list(&far).await.unwrap();
    assert_eq!(listing.unreadable, [ds("ds2")]);
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_lost_the_volume_meanwhile_leaves_no_disk_behind() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let stem = format!("{GROUP}/db.{}.vdvs", made.id.id8());
    let lose = async {
        while lab.world.devices(&lab.vms[0]).is_empty() {
            yield_now().await;
        }
        // What another host writes that took the owner for dead.
        let files = lab.world.files(&ds("ds"));
        let slots = files
            .iter()
            .filter_map(|f| f.strip_prefix(&format!("{stem}."))?.parse::<u64>().ok());
        let newest = slots.max().unwrap();
        let bytes = lab.world.file(&ds("ds"), &format!("{stem}.{newest}"));
        let text = String::from_utf8(bytes.unwrap()).unwrap();
        let mut record: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
        record["ownership"] = json!({"state": "free"});
        record["operation"] = Value::Null;
        let body = record.to_string();
        let crc = crc32fast::hash(body.as_bytes());
        let framed = format!("vdvs record 1 {} {crc:08x}\n{body}", body.len());
        let next = format!("{stem}.{}", newest + 1);
        lab.world.put_file(&ds("ds"), &next, framed.as_bytes());
    };
    let (lost, ()) = tokio::join!(lab.try_attach(1, 1, "db", Duration::ZERO), lose);
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::Superseded);
    assert!(lab.world.devices(&lab.vms[0]).is_empty());
    lab.attach(2, "db").await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_record_is_damaged_or_lost_is_neither_absent_nor_a_leftover_of_a_create() {
    for lost in [false, true] {
        let mut lab = Lab::new();
        let made = lab.create(1, "db").await;
        lab.world.write_disk(&disk(&made), 7);
        let slot = format!("{GROUP}/db.{}.vdvs.", made.id.id8());
        let files = lab.world.files(&ds("ds"));
        for file in files.iter().filter(|f| f.starts_with(&slot)) {
            match lost {
                true => lab.world.lose_file(&ds("ds"), file),
                false => lab.world.put_file(&ds("ds"), file, b""),
            }
        }
        // A new agent knows only what it reads, and a create that nobody finishes is taken back after a while.
        lab.restart();
        for _ in 0..3 {
            lab.engine.sweep().await;
            advance(Duration::from_secs(400)).await;
        }
        assert_eq!(lab.world.read_disk(&disk(&made)), Some(7), "lost: {lost}");
        let said = lab.get(1, "db").await.unwrap_err();
        assert_eq!(said.kind(), ErrorKind::Damaged, "{said}");
        assert!(said.to_string().contains("vdvs fsck --repair"), "{said}");
        let again = lab.try_create(1, rand_request(), "db", &[]).await;
        assert!(again.is_err(), "{again:?}");
        let gone = lab.try_delete(1, rand_request(), "db").await;
        assert!(gone.is_err(), "{gone:?}");
        assert_eq!(lab.world.read_disk(&disk(&made)), Some(7), "lost: {lost}");
    }
}
