//! fsck: what it says of damage, whose a rebuilt volume is, and that it hurts nobody who works meanwhile.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{advance, sleep};
use vdvs_domain::{Epoch, ErrorKind, FilesystemState, Ownership};
use vdvs_engine::Engine;
use vdvs_engine::api::{FsckKind, InventoryItem, Settings};
use vdvs_engine::ports::{Datastores, DsPath, Power};
use vdvs_host_sim::{Fault, When};

use crate::fsck_scene::{CONTENT, Scene, fresh, fsck, kinds, repaired};
use crate::hosts::Two;
use crate::support::{Lab, call, disk, ds, given, rand_request, until, volume};

/// All versions of a volume's record, gone.
async fn lose_record(scene: &Scene, name: &str) {
    for file in scene.files().into_keys() {
        let is_slot = file.contains(&format!("/{name}.")) && file.contains(".vdvs.");
        if is_slot {
            scene.remove(&file).await;
        }
    }
}

/// The record's checksum is wrong; all its words are there.
fn spoil_record(scene: &Scene, name: &str) {
    let path = scene.slot(&format!("/{name}."));
    let mut bytes = scene.files()[&path].clone();
    let end = bytes.iter().position(|b| *b == b'\n').unwrap();
    bytes[end - 1] = if bytes[end - 1] == b'0' { b'1' } else { b'0' };
    scene.put(&path, &bytes);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_found_where_nothing_is_wrong() {
    let scene = Scene::new().await;
    let before = scene.files();
    for repair in [false, true] {
        let report = scene.fsck(repair).await;
        assert_eq!(kinds(&report), [], "{:?}", report.findings);
        let looked = &report.looked[0];
        assert_eq!((looked.records, looked.claims, looked.disks), (2, 2, 2));
    }
    assert_eq!(scene.files(), before);
}

#[tokio::test(start_paused = true)]
async fn a_look_changes_nothing_and_says_what_a_repair_would_do() {
    let scene = Scene::new().await;
    spoil_record(&scene, "cache");
    lose_record(&scene, "db").await;
    let before = scene.files();
    let report = scene.fsck(false).await;
    assert_eq!(
        kinds(&report),
        [
            ("damaged-record", "repairable"),
            ("lost-record", "repairable")
        ]
    );
    let said: Vec<_> = report.findings.iter().map(|f| f.action.as_str()).collect();
    assert!(said[0].contains("nobody's"), "{said:?}");
    assert!(said[1].contains("attached to VM vm1"), "{said:?}");
    assert_eq!(scene.files(), before);
}

#[tokio::test(start_paused = true)]
async fn damaged_bytes_are_kept_and_every_repair_is_audited() {
    let scene = Scene::new().await;
    spoil_record(&scene, "cache");
    let path = scene.slot("/cache.");
    let damaged = scene.files()[&path].clone();
    assert_eq!(repaired(&scene.fsck(true).await), 1);
    let kept = scene.files();
    let mut kept = kept
        .iter()
        .filter(|(name, _)| name.contains(".vdvs/damaged/"));
    assert_eq!(kept.next().unwrap().1, &damaged);
    assert!(kept.next().is_none());
    let audit = scene.lab.world.audit(scene.lab.host);
    let row = audit.iter().find(|e| e.verb == "fsck").unwrap();
    assert!(
        row.object == "cache@ds" && row.detail.starts_with("damaged-record"),
        "{row:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn until_it_is_rebuilt_a_volume_is_neither_absent_nor_a_leftover() {
    for lost in [false, true] {
        let mut scene = Scene::new().await;
        match lost {
            true => lose_record(&scene, "cache").await,
            false => {
                let path = scene.slot("/cache.");
                scene.put(&path, b"");
            }
        }
        scene.restart();
        scene.sweep().await;
        scene.check_disks("swept");
        let said = scene.lab.get(1, "cache").await.unwrap_err();
        assert_eq!(said.kind(), ErrorKind::Damaged, "{said}");
        assert!(said.to_string().contains("vdvs fsck --repair"), "{said}");
        let again = scene.lab.try_create(1, rand_request(), "cache", &[]).await;
        assert!(again.is_err(), "{again:?}");
        let gone = scene.lab.try_delete(1, rand_request(), "cache").await;
        assert!(gone.is_err(), "{gone:?}");
        scene.check_disks("asked");
        assert!(repaired(&scene.fsck(true).await) >= 1);
        scene.check_volumes("rebuilt").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_grew_beyond_all_bounds_spoils_only_what_it_is_about() {
    let scene = Scene::new().await;
    let huge = vec![b'x'; 9 * 1024 * 1024];
    for part in ["/cache.", "/ledger."] {
        scene.put(&scene.slot(part), &huge);
    }
    let agent = fresh(&scene);
    let listing = agent.list(&scene.lab.caller(1)).await.unwrap();
    assert_eq!(listing.unreadable, [], "one file is no datastore");
    assert_eq!(listing.volumes.len(), 1);
    let found = kinds(&fsck(&agent, true, &[]).await);
    assert_eq!(
        found,
        [
            ("damaged-record", "repaired"),
            ("damaged-ledger", "repaired")
        ]
    );
    scene.check_volumes("rebuilt").await;
    assert_eq!(kinds(&fsck(&fresh(&scene), true, &[]).await), []);
}

#[tokio::test(start_paused = true)]
async fn a_rebuilt_volume_keeps_its_options_as_far_as_they_can_be_read_and_is_never_formatted() {
    let lab = Lab::new();
    let options = [
        ("fstype", "xfs"),
        ("failover", "fence"),
        ("access", "read-only"),
    ];
    lab.try_create(1, 1, "x", &options).await.unwrap();
    let scene = Scene::over(lab).await;
    let before = scene.lab.get(1, "x").await.unwrap();
    assert_eq!(before.filesystem.state, FilesystemState::Never);
    spoil_record(&scene, "x");
    assert_eq!(repaired(&scene.fsck(true).await), 1);
    let after = scene.lab.get(1, "x").await.unwrap();
    assert_eq!((after.id, after.options), (before.id, before.options));
    assert_eq!(after.filesystem.state, FilesystemState::Unknown);
    assert_eq!(after.filesystem.fstype, before.filesystem.fstype);
    lose_record(&scene, "x").await;
    assert_eq!(repaired(&fsck(&fresh(&scene), true, &[]).await), 1);
    let after = scene.lab.get(1, "x").await.unwrap();
    assert_eq!(after.id, before.id, "by its claim");
    assert_eq!(after.filesystem.state, FilesystemState::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_disk_alone_is_a_volume_again() {
    let scene = Scene::new().await;
    lose_record(&scene, "cache").await;
    let claim = disk(&scene.cache).path.to_string();
    let claim = claim.replace(&format!(".{}.vmdk", scene.cache.id.id8()), ".vdvs");
    scene.remove(&claim).await;
    let ledger = scene.slot("/ledger.");
    scene.remove(&ledger).await;
    let report = scene.fsck(true).await;
    assert_eq!(
        kinds(&report),
        [("lost-record", "repaired"), ("ledger-differs", "repaired")]
    );
    let now = scene.lab.get(1, "cache").await.unwrap();
    assert_eq!(now.id.id8(), scene.cache.id.id8(), "its path stays its own");
    assert_eq!(now.ownership, Ownership::Free);
    scene.check_disks("alone");
    assert_eq!(kinds(&fsck(&fresh(&scene), true, &[]).await), []);
}

#[tokio::test(start_paused = true)]
async fn the_guest_keeps_what_it_has_learns_the_epoch_and_then_lets_go() {
    let mut scene = Scene::new().await;
    let (id, old) = (scene.db.id, scene.held.epoch);
    lose_record(&scene, "db").await;
    scene.restart();
    let report = |epoch| {
        [InventoryItem {
            volume: id,
            epoch,
            mounted: true,
        }]
    };
    let caller = scene.lab.caller(1);
    let before = report(old);
    let lost = scene.lab.engine.report_inventory(&caller, &before).await;
    assert_eq!(lost.unwrap().superseded, [], "before the repair");
    let early = scene.lab.try_detach(1, 5, id, old).await;
    assert_eq!(early.unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(repaired(&scene.fsck(true).await), 1);
    scene.check_volumes("rebuilt").await;
    let told = scene.lab.engine.report_inventory(&caller, &before).await;
    let told = told.unwrap();
    assert_eq!(told.superseded, [], "its container goes on");
    let new = told.attached.iter().find(|v| v.id == id).unwrap().epoch;
    assert!(new > old);
    let late = scene.lab.try_detach(1, 6, id, old).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Unavailable, "{late}");
    let other = scene.lab.try_attach(2, 7, "db", Duration::ZERO).await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::InUse);
    scene.lab.try_detach(1, 8, id, new).await.unwrap();
    let next = scene
        .lab
        .try_attach(2, 9, "db", Duration::ZERO)
        .await
        .unwrap();
    assert!(next.epoch > new);
    let now = report(new);
    let stale = scene.lab.engine.report_inventory(&caller, &now).await;
    assert_eq!(stale.unwrap().superseded, [id], "now it is another's");
}

#[tokio::test(start_paused = true)]
async fn what_another_hosts_vm_has_is_rebuilt_by_that_host() {
    let two = Two::new().quiet();
    let (db, _) = two.held(&[]).await;
    two.near.world.write_disk(&disk(&db), CONTENT);
    for file in two.near.world.files(&ds("ds")) {
        if file.contains("/db.") && file.contains(".vdvs.") {
            let path = DsPath::new(&file).unwrap();
            two.near.session.remove(&ds("ds"), &path).await.unwrap();
        }
    }
    let left = fsck(&two.far, true, &[]).await;
    assert_eq!(kinds(&left), [("lost-record", "left")]);
    assert!(
        left.findings[0].action.contains("run fsck on the host"),
        "{left:?}"
    );
    let vouched = fsck(&two.far, true, &["db@ds"]).await;
    assert_eq!(
        kinds(&vouched),
        [("lost-record", "left")],
        "a held lock has the last word"
    );
    let mine = fsck(&two.near.engine, true, &[]).await;
    assert_eq!(kinds(&mine), [("lost-record", "repaired")]);
    assert_eq!(
        two.far_view().await.ownership.owner().unwrap().vm.name,
        "vm1"
    );
    assert_eq!(two.writers(&db), ["vm1"]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_elsewhere_that_the_damaged_record_names_stays_the_owner() {
    let two = Two::new().quiet();
    let (db, _) = two.held(&[]).await;
    // Its host is gone, its lock with it: only the record knew who has the volume.
    let path = {
        let files = two.near.world.files(&ds("ds"));
        let mut slots = files.into_iter();
        slots
            .find(|f| f.contains("/db.") && f.contains(".vdvs."))
            .unwrap()
    };
    two.near.world.power(&two.near.vms[0], Power::Suspended);
    let mut bytes = two.near.world.file(&ds("ds"), &path).unwrap();
    let at = bytes.len() - 1;
    bytes[at] = b' ';
    two.near.world.put_file(&ds("ds"), &path, &bytes);
    let report = fsck(&two.far, true, &[]).await;
    assert_eq!(
        kinds(&report),
        [("damaged-record", "repaired")],
        "{report:?}"
    );
    let owner = two.far_view().await.ownership.owner().unwrap().clone();
    assert_eq!(owner.vm.id, two.near.vms[0]);
    let taken = two.attach_far(1, Duration::from_secs(8)).await;
    assert!(taken.is_err(), "a suspended VM still owns: {taken:?}");
    drop(db);
}

#[tokio::test(start_paused = true)]
async fn a_free_lock_proves_nothing_while_another_host_tells_of_a_suspended_vm() {
    let two = Two::new();
    let (_, held) = two.held(&[]).await;
    two.near.detach(1, &held).await;
    two.near.world.power(&two.near.vms[1], Power::Suspended);
    advance(Duration::from_secs(400)).await;
    until("esx01 told", async || {
        let hosts = two.far.admin_vms().await.unwrap();
        hosts.iter().any(|vm| vm.power == Power::Suspended)
    })
    .await;
    let two = two.quiet();
    let path = {
        let files = two.near.world.files(&ds("ds"));
        let mut slots = files.into_iter();
        slots
            .find(|f| f.contains("/db.") && f.contains(".vdvs."))
            .unwrap()
    };
    let path = DsPath::new(&path).unwrap();
    two.near.session.remove(&ds("ds"), &path).await.unwrap();
    let left = fsck(&two.far, true, &[]).await;
    assert_eq!(kinds(&left), [("lost-record", "left")]);
    assert!(
        left.findings[0]
            .action
            .contains("VM vm2 on host esx01 is suspended"),
        "{left:?}"
    );
    assert!(
        left.findings[0].action.contains("--nobody-has db@ds"),
        "{left:?}"
    );
    let vouched = fsck(&two.far, true, &["db@ds"]).await;
    assert_eq!(kinds(&vouched), [("lost-record", "repaired")]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_format_is_refused_untouched() {
    for (part, whole) in [
        ("/cache.", false),
        ("/db.vdvs", false),
        ("/ledger.", false),
        ("/datastore.json", true),
        ("/config.", true),
    ] {
        let scene = Scene::new().await;
        spoil_record(&scene, "db");
        let path = match part.ends_with(".vdvs") {
            true => scene
                .files()
                .into_keys()
                .find(|f| f.ends_with(part))
                .unwrap(),
            false => scene.slot(part),
        };
        let text = String::from_utf8(scene.files()[&path].clone()).unwrap();
        let (head, body) = text.split_once('\n').unwrap();
        let mut words: Vec<&str> = head.split(' ').collect();
        words[2] = "9";
        scene.put(&path, format!("{}\n{body}", words.join(" ")).as_bytes());
        let before = scene.files();
        let report = fsck(&fresh(&scene), true, &[]).await;
        let found = kinds(&report);
        assert!(
            found.contains(&("newer-format", "left")),
            "{part}: {found:?}"
        );
        let after = scene.files();
        assert_eq!(after[&path], before[&path], "{part} was touched");
        if whole {
            assert_eq!(after, before, "{part}: the rest was touched");
        }
        scene.check_disks(part);
    }
}

#[tokio::test(start_paused = true)]
async fn a_layout_of_a_newer_program_closes_the_datastore() {
    let scene = Scene::new().await;
    let path = scene.slot("/datastore.json");
    let text = String::from_utf8(scene.files()[&path].clone()).unwrap();
    let body = text
        .split_once('\n')
        .unwrap()
        .1
        .replace("\"layout\":1", "\"layout\":2");
    let head = format!(
        "vdvs datastore 1 {} {:08x}\n",
        body.len(),
        crc(body.as_bytes())
    );
    scene.put(&path, (head + &body).as_bytes());
    let before = scene.files();
    let agent = fresh(&scene);
    assert_eq!(
        kinds(&fsck(&agent, true, &[]).await),
        [("newer-format", "left")]
    );
    let (caller, call, name) = (scene.lab.caller(1), call(1), volume("new"));
    let made = agent.create(&caller, &call, &name, &given(&[])).await;
    assert_eq!(made.unwrap_err().kind(), ErrorKind::NewerFormat);
    assert_eq!(scene.files(), before);
}

/// CRC-32 as files carry it.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    }) ^ !0
}

#[tokio::test(start_paused = true)]
async fn fsck_dies_at_every_call_it_makes_and_the_next_one_ends_it() {
    let calls = {
        let scene = damaged().await;
        let before = scene.lab.session.calls();
        scene.fsck(true).await;
        scene.lab.session.calls() - before
    };
    assert!(calls > 60, "{calls}");
    for at in 1..=calls {
        for when in [When::Before, When::Half, When::After] {
            let mut scene = damaged().await;
            let text = format!("fsck dies {when:?} call {at}");
            scene.lab.session.plan(at, Fault::Crash(when));
            tokio::select! {
                biased;
                _ = scene.fsck(true) => {}
                () = scene.lab.session.died() => {}
            }
            scene.restart();
            if at % 5 == 0 {
                scene.sweep().await;
                scene.check_disks(&format!("{text}, swept"));
            }
            scene.fsck(true).await;
            scene.check_volumes(&text).await;
            let found = fsck(&fresh(&scene), true, &[]).await;
            assert_eq!(kinds(&found), [], "{text}: {:?}", found.findings);
        }
    }
}

/// One of each that fsck repairs.
async fn damaged() -> Scene {
    let mut scene = Scene::new().await;
    spoil_record(&scene, "cache");
    lose_record(&scene, "db").await;
    let claim = scene.files().into_keys().find(|f| f.ends_with("/db.vdvs"));
    scene.put(&claim.unwrap(), b"torn");
    let (ledger, marker) = (scene.slot("/ledger."), scene.slot("/datastore.json"));
    scene.put(&ledger, b"vdvs ledger 1 2 00000000\n{}");
    scene.put(&marker, b"vdvs");
    scene.restart();
    scene
}

#[tokio::test(start_paused = true)]
async fn other_hosts_go_on_while_fsck_repairs_nothing_that_is_not_damaged() {
    let two = Two::new();
    let _held = two.held(&[]).await;
    let work = async {
        for round in 0..40u128 {
            let name = format!("far{round}");
            let caller = two.far_caller(1);
            let (name, options) = (volume(&name), given(&[]));
            two.far
                .create(&caller, &call(9000 + round), &name, &options)
                .await
                .unwrap();
            let attached = two
                .far
                .attach(&caller, &call(9100 + round), &name, false, Duration::ZERO)
                .await
                .unwrap();
            let (id, epoch) = (attached.view.id, attached.epoch);
            two.far
                .detach(&caller, &call(9200 + round), id, epoch)
                .await
                .unwrap();
            if round % 2 == 0 {
                two.far
                    .delete(&caller, &call(9300 + round), &name, None)
                    .await
                    .unwrap();
            }
            sleep(Duration::from_millis(130)).await;
        }
    };
    let check = async {
        loop {
            let report = fsck(&two.near.engine, true, &[]).await;
            assert_eq!(repaired(&report), 0, "{:?}", report.findings);
            sleep(Duration::from_millis(70)).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = check => {}
    }
    let listing = two.near.engine.admin_volumes().await.unwrap();
    assert_eq!(listing.volumes.len(), 21);
    assert_eq!(kinds(&fsck(&two.near.engine, true, &[]).await), []);
}

#[tokio::test(start_paused = true)]
async fn two_hosts_repair_the_same_damage_at_once_and_agree() {
    let scene = Scene::new().await;
    spoil_record(&scene, "cache");
    let (_, far) = scene.lab.second_host();
    let near = Engine::new(scene.lab.session.ports(), Settings::default());
    let (one, other) = tokio::join!(fsck(&near, true, &[]), fsck(&far, true, &[]));
    assert!(repaired(&one) + repaired(&other) >= 1);
    scene.check_volumes("both").await;
    assert_eq!(kinds(&fsck(&Arc::clone(&far), true, &[]).await), []);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_must_decide_is_left_with_the_reason() {
    let scene = Scene::new().await;
    // A copy of a volume's disk under another name has its id.
    scene
        .lab
        .world
        .pull_disk(&scene.lab.vms[0], &disk(&scene.db));
    scene.lab.engine.sweep().await;
    let path = DsPath::new(disk(&scene.cache).path.as_str()).unwrap();
    let gone = scene.lab.session.delete_disk(&ds("ds"), &path).await;
    gone.unwrap();
    let report = fsck(&fresh(&scene), true, &[]).await;
    assert_eq!(kinds(&report), [("missing-disk", "left")]);
    let said = &report.findings[0];
    assert!(said.action.contains("vdvs volume rm cache@ds"), "{said:?}");
    let now = scene.lab.get(1, "db").await.unwrap();
    assert!(now.epoch >= Epoch::new(1));
}

#[test]
fn the_documentation_has_every_finding() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fsck.md");
    let page = fs::read_to_string(path).unwrap();
    for kind in FsckKind::ALL {
        let row = format!("| `{}` |", kind.name());
        assert_eq!(page.matches(&row).count(), 1, "{row}");
    }
}
