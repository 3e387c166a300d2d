//! Every byte of every kind of file of ours, wrong, missing, or with all that comes after it: nothing is lost, nobody
//! loses a disk, nothing is opened, and a second fsck changes nothing.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Builder;
use vdvs_domain::ErrorKind;
use vdvs_domain::access::ChangePrivilege;
use vdvs_engine::api::{GroupChange, Teller};

use crate::fsck_scene::{Files, Scene, fresh, fsck, kinds, repaired};
use crate::support::{rand_request, root, until};

/// One damage to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(usize),
    Cut(usize),
    Gone,
}

async fn damage(scene: &Scene, path: &str, golden: &[u8], damage: Damage) {
    let mut bytes = golden.to_vec();
    match damage {
        Damage::Flip(at) => bytes[at] ^= 1 << (at % 7),
        Damage::Cut(at) => bytes.truncate(at),
        Damage::Gone => return scene.remove(path).await,
    }
    scene.put(path, &bytes);
}

fn all_damages(length: usize) -> impl Iterator<Item = Damage> {
    let flips = (0..length).map(Damage::Flip);
    let cuts = (0..length).step_by(7).map(Damage::Cut);
    flips.chain(cuts).chain([Damage::Gone])
}

/// Repairs twice. The second time nothing is changed, and nothing but what a person must decide is found.
async fn twice(scene: &Scene, text: &str) -> Vec<(&'static str, &'static str)> {
    let first = fsck(&scene.lab.engine, true, &[]).await;
    let between = scene.files();
    let second = fsck(&fresh(scene), true, &[]).await;
    assert_eq!(repaired(&second), 0, "{text}: {:?}", second.findings);
    same_files(&between, &scene.files(), text);
    for found in &second.findings {
        let known = first.findings.iter().any(|f| f.kind == found.kind);
        assert!(known, "{text}: new in the second look: {found:?}");
    }
    kinds(&first)
}

fn same_files(before: &Files, after: &Files, text: &str) {
    // What hosts tell of themselves has its own clock.
    let ours = |files: &Files| -> Vec<_> {
        let told = |name: &str| name.contains("/host.");
        let ours = files.iter().filter(|(name, _)| !told(name));
        ours.map(|(n, b)| (n.clone(), b.clone())).collect()
    };
    assert_eq!(
        ours(before),
        ours(after),
        "{text}: the second run changed files"
    );
}

/// The files of before, an agent without memory.
async fn again(scene: &mut Scene, golden: &Files) {
    scene.restore(golden).await;
    scene.restart();
}

async fn record_of(name: &str) {
    let mut scene = Scene::new().await;
    let files = scene.files();
    let path = scene.slot(&format!("/{name}."));
    let golden = files[&path].clone();
    let (mut rebuilt, mut newer) = (0, 0);
    for (at, harm) in all_damages(golden.len()).enumerate() {
        let text = format!("record of {name}, {harm:?}");
        damage(&scene, &path, &golden, harm).await;
        if at % 16 == 0 {
            // What the reconciler takes for a leftover meanwhile is none.
            scene.sweep().await;
            scene.check_disks(&format!("{text}, swept"));
        }
        let found = twice(&scene, &text).await;
        match found.as_slice() {
            [("newer-format", "left")] => {
                newer += 1;
                scene.check_disks(&text);
                let now = scene.lab.get(1, name).await.unwrap_err();
                assert_eq!(now.kind(), ErrorKind::NewerFormat, "{text}: {now}");
            }
            [("damaged-record" | "lost-record", "repaired"), ..] => {
                rebuilt += 1;
                scene.check_volumes(&text).await;
            }
            other => panic!("{text}: {other:?}"),
        }
        again(&mut scene, &files).await;
    }
    // The digit of the version is one byte; some of its flips are no digits.
    assert!(rebuilt >= golden.len() && newer <= 2, "{rebuilt} {newer}");
}

#[tokio::test(start_paused = true)]
async fn every_byte_of_a_record_of_a_free_volume() {
    record_of("cache").await;
}

#[tokio::test(start_paused = true)]
async fn every_byte_of_a_record_of_a_volume_that_a_vm_has() {
    record_of("db").await;
}

#[tokio::test(start_paused = true)]
async fn every_byte_of_a_name_claim() {
    let mut scene = Scene::new().await;
    let files = scene.files();
    let path = scene.slot("/cache.vdvs");
    let path = match path.ends_with("/cache.vdvs") {
        true => path,
        false => files
            .keys()
            .find(|n| n.ends_with("/cache.vdvs"))
            .unwrap()
            .clone(),
    };
    let golden = files[&path].clone();
    for harm in all_damages(golden.len()) {
        let text = format!("claim, {harm:?}");
        damage(&scene, &path, &golden, harm).await;
        let found = twice(&scene, &text).await;
        assert!(
            matches!(
                found.as_slice(),
                [("damaged-claim" | "lost-claim", "repaired")] | [("newer-format", "left")]
            ),
            "{text}: {found:?}"
        );
        scene.check_volumes(&text).await;
        again(&mut scene, &files).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_byte_of_a_ledger() {
    let mut scene = Scene::new().await;
    let files = scene.files();
    let path = scene.slot("/ledger.");
    let golden = files[&path].clone();
    for harm in all_damages(golden.len()) {
        let text = format!("ledger, {harm:?}");
        damage(&scene, &path, &golden, harm).await;
        let found = twice(&scene, &text).await;
        assert!(
            matches!(
                found.as_slice(),
                [("damaged-ledger" | "ledger-differs", "repaired")] | [("newer-format", "left")]
            ),
            "{text}: {found:?}"
        );
        scene.check_volumes(&text).await;
        again(&mut scene, &files).await;
    }
}

/// Nobody may make a volume any more.
async fn lock_down(scene: &Scene) {
    for scope in ["_VM_DS", "_ALL_DS"] {
        let locked = GroupChange::SetPrivilege(ChangePrivilege {
            group: "_DEFAULT".to_owned(),
            datastore: scope.to_owned(),
            allow_create: Some("False".to_owned()),
            ..ChangePrivilege::default()
        });
        let (user, tell) = (root(), Teller::default());
        let changed = scene.lab.engine.admin_change_group(&user, &locked, &tell);
        changed.await.unwrap();
    }
}

async fn closed(scene: &Scene, text: &str) {
    let made = scene.lab.try_create(1, rand_request(), "new", &[]).await;
    assert!(made.is_err(), "{text}: a locked datastore was opened");
    scene.check_disks(text);
}

#[tokio::test(start_paused = true)]
async fn every_byte_of_a_marker_and_of_a_configuration_never_opens_what_was_locked() {
    for (part, repairable) in [("/datastore.json", true), ("/config.", false)] {
        let mut scene = Scene::new().await;
        lock_down(&scene).await;
        let files = scene.files();
        let path = scene.slot(part);
        let golden = files[&path].clone();
        for harm in all_damages(golden.len()) {
            let text = format!("{path}, {harm:?}");
            damage(&scene, &path, &golden, harm).await;
            closed(&scene, &format!("{text}, before")).await;
            let found = twice(&scene, &text).await;
            closed(&scene, &text).await;
            match (found.as_slice(), repairable) {
                ([("newer-format", "left")], _)
                | ([("damaged-marker", "repaired"), ..], true)
                | ([("damaged-config", "left"), ..], false) => {}
                // A document that is gone altogether is the marker's and `vdvs config status`'s to tell.
                ([], false) if matches!(harm, Damage::Gone) => {}
                (other, _) => panic!("{text}: {other:?}"),
            }
            again(&mut scene, &files).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_byte_of_what_a_host_tells() {
    let mut scene = Scene::new().await;
    let runs = scene.lab.reconcile();
    let told = async || scene.files().keys().any(|n| n.contains("/host."));
    until("the host told", told).await;
    drop(runs);
    scene.restart();
    let files = scene.files();
    let path = scene.slot("/host.");
    let golden = files[&path].clone();
    for harm in all_damages(golden.len()) {
        let text = format!("status file, {harm:?}");
        damage(&scene, &path, &golden, harm).await;
        let found = twice(&scene, &text).await;
        let expected = match harm {
            Damage::Gone => found.is_empty(),
            _ => matches!(
                found.as_slice(),
                [("damaged-host-file", "repaired") | ("newer-format", "left")]
            ),
        };
        assert!(expected, "{text}: {found:?}");
        scene.check_volumes(&text).await;
        again(&mut scene, &files).await;
    }
}

/// Several files at once, each with several bytes wrong, cut, or gone.
#[test]
fn random_damage_to_many_files_loses_no_disk_and_formats_nothing() {
    let file = (
        any::<prop::sample::Index>(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        prop::option::weighted(0.3, any::<prop::sample::Index>()),
        prop::bool::weighted(0.15),
    );
    let harms = prop::collection::vec(file, 1..5);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let scene = RefCell::new(runtime.block_on(Scene::new()));
    let golden = scene.borrow().files();
    let names: Vec<&String> = golden.keys().filter(|n| !n.contains("/host.")).collect();
    let config = Config {
        cases: 96,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&harms, |harms| {
            let mut scene = scene.borrow_mut();
            runtime.block_on(async {
                for (which, bytes, cut, gone) in &harms {
                    let name = names[which.index(names.len())];
                    let mut content = golden[name].clone();
                    for (at, with) in bytes {
                        let at = at.index(content.len());
                        content[at] = *with;
                    }
                    if let Some(cut) = cut {
                        content.truncate(cut.index(content.len()));
                    }
                    match gone {
                        true => scene.remove(name).await,
                        false => scene.put(name, &content),
                    }
                }
                scene.sweep().await;
                scene.check_disks(&format!("{harms:?}, swept"));
                let text = format!("{harms:?}");
                twice(&scene, &text).await;
                scene.check_disks(&text);
                again(&mut scene, &golden).await;
            });
            Ok(())
        })
        .unwrap();
}
