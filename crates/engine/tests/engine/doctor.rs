//! `doctor`: each difference that can be made is seen, named, repaired when asked, and gone then; and what is not safe
//! any more is refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{advance, sleep};
use vdvs_domain::{ErrorKind, GroupId};
use vdvs_engine::Engine;
use vdvs_engine::api::{Finding, Kind, Remedy, Repaired, Risk};
use vdvs_engine::ports::{DatastoreKind, DiskPath, DsPath, Power};
use vdvs_host_sim::{Fault, When};

use crate::support::{Lab, call_for, disk, ds, rand_request, root, volume};

/// What is found: names and objects.
pub(crate) async fn found(engine: &Engine) -> Vec<(&'static str, String)> {
    let findings = engine.admin_doctor("").await.unwrap().findings;
    let shown = |f: Finding| (f.kind.row().name, f.object);
    findings.into_iter().map(shown).collect()
}

pub(crate) async fn find(engine: &Engine, name: &str) -> Finding {
    let mut found = engine.admin_doctor(name).await.unwrap().findings;
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.pop().unwrap()
}

/// Asks for the repair, of everything of that name: what became of each, and why.
pub(crate) async fn fix(engine: &Engine, name: &str) -> Vec<(Repaired, String)> {
    let call = call_for(rand_request(), 120);
    let fixed = engine
        .admin_repair(&root(), &call, (name, ""), false)
        .await
        .unwrap();
    fixed.into_iter().map(|f| (f.outcome, f.text)).collect()
}

/// Is found alone, is repaired, and is gone.
pub(crate) async fn is_repaired(engine: &Engine, name: &'static str, object: &str) {
    assert_eq!(found(engine).await, [(name, object.to_owned())]);
    let dry = engine
        .admin_repair(&root(), &call_for(rand_request(), 60), (name, ""), true)
        .await
        .unwrap();
    let outcomes: Vec<_> = dry.iter().map(|f| f.outcome).collect();
    assert_eq!(outcomes, [Repaired::Would], "{dry:?}");
    assert_eq!(
        found(engine).await,
        [(name, object.to_owned())],
        "nothing was changed"
    );
    let fixed = fix(engine, name).await;
    assert!(
        matches!(fixed.as_slice(), [(Repaired::Done, _)]),
        "{name}: {fixed:?}"
    );
    assert_eq!(found(engine).await, []);
}

fn on_ds(path: &str) -> DiskPath {
    DiskPath {
        datastore: ds("ds"),
        path: DsPath::new(path).unwrap(),
    }
}

/// The newest slot of the record of `db`, and the files of all of them.
fn slots(lab: &Lab, start: &str) -> Vec<String> {
    let files = lab.world.files(&ds("ds"));
    files.into_iter().filter(|f| f.contains(start)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_world_in_order_is_clean() {
    let lab = Lab::new();
    assert_eq!(found(&lab.engine).await, [], "before the first use");
    lab.create(1, "db").await;
    lab.create(2, "free").await;
    lab.attach(1, "db").await;
    let checkup = lab.engine.admin_doctor("").await.unwrap();
    assert_eq!(checkup.findings, []);
    assert_eq!((checkup.volumes, checkup.vms, checkup.hosts), (2, 3, 0));
    assert_eq!(fix(&lab.engine, "powered-off-owner").await, []);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_there_is_not_and_what_only_a_person_repairs_are_refused() {
    let lab = Lab::new();
    let unknown = lab.engine.admin_doctor("typo").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::InvalidArgument);
    assert!(
        unknown.to_string().contains("powered-off-owner"),
        "{unknown}"
    );
    let call = call_for(1, 60);
    let user = root();
    let person = lab
        .engine
        .admin_repair(&user, &call, ("low-space", ""), false);
    let person = person.await.unwrap_err();
    assert!(person.to_string().contains("enlarge"), "{person}");
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_off_gives_its_volume_back_and_the_audit_says_who_asked() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.world.power(&lab.vms[0], Power::Off);
    let finding = find(&lab.engine, "powered-off-owner").await;
    assert_eq!(finding.kind.row().risk, Risk::Data);
    assert_eq!(finding.volume, Some(made.id));
    assert!(
        finding.since_seen && finding.text.contains("vm1"),
        "{finding:?}"
    );
    assert_eq!(finding.command, "vdvs doctor --fix=powered-off-owner db@ds");
    advance(Duration::from_secs(90)).await;
    let later = find(&lab.engine, "powered-off-owner").await;
    assert_eq!(
        later.since, finding.since,
        "its age counts from the first look"
    );
    is_repaired(&lab.engine, "powered-off-owner", "db@ds").await;
    assert_eq!(lab.world.devices(&lab.vms[0]), []);
    let audit = lab.world.audit(lab.host);
    let row = audit.iter().find(|e| e.verb == "repair").unwrap();
    assert!(row.who.contains("root"), "{row:?}");
    assert!(row.detail.starts_with("powered-off-owner: "), "{row:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_so_any_more_is_not_repaired() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.world.power(&lab.vms[0], Power::Off);
    find(&lab.engine, "powered-off-owner").await;
    lab.world.power(&lab.vms[0], Power::On);
    assert_eq!(fix(&lab.engine, "powered-off-owner").await, []);
    assert_eq!(lab.world.writers(&disk(&made)), ["vm1"]);
}

/// The VM goes on between any two calls of the repair: it keeps its disk, or has lost it in the record too.
#[tokio::test(start_paused = true)]
async fn a_vm_that_goes_on_in_the_middle_of_its_repair_never_loses_a_disk_it_has() {
    let (mut at, mut done) = (0, 0);
    loop {
        let lab = Lab::new();
        let made = lab.create(1, "db").await;
        lab.attach(1, "db").await;
        lab.world.power(&lab.vms[0], Power::Off);
        let before = lab.session.calls();
        lab.session.plan(at, Fault::Slow(Duration::from_millis(10)));
        let repair = fix(&lab.engine, "powered-off-owner");
        let power = async {
            // The slow call is the last one that was made.
            while lab.session.calls() <= before + at {
                yield_now().await;
            }
            sleep(Duration::from_millis(1)).await;
            lab.world.power(&lab.vms[0], Power::On);
        };
        let calls = tokio::select! {
            (fixed, ()) = async { tokio::join!(repair, power) } => Some(fixed),
            () = sleep(Duration::from_secs(500)) => None,
        };
        let Some(fixed) = calls else { break };
        let writers = lab.world.writers(&disk(&made));
        let view = lab.get(2, "db").await.unwrap();
        let owned = view.ownership.is_owned_by(&lab.vms[0]);
        assert_eq!(owned, !writers.is_empty(), "at call {at}: {fixed:?}");
        done += usize::from(matches!(fixed.as_slice(), [(Repaired::Done, _)]));
        at += 1;
        if at > 60 {
            break;
        }
    }
    assert!(at > 10 && done > 0, "{at} calls, {done} repaired");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_not_the_vms_own_goes_unless_it_is_in_use() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.world.plug_disk(&lab.vms[1], &disk(&made));
    lab.world.use_disk(&lab.vms[1], &disk(&made), true);
    let finding = find(&lab.engine, "foreign-disk").await;
    assert!(finding.text.contains("vm2 runs"), "{finding:?}");
    let refused = fix(&lab.engine, "foreign-disk").await;
    let [(Repaired::Refused, why)] = refused.as_slice() else {
        panic!("{refused:?}")
    };
    assert!(why.contains("its VM uses it"), "{why}");
    assert_eq!(lab.world.devices(&lab.vms[1]).len(), 1, "it stays");
    lab.world.use_disk(&lab.vms[1], &disk(&made), false);
    is_repaired(&lab.engine, "foreign-disk", "db@ds").await;
    lab.world.power(&lab.vms[2], Power::Off);
    lab.world.plug_disk(&lab.vms[2], &disk(&made));
    is_repaired(&lab.engine, "foreign-disk", "db@ds").await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_vanished_from_its_vm_is_free_again() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.world.pull_disk(&lab.vms[0], &disk(&made));
    is_repaired(&lab.engine, "vanished-disk", "db@ds").await;
    lab.attach(2, "db").await;
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_left_when_it_died_is_named_after_a_while_and_settled() {
    let mut lab = Lab::new();
    lab.create(1, "db").await;
    let mut seen = 0;
    for at in 20..200 {
        lab.session.plan(at, Fault::Crash(When::After));
        tokio::select! {
            _ = lab.try_attach(1, rand_request(), "db", Duration::ZERO) => {}
            () = lab.session.died() => {}
        }
        let died = lab.session.is_dead();
        lab.restart();
        let early = found(&lab.engine).await;
        assert!(
            !early
                .iter()
                .any(|(name, _)| *name == "unfinished-operation"),
            "it may be at it: {early:?}"
        );
        advance(Duration::from_secs(200)).await;
        if found(&lab.engine).await == [("unfinished-operation", "db@ds".to_owned())] {
            seen += 1;
            is_repaired(&lab.engine, "unfinished-operation", "db@ds").await;
        }
        assert_eq!(found(&lab.engine).await, [], "after call {at}");
        if !died {
            break;
        }
    }
    assert!(seen > 1, "seen {seen} times");
}

#[tokio::test(start_paused = true)]
async fn names_and_records_that_a_crash_left_go_when_they_are_old() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let folder = format!("dockvols/{}", GroupId::DEFAULT);
    let claim = format!("{folder}/old.vdvs");
    lab.world.put_file(&ds("ds"), &claim, b"torn");
    assert_eq!(found(&lab.engine).await, [], "its maker may be slow");
    advance(Duration::from_secs(61)).await;
    is_repaired(&lab.engine, "stale-name", "old@ds").await;
    assert_eq!(lab.world.file(&ds("ds"), &claim), None);
    let record = format!("{folder}/half.0123abcd.vdvs.1");
    lab.world.put_file(&ds("ds"), &record, b"torn");
    assert_eq!(found(&lab.engine).await, []);
    advance(Duration::from_secs(61)).await;
    is_repaired(&lab.engine, "unfinished-record", "half@ds").await;
    assert_eq!(lab.world.file(&ds("ds"), &record), None);
}

/// As after a removal of an unfinished claim that took so long that the name was claimed anew meanwhile.
#[tokio::test(start_paused = true)]
async fn a_volume_without_a_claim_gets_it_back() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let claim = format!("dockvols/{}/db.vdvs", GroupId::DEFAULT);
    let whole = lab.world.file(&ds("ds"), &claim).unwrap();
    lab.world.lose_file(&ds("ds"), &claim);
    is_repaired(&lab.engine, "unclaimed-name", "db@ds").await;
    let again = lab.world.file(&ds("ds"), &claim).unwrap();
    assert_eq!(again.len(), whole.len());
    // Nobody needs to ask for it.
    lab.world.lose_file(&ds("ds"), &claim);
    lab.engine.sweep().await;
    assert_eq!(
        lab.world.file(&ds("ds"), &claim).unwrap().len(),
        whole.len()
    );
    assert_eq!(found(&lab.engine).await, []);
    // It is as good as the first one: the name is taken, and free again when the volume goes.
    let taken = lab.try_create(1, 1, "db", &[]).await.unwrap();
    assert_eq!(taken.into_inner().id, made.id);
    lab.try_delete(1, rand_request(), "db").await.unwrap();
    assert_eq!(lab.world.file(&ds("ds"), &claim), None);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_is_compared_with_what_is_there() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let ledger = format!("dockvols/.vdvs/ledger.{}.", GroupId::DEFAULT);
    let put = |seq: u32, body: &str| {
        let crc = crc32fast::hash(body.as_bytes());
        let framed = format!("vdvs ledger 1 {} {crc:08x}\n{body}", body.len());
        let path = format!("{ledger}{seq}");
        lab.world.put_file(&ds("ds"), &path, framed.as_bytes());
    };
    let ghost = "00000000-0000-7000-8000-00000000dead";
    let body = format!(
        r#"{{"entries":{{"{}":{},"{ghost}":1073741824}},"complete":true}}"#,
        made.id,
        made.capacity.bytes()
    );
    put(90, &body);
    let object = format!("{ghost} of vmgroup _DEFAULT on ds");
    is_repaired(&lab.engine, "dangling-ledger-entry", &object).await;
    put(190, r#"{"entries":{},"complete":true}"#);
    is_repaired(&lab.engine, "missing-ledger-entry", "db@ds").await;
}

#[tokio::test(start_paused = true)]
async fn records_and_disks_that_lost_each_other_are_data_at_risk() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.world.lose_disk(&disk(&made));
    let finding = find(&lab.engine, "record-without-disk").await;
    assert_eq!(finding.object, "db@ds");
    let other = lab.create(1, "other").await;
    for slot in slots(&lab, &format!("other.{}.vdvs.", other.id.id8())) {
        lab.world.lose_file(&ds("ds"), &slot);
    }
    let finding = find(&lab.engine, "disk-without-record").await;
    assert_eq!(finding.object, disk(&other).to_string());
    assert!(finding.command.starts_with("vdvs fsck"), "{finding:?}");
    let third = lab.create(1, "third").await;
    let slot = format!(
        "dockvols/{}/third.{}.vdvs.90",
        GroupId::DEFAULT,
        third.id.id8()
    );
    let newer = format!("vdvs record 9 2 {:08x}\n{{}}", crc32fast::hash(b"{}"));
    lab.world.put_file(&ds("ds"), &slot, newer.as_bytes());
    assert_eq!(find(&lab.engine, "newer-record").await.object, "third@ds");
    let odd = format!("vdvs record 1 2 {:08x}\n{{}}", crc32fast::hash(b"{}"));
    lab.world.put_file(&ds("ds"), &slot, odd.as_bytes());
    assert_eq!(find(&lab.engine, "damaged-record").await.object, "third@ds");
}

#[tokio::test(start_paused = true)]
async fn what_vms_have_that_no_record_explains_is_said() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let stray = on_ds(&format!("dockvols/{}/x.12345678.vmdk", GroupId::DEFAULT));
    lab.world.plug_disk(&lab.vms[0], &stray);
    let finding = find(&lab.engine, "unknown-disk").await;
    assert_eq!(finding.object, stray.to_string());
    assert!(finding.text.contains("vm1"), "{finding:?}");
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_volume_in_its_vm_is_said() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.world.pin(&lab.vms[0], &disk(&made), true);
    assert!(
        find(&lab.engine, "snapshot-pinned")
            .await
            .text
            .contains("vm1")
    );
    lab.world.pin(&lab.vms[0], &disk(&made), false);
    lab.world
        .set_autostart(lab.host, &lab.vms[0], Some(Duration::from_secs(10)));
    lab.world
        .set_autostart(lab.host, &lab.vms[1], Some(Duration::from_secs(10)));
    let finding = find(&lab.engine, "autostart-race").await;
    assert_eq!(finding.object, "vm1", "vm2 uses no volumes");
    lab.world
        .set_autostart(lab.host, &lab.vms[0], Some(Duration::from_secs(180)));
    lab.world.power(&lab.vms[0], Power::Suspended);
    assert_eq!(
        found(&lab.engine).await,
        [("suspended-owner", "db@ds".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn vms_that_cannot_be_told_apart_and_volumes_under_one_name_are_said() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    let uuid = lab.vms[0].instance_uuid;
    let twin = lab
        .world
        .add_vm_with_uuid(lab.host, "twin", &ds("ds"), uuid);
    let finding = find(&lab.engine, "twin-uuid").await;
    assert!(
        finding.text.contains("vm1") && finding.text.contains("twin"),
        "{finding:?}"
    );
    lab.world.delete_vm(&twin);
    lab.create(1, "db").await;
    assert_eq!(found(&lab.engine).await, []);
    // Under its full name it takes the short one from nobody.
    lab.create(1, "db@ds2").await;
    assert_eq!(found(&lab.engine).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_seen_is_never_called_clean() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    lab.create(1, "db").await;
    lab.world.reach(lab.host, &ds("ds2"), false);
    assert_eq!(
        found(&lab.engine).await,
        [("inaccessible-datastore", "ds2".to_owned())]
    );
    lab.world.reach(lab.host, &ds("ds2"), true);
    lab.world.hang(lab.host, &ds("ds"), true);
    let seen = found(&lab.engine).await;
    assert!(
        seen.contains(&("not-looked-at", "datastore ds".to_owned())),
        "{seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn locks_that_no_record_explains_are_said() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let other = lab.world.add_host("esx02");
    let stranger = lab.world.add_vm(other, "stranger", &ds("ds"));
    lab.world.plug_disk(&stranger, &disk(&made));
    let finding = find(&lab.engine, "locked-while-free").await;
    assert!(finding.text.contains("stranger"), "{finding:?}");
    assert_eq!(finding.kind.row().risk, Risk::Data);
    lab.world.delete_vm(&stranger);
    assert_eq!(found(&lab.engine).await, []);
    lab.world.add_datastore(&ds("nfs"), DatastoreKind::Nfs);
    assert!(lab.get(1, "db").await.is_ok() && volume("db").datastore.is_none());
}

/// `docs/doctor.md` has a row for each kind, word for word, and no others.
#[test]
fn the_documentation_has_every_finding() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md");
    let page = fs::read_to_string(&path).unwrap();
    let row = |kind: &Kind| {
        let row = kind.row();
        let repair = match row.remedy {
            Remedy::Agent(what) => format!("`--fix`: {what}"),
            Remedy::Person(what) => what.to_owned(),
        };
        format!(
            "| `{}` | {} | {} | {} | {repair} |",
            row.name,
            row.means,
            row.risk.as_str(),
            row.danger
        )
    };
    let wanted: Vec<String> = Kind::ALL.iter().map(row).collect();
    let columns = |l: &str| l.split(" | ").count();
    let is_host_row = |l: &&str| l.starts_with("| `") && columns(l) == 5;
    let there: BTreeSet<&str> = page.lines().filter(is_host_row).collect();
    let all: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    let missing: Vec<_> = all.difference(&there).collect();
    let strange: Vec<_> = there.difference(&all).collect();
    assert!(
        missing.is_empty() && strange.is_empty(),
        "missing:\n{}\n\nnot in the code:\n{}",
        missing
            .iter()
            .map(|l| (**l).to_owned())
            .collect::<Vec<_>>()
            .join("\n"),
        strange
            .iter()
            .map(|l| (**l).to_owned())
            .collect::<Vec<_>>()
            .join("\n"),
    );
}
