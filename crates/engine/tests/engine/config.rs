//! The configuration that lives with the data: which one governs a datastore, how it is followed, moved and removed.

use std::time::Duration;

use tokio::join;
use tokio::time::sleep;
use vdvs_domain::access::{CreateGroup, UpdateGroup};
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{Error, ErrorKind, GroupId};
use vdvs_engine::Engine;
use vdvs_engine::api::{Caller, GroupChange, RemoveGroup};
use vdvs_engine::config::{ConfigDone, ConfigVerb};
use vdvs_host_sim::{Fault, When};

use crate::adoption::plant_on;
use crate::support::{Lab, call, ds, given, rand_request, root, volume};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn init(datastore: &str, force: bool) -> ConfigVerb {
    ConfigVerb::Init {
        datastore: Some(ds(datastore)),
        local: false,
        force,
    }
}

const RM: ConfigVerb = ConfigVerb::Remove {
    local: true,
    unlink: false,
    confirm: true,
    no_backup: false,
};

fn mv(to: &str) -> ConfigVerb {
    ConfigVerb::Move {
        to: ds(to),
        force: false,
    }
}

pub(crate) async fn configure(engine: &Engine, verb: &ConfigVerb) -> Result<ConfigDone, Error> {
    engine.config_change(&root(), verb, false).await
}

pub(crate) async fn group(engine: &Engine, change: GroupChange) -> Result<(), Error> {
    let done = engine
        .admin_change_group(&root(), &change, &Default::default())
        .await;
    done.map(drop)
}

pub(crate) fn new_group(name: &str) -> GroupChange {
    GroupChange::Create(CreateGroup {
        name: name.to_owned(),
        default_datastore: "_VM_DS".to_owned(),
        ..CreateGroup::default()
    })
}

pub(crate) fn rm_group(name: &str) -> GroupChange {
    GroupChange::Remove(RemoveGroup {
        name: name.to_owned(),
        ..RemoveGroup::default()
    })
}

pub(crate) async fn create(engine: &Engine, caller: &Caller, name: &str) -> Result<(), Error> {
    let n = rand_request();
    let done = engine
        .create(caller, &call(n), &volume(name), &given(&[]))
        .await;
    done.map(drop)
}

async fn homes(engine: &Engine) -> Vec<String> {
    let shown = engine.config_show().await.unwrap();
    let homes = shown.documents.iter().map(|d| d.home.to_string());
    homes.collect()
}

/// What an administrator is shown about a datastore.
pub(crate) async fn problem(engine: &Engine, datastore: &str) -> String {
    let shown = engine.config_show().await.unwrap();
    let of = shown.datastores.into_iter();
    of.filter(|d| d.datastore == ds(datastore))
        .map(|d| d.problem)
        .collect()
}

/// Locks what `ds` says: nobody of no vmgroup has access any more.
pub(crate) async fn lock(lab: &Lab) {
    group(&lab.engine, new_group("team")).await.unwrap();
    group(&lab.engine, rm_group("_DEFAULT")).await.unwrap();
    sleep(Duration::from_secs(2)).await;
}

pub(crate) fn assert_denied(answer: Result<(), Error>, kind: ErrorKind) {
    let err = answer.unwrap_err();
    assert_eq!(err.kind(), kind, "{err}");
}

#[tokio::test(start_paused = true)]
async fn a_new_datastore_follows_the_configuration_there_is_and_is_never_open_where_that_is_locked()
{
    let lab = Lab::with_datastores(&["ds", "ds2", "ds3"]);
    lab.create(1, "first").await;
    lab.create(1, "second@ds2").await;
    assert_eq!(homes(&lab.engine).await, ["ds"]);
    group(&lab.engine, new_group("team")).await.unwrap();
    // A group with a volume is not removed; this VM's are.
    lab.try_delete(1, 1, "first").await.unwrap();
    lab.try_delete(1, 2, "second@ds2").await.unwrap();
    group(&lab.engine, rm_group("_DEFAULT")).await.unwrap();
    for name in ["a", "a@ds2", "a@ds3"] {
        let answer = create(&lab.engine, &lab.caller(1), name).await;
        assert_denied(answer, ErrorKind::PermissionDenied);
    }
    assert!(
        lab.world
            .files(&ds("ds3"))
            .iter()
            .all(|f| !f.contains("vmdk"))
    );
}

#[tokio::test(start_paused = true)]
async fn two_hosts_that_use_two_datastores_first_at_the_same_moment_end_with_one_configuration() {
    for delay in 0..40 {
        let lab = Lab::with_datastores(&["ds", "ds2"]);
        let (host, other) = lab.second_host();
        let far = lab.world.add_vm(host, "far", &ds("ds2"));
        let far = other
            .caller(far.instance_uuid, &far.config_path)
            .await
            .unwrap();
        let later = async {
            lab.session
                .plan(0, Fault::Slow(Duration::from_millis(delay)));
            create(&lab.engine, &lab.caller(1), "one@ds").await
        };
        let (mine, theirs) = join!(later, create(&other, &far, "two@ds2"));
        mine.unwrap();
        theirs.unwrap();
        sleep(Duration::from_secs(2)).await;
        assert_eq!(homes(&lab.engine).await.len(), 1, "after {delay} ms");
        assert_eq!(homes(&lab.engine).await, homes(&other).await);
        // The one that stayed says who may use both.
        group(&other, new_group("team")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_use_that_a_crash_cuts_short_is_finished_by_the_next_one() {
    for later in 0..25 {
        for when in [When::Before, When::Half, When::After] {
            let mut lab = Lab::with_datastores(&["ds", "ds2"]);
            lab.create(1, "base").await;
            lab.session.plan(later, Fault::Crash(when));
            let caller = lab.caller(1);
            tokio::select! {
                made = create(&lab.engine, &caller, "new@ds2") => made.unwrap(),
                () = lab.session.died() => {}
            }
            lab.restart();
            sleep(Duration::from_secs(3)).await;
            create(&lab.engine, &lab.caller(1), "again@ds2")
                .await
                .unwrap();
            assert_eq!(homes(&lab.engine).await, ["ds"], "call {later} {when:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_opens_a_new_datastore_while_it_is_in_doubt_whether_a_configuration_is_to_govern_it()
{
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    lab.world.reach(lab.host, &ds("ds2"), false);
    let err = create(&lab.engine, &lab.caller(1), "a@ds")
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotConfigured, "{err}");
    let problem = problem(&lab.engine, "ds").await;
    assert!(problem.contains("ds2 cannot be read"), "{problem}");
    assert!(
        problem.contains("vdvs config init --datastore ds"),
        "{problem}"
    );
    let done = configure(&lab.engine, &init("ds", false)).await.unwrap();
    assert_eq!(
        done.lines,
        ["Creating new DB at /vmfs/volumes/ds/dockvols/.vdvs/config"]
    );
    assert!(done.warnings[0].contains("open to all"), "{done:?}");
    create(&lab.engine, &lab.caller(1), "a@ds").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_several_configurations_one_is_chosen_by_an_administrator_and_the_others_follow() {
    let lab = Lab::with_datastores(&["ds", "ds2", "ds3"]);
    for (mine, other) in [("ds", "ds2"), ("ds2", "ds")] {
        lab.world.reach(lab.host, &ds(other), false);
        lab.world.reach(lab.host, &ds("ds3"), false);
        configure(&lab.engine, &init(mine, false)).await.unwrap();
        lab.world.reach(lab.host, &ds(other), true);
    }
    lab.world.reach(lab.host, &ds("ds3"), true);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(homes(&lab.engine).await, ["ds", "ds2"]);
    let err = group(&lab.engine, new_group("team")).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Ambiguous, "{err}");
    create(&lab.engine, &lab.caller(1), "a@ds3")
        .await
        .unwrap_err();
    let problem = problem(&lab.engine, "ds3").await;
    assert!(
        problem.contains("several configurations (ds, ds2)"),
        "{problem}"
    );
    let err = configure(&lab.engine, &init("ds", false))
        .await
        .unwrap_err();
    let text =
        "Found Config DB on other datastores. . Add '--force' flag to force the request execution";
    assert!(err.to_string().starts_with(text), "{err}");
    configure(&lab.engine, &init("ds", true)).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(homes(&lab.engine).await, ["ds"]);
    group(&lab.engine, new_group("team")).await.unwrap();
    create(&lab.engine, &lab.caller(1), "a@ds3").await.unwrap();
    let err = configure(&lab.engine, &init("ds2", false))
        .await
        .unwrap_err();
    assert!(
        err.to_string()
            .starts_with("Config DB  is already initialized."),
        "{err}"
    );
}

#[tokio::test(start_paused = true)]
async fn init_opens_a_datastore_of_the_original_and_its_volumes_are_found_in_place() {
    let lab = Lab::new();
    let folder = format!("dockvols/{}", GroupId::DEFAULT);
    lab.world
        .put_file(&ds("ds"), &format!("{folder}/x.txt"), b"");
    plant_on(&lab.world, &lab.session, "old").await;
    let err = lab.get(1, "old").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotConfigured, "{err}");
    let listed = lab.engine.admin_volumes().await.unwrap();
    assert!(listed.volumes.is_empty(), "nothing is known of it yet");
    let run = "vdvs config init --datastore ds";
    assert!(problem(&lab.engine, "ds").await.contains(run));
    let (user, ask) = (root(), init("ds", false));
    let dry = lab.engine.config_change(&user, &ask, true).await;
    assert_eq!(dry.unwrap().lines.len(), 1);
    assert!(
        lab.get(1, "old").await.is_err(),
        "a dry run changes nothing"
    );
    configure(&lab.engine, &init("ds", false)).await.unwrap();
    let listed = lab.engine.admin_volumes().await.unwrap();
    assert_eq!(
        listed.volumes.len(),
        1,
        "listed at once, before its first use"
    );
    assert_eq!(lab.get(1, "old").await.unwrap().capacity.bytes(), 300 << 20);
    lab.attach(1, "old").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_removed_configuration_governed_is_closed_until_it_is_brought_back() {
    let lab = Lab::with_datastores(&["ds", "ds2", "ds3"]);
    lab.create(1, "a").await;
    lab.create(1, "b@ds2").await;
    let backup = lab.engine.config_backup().await.unwrap();
    let unsure = ConfigVerb::Remove {
        local: true,
        unlink: false,
        confirm: false,
        no_backup: false,
    };
    let err = configure(&lab.engine, &unsure).await.unwrap_err();
    let text = "Warning: For extra safety, removal operation requires '--confirm' flag.";
    assert_eq!(err.to_string(), text);
    let done = configure(&lab.engine, &RM).await.unwrap();
    assert!(
        done.lines
            .contains(&"Access is closed on ds, ds2".to_owned()),
        "{done:?}"
    );
    let files = lab.world.files(&ds("ds"));
    assert!(
        files.iter().any(|f| f.contains("config-backup.")),
        "{files:?}"
    );
    for name in ["a", "b@ds2", "new@ds3"] {
        let answer = create(&lab.engine, &lab.caller(1), name).await;
        assert_denied(answer, ErrorKind::NotConfigured);
    }
    for datastore in ["ds", "ds3"] {
        let err = configure(&lab.engine, &init(datastore, false))
            .await
            .unwrap_err();
        assert!(
            err.to_string().contains("vdvs config restore FILE"),
            "{err}"
        );
    }
    let restore = ConfigVerb::Restore { json: backup };
    configure(&lab.engine, &restore).await.unwrap();
    assert!(lab.get(1, "a").await.is_ok() && lab.get(1, "b@ds2").await.is_ok());
    let gone = ConfigVerb::Remove {
        local: true,
        unlink: false,
        confirm: true,
        no_backup: true,
    };
    configure(&lab.engine, &gone).await.unwrap();
    assert!(
        lab.get(1, "a").await.is_err(),
        "removed without a backup, too"
    );
    configure(&lab.engine, &init("ds", true)).await.unwrap();
    assert!(lab.get(1, "b@ds2").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_configuration_moves_and_its_old_home_may_go() {
    let lab = Lab::with_datastores(&["ds", "ds2", "ds3"]);
    let (host, other) = lab.second_host();
    let far = lab.world.add_vm(host, "far", &ds("ds2"));
    let far = other
        .caller(far.instance_uuid, &far.config_path)
        .await
        .unwrap();
    lab.create(1, "a").await;
    lab.create(1, "b@ds2").await;
    group(&lab.engine, new_group("before")).await.unwrap();
    configure(&lab.engine, &mv("ds3")).await.unwrap();
    assert_eq!(homes(&lab.engine).await, ["ds3"]);
    group(&other, new_group("after")).await.unwrap();
    let what: Vec<_> = lab.engine.config_history().await.unwrap();
    let what: Vec<_> = what.iter().map(|c| c.what.as_str()).collect();
    assert_eq!(what.len(), 3, "{what:?}");
    for host in [lab.host, host] {
        lab.world.reach(host, &ds("ds"), false);
    }
    sleep(2 * DAY).await;
    assert!(
        create(&other, &far, "c@ds2").await.is_ok(),
        "nothing names the old home"
    );
    group(&other, new_group("later")).await.unwrap();
    let err = configure(&lab.engine, &mv("ds3")).await.unwrap_err();
    assert!(err.to_string().contains("already"), "{err}");
    // And back, over the trace that it left there.
    for host in [lab.host, host] {
        lab.world.reach(host, &ds("ds"), true);
    }
    configure(&lab.engine, &mv("ds")).await.unwrap();
    assert_eq!(homes(&other).await, ["ds"]);
    assert!(lab.get(1, "a").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_move_that_a_crash_cuts_short_loses_no_change_and_is_finished_by_the_next_one() {
    for later in 0..60 {
        for when in [When::Before, When::Half, When::After] {
            let mut lab = Lab::with_datastores(&["ds", "ds2"]);
            let (_, other) = lab.second_host();
            lab.create(1, "a").await;
            group(&lab.engine, new_group("before")).await.unwrap();
            lab.session.plan(later, Fault::Crash(when));
            let verb = mv("ds2");
            let moved = tokio::select! {
                moved = configure(&lab.engine, &verb) => { moved.unwrap(); true }
                () = lab.session.died() => false,
            };
            group(&other, new_group("meanwhile")).await.unwrap();
            lab.restart();
            sleep(Duration::from_secs(3)).await;
            group(&lab.engine, new_group("after")).await.unwrap();
            let listed = lab.engine.config_backup().await.unwrap();
            for name in ["before", "meanwhile", "after"] {
                assert!(
                    listed.contains(name),
                    "{name} is lost at call {later} {when:?}"
                );
            }
            let homes = (homes(&lab.engine).await, homes(&other).await);
            assert_eq!(homes.0, homes.1, "call {later} {when:?}");
            assert!(
                !moved || homes.0 == ["ds2"],
                "call {later} {when:?}: {homes:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_of_a_newer_format_is_left_untouched_and_says_what_to_run() {
    let lab = Lab::new();
    lab.create(1, "a").await;
    let path = "dockvols/.vdvs/config.1";
    let bytes = lab.world.file(&ds("ds"), path).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let newer = text.replacen("vdvs config 2 ", "vdvs config 9 ", 1);
    assert_ne!(newer, text);
    lab.world.put_file(&ds("ds"), path, newer.as_bytes());
    sleep(Duration::from_secs(2)).await;
    for err in [
        lab.get(1, "a").await.unwrap_err(),
        group(&lab.engine, new_group("team")).await.unwrap_err(),
    ] {
        assert!(matches!(err, Error::NewerFormat { found: 9, .. }), "{err}");
        assert!(err.to_string().contains("upgrade this host"), "{err}");
    }
    let now = lab.world.file(&ds("ds"), path).unwrap();
    assert_eq!(now, newer.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_restored_after_a_look_at_what_differs() {
    let lab = Lab::new();
    configure(&lab.engine, &init("ds", false)).await.unwrap();
    group(&lab.engine, new_group("dev")).await.unwrap();
    let backup = lab.engine.config_backup().await.unwrap();
    group(&lab.engine, rm_group("dev")).await.unwrap();
    group(&lab.engine, new_group("test")).await.unwrap();
    let restore = ConfigVerb::Restore {
        json: backup.clone(),
    };
    let dry = lab
        .engine
        .config_change(&root(), &restore, true)
        .await
        .unwrap();
    assert_eq!(
        dry.lines,
        [
            "vmgroup test is removed (no VMs)",
            "vmgroup dev is added: default datastore _VM_DS, no VMs, create on _VM_DS",
        ]
    );
    assert!(lab.engine.config_backup().await.unwrap().contains("test"));
    configure(&lab.engine, &restore).await.unwrap();
    let again = lab
        .engine
        .config_change(&root(), &restore, true)
        .await
        .unwrap();
    assert!(again.lines[0].contains("nothing differs"), "{again:?}");
    for bad in [
        "",
        "{}",
        "[1]",
        &backup.replace("\"format\": 1", "\"format\": 7"),
    ] {
        let verb = ConfigVerb::Restore {
            json: bad.to_owned(),
        };
        let err = configure(&lab.engine, &verb).await.unwrap_err();
        assert!(
            matches!(
                err,
                Error::Config(ConfigFault::Refused { .. }) | Error::NewerFormat { .. }
            ),
            "{err}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_words_of_the_verbs_are_answered_in_the_originals() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    let ask = |datastore: Option<&str>, local| ConfigVerb::Init {
        datastore: datastore.map(ds),
        local,
        force: false,
    };
    for (verb, text) in [
        (
            ask(None, false),
            "Error: one of '--datastore' or '--local' have to be set",
        ),
        (
            ask(Some("ds"), true),
            "Error: only one of '--datastore' or '--local' can be set",
        ),
        (ask(Some("nowhere"), false), "No such datastore: nowhere"),
        (
            ask(None, true),
            "--local kept the configuration in this host's /etc",
        ),
        (
            mv("ds2"),
            "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'.",
        ),
        (
            RM,
            "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'.",
        ),
    ] {
        let err = configure(&lab.engine, &verb).await.unwrap_err();
        assert!(err.to_string().starts_with(text), "{verb:?}: {err}");
    }
    configure(&lab.engine, &init("ds", false)).await.unwrap();
    let wrong = ConfigVerb::Remove {
        local: false,
        unlink: true,
        confirm: true,
        no_backup: false,
    };
    let err = configure(&lab.engine, &wrong).await.unwrap_err();
    assert!(
        err.to_string().contains("vdvs config rm --local --confirm"),
        "{err}"
    );
}

#[tokio::test(start_paused = true)]
async fn that_nothing_is_to_be_changed_is_said_of_a_settled_document_only() {
    let lab = Lab::with_datastores(&["ds"]);
    configure(&lab.engine, &init("ds", false)).await.unwrap();
    group(&lab.engine, new_group("team")).await.unwrap();
    let as_it_is = || {
        GroupChange::Update(UpdateGroup {
            name: "team".to_owned(),
            default_datastore: Some("_VM_DS".to_owned()),
            ..UpdateGroup::default()
        })
    };
    let slots = || {
        let files = lab.world.files(&ds("ds"));
        let slot = |f: &String| {
            let number = f.strip_prefix("dockvols/.vdvs/config.")?;
            number.parse::<u64>().ok()
        };
        files.iter().filter_map(slot).max().unwrap()
    };
    let before = slots();
    group(&lab.engine, as_it_is()).await.unwrap();
    assert_eq!(slots(), before, "nothing is written for nothing");
    // Another host has begun a change, and may not have seen this value.
    let begun = format!("dockvols/.vdvs/config.{}", before + 1);
    lab.world.put_file(&ds("ds"), &begun, b"");
    group(&lab.engine, as_it_is()).await.unwrap();
    assert_eq!(slots(), before + 2, "only a swap makes it stand");
}
