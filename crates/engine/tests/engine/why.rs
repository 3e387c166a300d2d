//! `volume why`: one sentence, the proof, when it ends by itself, and the one command; the story over all hosts.

use std::time::Duration;

use tokio::time::sleep;
use vdvs_domain::ErrorKind;
use vdvs_domain::access::{ChangePrivilege, CreateGroup};
use vdvs_engine::Engine;
use vdvs_engine::api::{AdminSet, GroupChange, Teller, Why};
use vdvs_engine::config::ConfigVerb;
use vdvs_engine::ports::Power;
use vdvs_host_sim::{Fault, When};

use crate::hosts::{FENCE, Two};
use crate::support::{Lab, WAIT, call_for, ds, given, rand_request, root, until, volume};

/// A vmgroup of one VM that may do everything on `ds`.
pub(crate) fn team(vm: &str) -> GroupChange {
    GroupChange::Create(CreateGroup {
        name: "team".to_owned(),
        default_datastore: "ds".to_owned(),
        vms: vec![vm.to_owned()],
        ..CreateGroup::default()
    })
}

/// It may create and delete no more.
pub(crate) fn closed() -> GroupChange {
    GroupChange::SetPrivilege(ChangePrivilege {
        group: "team".to_owned(),
        datastore: "ds".to_owned(),
        allow_create: Some("False".to_owned()),
        ..ChangePrivilege::default()
    })
}

async fn change(engine: &Engine, change: GroupChange) {
    let (user, teller) = (root(), Teller::default());
    let done = engine.admin_change_group(&user, &change, &teller).await;
    done.unwrap_or_else(|e| panic!("{change:?}: {e}"));
}

async fn why(engine: &Engine) -> Why {
    engine.admin_why("db").await.unwrap()
}

/// Headline, proof, when it resolves, command: as they are shown.
fn told(why: &Why) -> [&str; 4] {
    [&why.headline, &why.proof, &why.resolves, &why.command]
}

/// Kinds and whom, in their order.
fn story(why: &Why) -> Vec<(&str, &str, &str)> {
    let events = why.events.iter();
    events
        .map(|e| (e.kind.as_str(), e.who.as_str(), e.host.as_str()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_free_volume_a_held_one_and_a_protected_one() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    assert_eq!(
        told(&why(&lab.engine).await),
        [
            "db@ds is free: nobody holds it and nobody waits for it",
            "not needed",
            "",
            ""
        ]
    );
    let held = lab.attach(1, "db").await;
    sleep(Duration::from_secs(200)).await;
    let found = why(&lab.engine).await;
    assert_eq!(
        told(&found),
        [
            "VM vm1 on host esx01 holds db@ds since 3 min; nobody waits for it",
            "missing: VM vm1 runs on this host",
            "when VM vm1 lets it go",
            ""
        ]
    );
    assert_eq!(
        story(&found),
        [
            ("created", "VM vm1", "esx01"),
            ("attached", "VM vm1", "esx01")
        ],
        "what the record and the audit both tell is told once"
    );
    assert_eq!(
        (found.events[1].epoch, found.events[1].text.as_str()),
        (1, "epoch 1, waited 0 ms")
    );
    assert_eq!(lab.get(1, "db").await.unwrap().waiting, None);
    lab.detach(1, &held).await;
    let protect = AdminSet {
        protect: Some(true),
        ..AdminSet::default()
    };
    lab.engine.admin_set(&root(), "db", &protect).await.unwrap();
    let found = why(&lab.engine).await;
    assert_eq!(
        told(&found),
        [
            "db@ds is free: nobody holds it and nobody waits for it; it is protected against removal",
            "not needed",
            "",
            "vdvs volume unprotect _DEFAULT/db@ds"
        ]
    );
    let kinds: Vec<_> = found.events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["created", "attached", "detached", "changed"]);
    assert_eq!(found.events[3].who, "user root (uid 0)");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_live_vm_and_the_same_sentence_in_the_volumes_status_on_both_hosts() {
    let two = Two::new();
    two.held(&[]).await;
    let look = async {
        sleep(Duration::from_secs(3)).await;
        let words = "VM far1 on host esx02 waits for it since 3 s; it stays with VM vm1 until that lets it go";
        let (near, far) = (why(&two.near.engine).await, why(&two.far).await);
        assert_eq!(
            told(&near),
            [
                words,
                "missing: VM vm1 runs on this host",
                "when VM vm1 lets it go: stop the container that uses it there",
                "vdvs volume detach --force _DEFAULT/db@ds"
            ]
        );
        assert_eq!(
            told(&far),
            [
                words,
                "missing: the lock on its disk is held by vm1: VM vm1 lives, or its host died too short a time ago",
                "when VM vm1 lets it go; if host esx01 is dead, 5 s after its lock on the disk lapsed",
                "vdvs volume detach --force _DEFAULT/db@ds"
            ]
        );
        for (found, view) in [
            (near, two.near.get(1, "db").await.unwrap()),
            (far, two.far_view().await),
        ] {
            assert_eq!(view.waiting.as_deref(), Some(found.headline.as_str()));
            assert_eq!(
                story(&found),
                [
                    ("created", "VM vm1", "esx01"),
                    ("attached", "VM vm1", "esx01"),
                    ("waiting", "VM far1", "esx02")
                ]
            );
        }
        two.near.world.power(&two.near.vms[0], Power::Off);
    };
    let (got, ()) = tokio::join!(two.attach_far(1, WAIT), look);
    got.unwrap();
    sleep(Duration::from_secs(40)).await;
    let found = why(&two.near.engine).await;
    assert_eq!(
        story(&found),
        [
            ("created", "VM vm1", "esx01"),
            ("attached", "VM vm1", "esx01"),
            ("released", "VM vm1", "esx01"),
            ("attached", "VM far1", "esx02")
        ]
    );
    assert!(
        found.events[2].text.starts_with("power-off release"),
        "{:?}",
        found.events[2]
    );
    assert!(
        found.events[3].text.starts_with("epoch 2, waited 3"),
        "{:?}",
        found.events[3]
    );
    assert_eq!(found.missing, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_dead_hosts_volume_is_waited_for_until_its_lock_lapses_and_then_five_seconds() {
    let mut two = Two::new();
    two.near.world.set_lapse(Duration::from_secs(20));
    two.held(&[]).await;
    sleep(Duration::from_secs(40)).await;
    two.crash_near();
    sleep(Duration::from_secs(2)).await;
    let look = async {
        sleep(Duration::from_secs(3)).await;
        let found = why(&two.far).await;
        assert!(
            found
                .proof
                .starts_with("missing: the lock on its disk is held by"),
            "{found:?}"
        );
        assert!(
            found.resolves.contains("if host esx01 is dead"),
            "{found:?}"
        );
        until("the lock lapses", async || {
            why(&two.far).await.proof.starts_with("found")
        })
        .await;
        let lapsed = why(&two.far).await;
        assert_eq!(
            told(&lapsed)[1..],
            [
                "found as soon as the lock on its disk has read free for 5 s without gap; it reads free now, and VM vm1 is \
                 not suspended",
                "within 7 s",
                ""
            ]
        );
        assert!(
            lapsed.headline.ends_with(
                "VM vm1 on host esx01 has let go of the disk's lock, and once that has read free for 5 s it is taken over"
            ),
            "{lapsed:?}"
        );
        assert_eq!(two.far_view().await.waiting, Some(lapsed.headline));
    };
    let (got, ()) = tokio::join!(two.attach_far(1, WAIT), look);
    got.unwrap();
}

#[tokio::test(start_paused = true)]
async fn locks_that_nobody_can_read_prove_nothing() {
    let two = Two::new();
    two.held(&[]).await;
    two.near.world.hide_locks(true);
    let look = async {
        sleep(Duration::from_secs(3)).await;
        let found = why(&two.far).await;
        assert!(found.headline.ends_with(
            "it stays with VM vm1 on host esx01, and nobody can say whether that lives"
        ));
        assert!(
            found
                .proof
                .starts_with("missing: nobody can say whether the lock on its disk is held")
        );
        assert_eq!(found.command, "vdvs volume detach --force _DEFAULT/db@ds");
    };
    let (got, ()) = tokio::join!(two.attach_far(1, Duration::from_secs(5)), look);
    got.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_suspended_vm_keeps_its_volume_here_and_seen_from_elsewhere() {
    let two = Two::new();
    two.held(FENCE).await;
    two.near.world.power(&two.near.vms[0], Power::Suspended);
    let look = async {
        sleep(Duration::from_secs(8)).await;
        let near = why(&two.near.engine).await;
        assert_eq!(
            told(&near),
            [
                "VM far1 on host esx02 waits for it since 8 s; it stays with VM vm1, which is suspended and keeps its \
                 volumes",
                "missing: VM vm1 is suspended, and writes again when it is resumed",
                "never by itself: VM vm1 has to be resumed or powered off",
                "power off VM vm1 on host esx01, or resume it"
            ]
        );
        let far = why(&two.far).await;
        assert_eq!(
            told(&far),
            [
                "VM far1 on host esx02 waits for it since 8 s; it stays with VM vm1, which is suspended and keeps its \
                 volumes: resume it, or power it off",
                "missing: the lock on its disk is free, but it belongs to VM vm1, which is suspended and keeps its volumes: \
                 resume it, or power it off",
                "never by itself: VM vm1 has to be resumed or powered off, where it is registered",
                "power off VM vm1 on host esx01, or resume it"
            ]
        );
    };
    let (got, ()) = tokio::join!(two.attach_far(1, Duration::from_secs(10)), look);
    got.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_dead_vm_whose_configuration_file_is_gone_keeps_its_volume_until_somebody_acts() {
    let two = Two::new();
    two.held(&[]).await;
    let world = &two.near.world;
    world.register(&two.near.vms[0], two.far_host);
    world.crash_host(two.far_host);
    world.lose_file(&ds("ds"), "vm1/vm1.vmx");
    let look = async {
        sleep(Duration::from_secs(8)).await;
        let keeps = "VM vm1, whose configuration file cannot be read, so that it may be suspended: bring the file's \
                     datastore back, or power it off and take the volume with --force";
        assert_eq!(
            told(&why(&two.near.engine).await),
            [
                format!("VM vm2 on host esx01 waits for it since 8 s; it stays with {keeps}"),
                format!("missing: the lock on its disk is free, but it belongs to {keeps}"),
                "within 7 s of when the file can be read and names no saved state".to_owned(),
                "vdvs volume detach --force _DEFAULT/db@ds".to_owned(),
            ]
        );
    };
    let attach = two.near.try_attach(2, 1, "db", Duration::from_secs(10));
    let (got, ()) = tokio::join!(attach, look);
    got.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_fence_says_when_it_comes_and_afterwards_whom_it_hit() {
    let two = Two::new();
    two.held(FENCE).await;
    let look = async {
        sleep(Duration::from_secs(10)).await;
        let found = why(&two.far).await;
        assert_eq!(
            found.headline,
            "VM far1 on host esx02 waits for it since 10 s; it is taken from VM vm1 in 5 s"
        );
        assert_eq!(
            found.resolves,
            "in 5 s, by the fence, if VM vm1 does not let it go before"
        );
        assert_eq!(found.command, "", "nothing to do");
        assert_eq!(two.far_view().await.waiting, Some(found.headline));
    };
    let (got, ()) = tokio::join!(two.attach_far(1, WAIT), look);
    got.unwrap();
    let found = why(&two.far).await;
    let kinds: Vec<_> = found.events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["created", "attached", "fenced", "attached"]);
    assert_eq!(
        (found.events[2].who.as_str(), found.events[2].epoch),
        ("VM vm1", 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_denial_that_nothing_followed_names_the_rule_and_the_command_on_both_hosts() {
    let two = Two::new();
    two.near.create(1, "other").await;
    change(&two.near.engine, team("vm2")).await;
    two.near.create(2, "db").await;
    change(&two.near.engine, closed()).await;
    sleep(Duration::from_secs(2)).await;
    for _ in 0..3 {
        let denied = two
            .near
            .try_delete(2, rand_request(), "db")
            .await
            .unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    }
    sleep(Duration::from_secs(50)).await;
    for engine in [&two.near.engine, &two.far] {
        let found = why(engine).await;
        assert!(
            found
                .headline
                .starts_with("VM vm2: delete was denied 50 s ago")
                && found.headline.contains("No delete privilege"),
            "{found:?}"
        );
        assert_eq!(found.resolves, "never by itself: a rule denies it");
        assert_eq!(
            found.command,
            "vdvs vmgroup access set --name=team --datastore=ds --allow-create=True"
        );
        assert_eq!(found.events.last().unwrap().kind, "denied");
    }
    two.near.attach(2, "db").await;
    let found = why(&two.far).await;
    assert!(
        found
            .headline
            .starts_with("VM vm2 on host esx01 holds db@ds"),
        "it is old news then"
    );
}

#[tokio::test(start_paused = true)]
async fn an_orphan_is_adopted_by_its_id() {
    let lab = Lab::new();
    lab.create(1, "first").await;
    let json = lab.engine.config_backup().await.unwrap();
    change(&lab.engine, team("vm2")).await;
    let made = lab.create(2, "db").await;
    let older = ConfigVerb::Restore { json };
    lab.engine
        .config_change(&root(), &older, false)
        .await
        .unwrap();
    sleep(Duration::from_secs(2)).await;
    let found = why(&lab.engine).await;
    assert_eq!(
        told(&found),
        [
            "db@ds is an orphan: its vmgroup exists no more, and no VM can reach it",
            "not needed",
            "never by itself: it has to be given to a vmgroup, or removed",
            &format!("vdvs volume adopt {} --to-group=VMGROUP", made.id)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_nobody_ended_names_the_host_that_has_to() {
    let mut found = false;
    for at in 0..60 {
        let two = Two::new();
        two.near.create(1, "db").await;
        sleep(Duration::from_secs(40)).await;
        two.near.session.plan(at, Fault::Crash(When::Before));
        tokio::select! {
            biased;
            _ = two.near.try_attach(1, 1, "db", Duration::ZERO) => continue,
            () = two.near.session.died() => {}
        }
        if two.far_record().await["operation"]["kind"] != "attach" {
            continue;
        }
        found = true;
        sleep(Duration::from_secs(200)).await;
        let found = why(&two.far).await;
        assert_eq!(
            found.headline,
            "attach is unfinished since 3 min: host esx01 began it and did not end it"
        );
        assert!(
            found.proof.starts_with("found") || found.proof.starts_with("missing"),
            "{found:?}"
        );
        assert!(
            found
                .resolves
                .starts_with("when the agent of host esx01 runs"),
            "{found:?}"
        );
        assert_eq!(found.command, "vdvs volume detach --force _DEFAULT/db@ds");
        assert_eq!(two.far_view().await.waiting, Some(found.headline));
        break;
    }
    assert!(found, "the moment was not found");
}

#[tokio::test(start_paused = true)]
async fn a_datastore_that_cannot_be_read_hides_the_record_and_not_the_story() {
    let two = Two::new();
    two.held(&[]).await;
    two.near.world.reach(two.near.host, &ds("ds"), false);
    let found = two.near.engine.admin_why("db@ds").await.unwrap();
    assert!(
        found.headline.starts_with(
            "datastore ds cannot be read on this host, and the volume may lie there: "
        ),
        "{found:?}"
    );
    assert_eq!(found.resolves, "when datastore ds can be read again");
    assert_eq!(found.command, "vdvs datastore ls");
    assert_eq!(found.volume, None);
    let kinds: Vec<_> = found.events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["created", "attached"], "by this host's audit");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_was_removed_has_a_story_and_one_that_never_was_has_none() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.try_delete(1, 1, "db").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let found = why(&lab.engine).await;
    let vm = lab.vms[0].instance_uuid;
    assert_eq!(
        found.headline,
        format!(
            "there is no volume db@ds; the last that is known of it: delete, 60 s ago, by {vm} vm1"
        )
    );
    assert_eq!(found.events.len(), 2);
    let never = lab.engine.admin_why("never").await.unwrap_err();
    assert_eq!(never.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_clone_under_way_is_what_its_source_waits_for() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.world.hold_work(Some(40));
    let (caller, ask) = (lab.caller(1), call_for(rand_request(), 5));
    let (name, options) = (volume("copy"), given(&[("clone-from", "db")]));
    let copy = lab.engine.create(&caller, &ask, &name, &options);
    let look = async {
        sleep(Duration::from_secs(2)).await;
        let found = why(&lab.engine).await;
        assert!(found.headline.contains("its clone copy@ds is"), "{found:?}");
        assert_eq!(
            found.resolves,
            "when the clone is made, or its host gives it up"
        );
        assert_eq!(
            lab.get(1, "db").await.unwrap().waiting,
            Some(found.headline)
        );
    };
    let (made, ()) = tokio::join!(copy, look);
    drop(made);
    lab.world.hold_work(None);
    lab.engine.drain().await;
}
