//! Every verb, every way of naming a volume, every privilege situation: decision and text.
//!
//! What is expected stands in the table below as letters, one per datastore, written by hand from the rules of the
//! original; and in `said`, which knows the texts and nothing of how they come about.
//!
//! | letter | the vmgroup may there |
//! |---|---|
//! | `n` | nothing |
//! | `m` | get, attach, detach, clone from |
//! | `f` | everything |
//! | `l` | everything, with volumes of at most 10 MB |
//! | `q` | everything, and its total has room for 5 MB more |

use tokio_util::sync::CancellationToken;
use vdvs_engine::api::{GroupChange, RemoveGroup, Teller};

use super::access_scene::{Form, OF_NEW, PLACES, Scene, Verb, Way, gone, old};
use super::support::{call, rand_request, root, volume};

/// Where new volumes go, the privileges, and what follows for `home`, `other` and `third`.
pub(crate) struct Situation {
    pub(crate) default: &'static str,
    pub(crate) rows: &'static [(&'static str, char)],
    pub(crate) may: &'static str,
}

const fn when(
    default: &'static str,
    rows: &'static [(&'static str, char)],
    may: &'static str,
) -> Situation {
    Situation { default, rows, may }
}

const SITUATIONS: [Situation; 19] = [
    // The default's own privilege alone.
    when("home", &[("home", 'f')], "fnn"),
    when("home", &[("home", 'm')], "mnn"),
    when("other", &[("other", 'f')], "nfn"),
    when("third", &[("third", 'm')], "nnm"),
    // `_VM_DS` is the home of the VM that asks, and nothing else.
    when("_VM_DS", &[("_VM_DS", 'f')], "fnn"),
    when("_VM_DS", &[("_VM_DS", 'm')], "mnn"),
    when("_VM_DS", &[("_VM_DS", 'l')], "lnn"),
    // `_ALL_DS` is every datastore without a privilege of its own, the home only without `_VM_DS`.
    when("home", &[("home", 'm'), ("_ALL_DS", 'm')], "mmm"),
    when("home", &[("home", 'f'), ("_ALL_DS", 'l')], "fll"),
    when("other", &[("other", 'm'), ("_ALL_DS", 'f')], "fmf"),
    when("_VM_DS", &[("_VM_DS", 'm'), ("_ALL_DS", 'f')], "mff"),
    when("_VM_DS", &[("_VM_DS", 'f'), ("_ALL_DS", 'm')], "fmm"),
    when("_VM_DS", &[("_VM_DS", 'l'), ("_ALL_DS", 'f')], "lff"),
    // A privilege that names the datastore wins over both.
    when(
        "_VM_DS",
        &[("_VM_DS", 'f'), ("home", 'm'), ("_ALL_DS", 'f')],
        "mff",
    ),
    when("_VM_DS", &[("_VM_DS", 'm'), ("home", 'f')], "fnn"),
    when(
        "home",
        &[("home", 'm'), ("other", 'f'), ("_ALL_DS", 'm')],
        "mfm",
    ),
    when("home", &[("home", 'f'), ("other", 'l')], "fln"),
    // Totals, per real datastore.
    when("home", &[("home", 'q'), ("_ALL_DS", 'f')], "qff"),
    when("home", &[("home", 'f'), ("_ALL_DS", 'q')], "fqq"),
];

/// Names of volumes that may be there. `s*` were made under their short names, `f*` under their full ones; `secret` is
/// another vmgroup's on all datastores.
const OLD: [Form; 15] = [
    old("sh", 0, false),
    old("so", 1, false),
    old("st", 2, false),
    old("so@other", 1, true),
    old("fh@home", 0, true),
    old("fo@other", 1, true),
    old("ft@third", 2, true),
    old("gh@HOME", 0, true),
    old("go@Other", 1, true),
    gone("sh@other", 1, true),
    gone("SH@home", 0, true),
    gone("secret", 0, false),
    gone("secret@home", 0, true),
    gone("secret@OTHER", 1, true),
    Form {
        text: "fh@nowhere",
        at: None,
        exists: false,
        in_full: true,
    },
];

/// Names of volumes that are to be. The name of another vmgroup's volume is free in this one.
const NEW: [Form; 6] = [
    // Its datastore is the situation's default.
    Form {
        text: "n1",
        at: None,
        exists: false,
        in_full: false,
    },
    gone("n2@home", 0, true),
    gone("n3@other", 1, true),
    gone("n4@THIRD", 2, true),
    gone("secret@third", 2, true),
    Form {
        text: "n5@nowhere",
        at: None,
        exists: false,
        in_full: true,
    },
];

/// The form's name for one verb: each verb makes its own volumes.
fn of_verb(form: &Form, verb: usize) -> String {
    match form.text.split_once('@') {
        Some((name, place)) => format!("{name}{verb}@{place}"),
        None => format!("{}{verb}", form.text),
    }
}

/// All rows of one situation; how many they are.
async fn all_rows(situation: &Situation, way: Way) -> usize {
    let mut scene = Scene::new(way).await;
    scene.arrange(situation).await;
    assert_eq!(scene.list().await, scene.expected_list(), "{scene:?}");
    let mut rows = 1;
    let can_make = scene.may.contains(&'f');
    for verb in [Verb::Get, Verb::Attach, Verb::CloneFrom] {
        for form in OLD.iter().filter(|_| verb != Verb::CloneFrom || can_make) {
            let expected = scene.said_of_old(verb, form);
            let result = scene.try_old(verb, form).await;
            scene.check(&format!("{verb:?} {}", form.text), result, &expected);
            rows += 1;
        }
    }
    for (at, verb) in OF_NEW.into_iter().enumerate() {
        for form in &NEW {
            let name = of_verb(form, at);
            let expected = scene.said_of_new(verb, form);
            let result = scene.try_new(verb, &name).await;
            scene.check(&format!("{verb:?} {name}"), result, &expected);
            rows += 1;
        }
    }
    // Last, and each volume once.
    for form in OLD.iter().filter(|form| form.text != "so@other") {
        let expected = scene.said_of_old(Verb::Delete, form);
        let result = scene.try_old(Verb::Delete, form).await;
        scene.check(&format!("Delete {}", form.text), result, &expected);
        rows += 1;
    }
    rows
}

async fn all_situations(way: Way) -> usize {
    let mut rows = 0;
    for situation in &SITUATIONS {
        rows += all_rows(situation, way).await;
    }
    rows
}

#[tokio::test(start_paused = true)]
async fn every_verb_by_every_name_in_every_situation_of_a_vm_that_its_vmgroup_names() {
    let rows = all_situations(Way::Named).await;
    assert!(rows > 1400, "{rows} rows");
}

#[tokio::test(start_paused = true)]
async fn every_verb_by_every_name_in_every_situation_of_a_vm_in_the_default_vmgroup() {
    let rows = all_situations(Way::Default).await;
    assert!(rows > 1400, "{rows} rows");
}

/// A VM of no vmgroup, and one whose vmgroup is being removed: the same for every verb and every name. Only listing
/// answers, with nothing; and what is held can be let go.
async fn closed_to(scene: &Scene, denial: &str) {
    assert_eq!(scene.list().await, Vec::<String>::new());
    for form in OLD.iter().filter(|form| form.at.is_some()) {
        for verb in [Verb::Get, Verb::Attach, Verb::Delete] {
            let result = scene.try_old(verb, form).await;
            scene.check(&format!("{verb:?} {}", form.text), result, denial);
        }
    }
    for form in NEW.iter().filter(|form| !form.in_full || form.at.is_some()) {
        for verb in [Verb::Create, Verb::CloneTo] {
            let result = scene.try_new(verb, form.text).await;
            scene.check(&format!("{verb:?} {}", form.text), result, denial);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_vmgroup_every_verb_but_list_and_detach_is_denied() {
    let scene = Scene::new(Way::Default).await;
    let held = scene.try_attach("sh").await.unwrap();
    let remove = |force| {
        GroupChange::Remove(RemoveGroup {
            name: "_DEFAULT".to_owned(),
            remove_volumes: false,
            force,
        })
    };
    let (user, forced, teller) = (root(), remove(true), Teller::default());
    let refused = scene.lab.engine.admin_change_group(&user, &forced, &teller);
    let said = refused.await.unwrap_err().to_string();
    assert!(
        said.starts_with("Internal Error(The vmgroup has volumes in it, these must be removed/migrated before deleting the vmgroup.)"),
        "{said}"
    );
    scene.let_go(&held).await;
    for place in PLACES {
        for name in scene
            .list()
            .await
            .into_iter()
            .filter(|n| n.ends_with(place))
        {
            let call = call(rand_request());
            scene
                .lab
                .engine
                .delete(&scene.vm, &call, &volume(&name), None)
                .await
                .unwrap();
        }
    }
    scene.change(remove(false)).await;
    closed_to(
        &scene,
        "VM vm1 does not belong to any vmgroup; an administrator adds it with: vdvs vmgroup vm add",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_vmgroup_that_is_being_removed_lets_its_vms_only_let_go() {
    let mut scene = Scene::new(Way::Named).await;
    let held = scene.try_attach("sh").await.unwrap();
    let remove = GroupChange::Remove(RemoveGroup {
        name: "dev".to_owned(),
        remove_volumes: true,
        force: true,
    });
    let (user, teller) = (root(), Teller::default());
    let refused = scene.lab.engine.admin_change_group(&user, &remove, &teller);
    let said = refused.await.unwrap_err().to_string();
    assert!(
        said.starts_with("nothing was removed: sh@home is attached to VM vm1"),
        "{said}"
    );
    assert!(
        scene.try_old(Verb::Get, &OLD[1]).await.is_ok(),
        "it goes on as before"
    );
    scene.let_go(&held).await;

    // The agent stops when the first volume is gone; another one finds the vmgroup so.
    let stop = CancellationToken::new();
    let teller = Teller::new(0, stop.clone());
    let mut told = teller.listen();
    let first_gone = async {
        told.wait_for(|told| told.done > 0).await.unwrap();
        stop.cancel();
    };
    let removal = scene.lab.engine.admin_change_group(&user, &remove, &teller);
    let (stopped, ()) = tokio::join!(removal, first_gone);
    let said = stopped.unwrap_err().to_string();
    assert!(
        said.starts_with("vmgroup dev is closed and not yet removed; "),
        "{said}"
    );
    scene.lab.restart();
    scene.may = vec!['n'; 3];
    closed_to(
        &scene,
        "vmgroup dev is being removed with its volumes; an administrator keeps what is left of it with: vdvs vmgroup update --name=dev",
    )
    .await;
    scene.change(remove).await;
    let listed = scene.lab.engine.admin_groups(None).await.unwrap();
    let names: Vec<_> = listed
        .groups
        .iter()
        .map(|g| g.group.name.to_string())
        .collect();
    assert_eq!(names, ["_DEFAULT", "team"]);
    let left = scene.lab.engine.admin_volumes().await.unwrap().volumes;
    assert!(
        left.iter()
            .all(|v| v.view.name.as_str().starts_with("secret") || v.view.name.as_str() == "first")
    );
}
