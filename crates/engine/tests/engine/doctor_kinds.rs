//! `doctor`: the findings that come from whole datastores, other hosts, and what was begun and left; and those that only a
//! person ends.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{advance, sleep};
use vdvs_domain::access::Leaving;
use vdvs_domain::{ErrorKind, GroupId};
use vdvs_engine::Engine;
use vdvs_engine::api::{Caller, Finding, Remedy, Repaired, Risk};
use vdvs_engine::ports::{DatastoreKind, Power};
use vdvs_host_sim::{Fault, When};

use crate::doctor::{find, fix, found};
use crate::doctor_hosts::told;
use crate::hosts::Two;
use crate::moving::{forget_group, make_group, move_to};
use crate::support::{Lab, call, call_for, disk, ds, given, rand_request, root, until, volume};

/// A finding that no agent ends: it has all that a person needs, its age goes on, and who asks for its repair is told
/// what helps.
async fn is_a_persons(engine: &Engine, name: &str, object: &str) -> Finding {
    let first = find(engine, name).await;
    let row = first.kind.row();
    assert_eq!((row.name, first.object.as_str()), (name, object));
    let Remedy::Person(helps) = row.remedy else {
        panic!("{name} is repaired by the agent")
    };
    assert!(
        ![first.text.as_str(), &first.command, row.means, row.danger].contains(&""),
        "{first:?}"
    );
    let before = found(engine).await;
    let asked = call_for(rand_request(), 60);
    let refused = engine
        .admin_repair(&root(), &asked, (name, ""), false)
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{name}");
    assert!(refused.to_string().contains(helps), "{refused}");
    sleep(Duration::from_millis(100)).await;
    assert_eq!(find(engine, name).await.since, first.since, "its age");
    assert_eq!(found(engine).await, before, "nothing was changed");
    first
}

#[tokio::test(start_paused = true)]
async fn a_running_vm_whose_locks_lapsed_while_its_host_was_cut_off_is_said() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    lab.attach(1, "db").await;
    lab.world.set_lapse(Duration::from_secs(10));
    lab.world.cut_off(lab.host, true);
    advance(Duration::from_secs(60)).await;
    lab.world.cut_off(lab.host, false);
    assert_eq!(lab.world.writers(&disk(&made)), Vec::<String>::new());
    let seen = is_a_persons(&lab.engine, "lock-lost", "db@ds").await;
    assert_eq!(seen.kind.row().risk, Risk::Data);
    assert_eq!(seen.command, "vdvs volume detach db@ds");
    // The command that it names asks the guest first; of one that does not let go it names the way out.
    let (user, once) = (root(), call(rand_request()));
    let asked = lab.engine.admin_take(&user, &once, "db@ds", false).await;
    let refused = asked.unwrap_err().to_string();
    assert!(refused.contains("--force takes it"), "{refused}");
    let once = call(rand_request());
    let taken = lab.engine.admin_take(&user, &once, "db@ds", true).await;
    assert!(taken.unwrap().is_change());
    assert_eq!(found(&lab.engine).await, []);
    lab.attach(1, "db").await;
    assert_eq!(found(&lab.engine).await, []);
}

/// Its own host cannot reach the volume's datastore, and tells of it by another.
#[tokio::test(start_paused = true)]
async fn a_vm_that_is_off_elsewhere_is_said_here_and_repaired_there() {
    let two = Two::over(Lab::with_datastores(&["ds", "ds2"]));
    two.near.create(1, "other@ds2").await;
    two.held(&[]).await;
    told(&two).await;
    assert_eq!(found(&two.far).await, []);
    let world = two.near.world.clone();
    world.reach(two.near.host, &ds("ds"), false);
    world.power(&two.near.vms[0], Power::Off);
    told(&two).await;
    let seen = is_a_persons(&two.far, "powered-off-elsewhere", "db@ds").await;
    assert!(seen.text.contains("is off on host esx01"), "{seen:?}");
    let command = "vdvs doctor --fix=powered-off-owner, on host esx01";
    assert_eq!(seen.command, command);
    // There it is done at once, when that can be done.
    world.reach(two.near.host, &ds("ds"), true);
    until("it is free", async || {
        two.far_view().await.ownership.owner().is_none()
    })
    .await;
    assert_eq!(world.devices(&two.near.vms[0]), []);
    told(&two).await;
    assert_eq!(found(&two.far).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_a_vmgroup_that_is_gone_is_said_until_somebody_takes_it() {
    let lab = Lab::new();
    lab.create(1, "first").await;
    let dev = make_group(&lab.engine, "dev", &["vm3"], Leaving::Ask).await;
    dev.unwrap();
    lab.create(3, "kept").await;
    forget_group(&lab, "dev");
    sleep(Duration::from_secs(2)).await;
    let seen = is_a_persons(&lab.engine, "orphan", "kept@ds").await;
    assert_eq!(seen.command, "vdvs volume adopt kept@ds VMGROUP");
    move_to(&lab.engine, "kept@ds", "_DEFAULT").await.unwrap();
    assert_eq!(found(&lab.engine).await, []);
}

#[tokio::test(start_paused = true)]
async fn two_volumes_under_one_short_name_are_both_named() {
    let elsewhere = Lab::with_datastores(&["ds2", "ds"]);
    let caller = Caller {
        home: Some(ds("ds2")),
        ..elsewhere.caller(1)
    };
    let (once, asked, options) = (call(1), volume("db"), given(&[]));
    let made = elsewhere.engine.create(&caller, &once, &asked, &options);
    made.await.unwrap();
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.world.add_datastore(&ds("ds2"), DatastoreKind::Vmfs);
    // A datastore comes from another site.
    for file in elsewhere.world.files(&ds("ds2")) {
        if let Some(bytes) = elsewhere.world.file(&ds("ds2"), &file) {
            lab.world.put_file(&ds("ds2"), &file, &bytes);
        }
    }
    let seen = is_a_persons(&lab.engine, "two-claimants", "db@ds and db@ds2").await;
    assert!(seen.command.contains("vdvs volume rm db@ds"), "{seen:?}");
    let refused = lab.get(1, "db").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Ambiguous);
    lab.try_delete(1, rand_request(), "db@ds").await.unwrap();
    let left = lab.engine.admin_doctor("two-claimants").await.unwrap();
    assert_eq!(left.findings, []);
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_clone_nobody_makes_any_more_is_freed() {
    let mut lab = Lab::new();
    lab.create(1, "src").await;
    let attached = lab.attach(1, "src").await;
    let (caller, id, epoch) = (lab.caller(1), attached.view.id, attached.epoch);
    let (begin, finish) = (call(rand_request()), call(rand_request()));
    let uuid = lab.engine.begin_format(&caller, &begin, id, epoch).await;
    let uuid = uuid.unwrap();
    let ready = lab.engine.finish_format(&caller, &finish, id, epoch, uuid);
    ready.await.unwrap();
    lab.detach(1, &attached).await;
    lab.world.hold_work(Some(42));
    let (asked, options) = (volume("copy"), given(&[("clone-from", "src")]));
    let patient = call_for(1, 600);
    tokio::select! {
        made = lab.engine.create(&caller, &patient, &asked, &options) => panic!("{made:?}"),
        () = until("the copy", async || {
            lab.get(1, "src").await.unwrap().ownership.name() == "reading"
        }) => {}
    }
    lab.restart();
    lab.world.hold_work(None);
    assert_eq!(found(&lab.engine).await, [], "its maker may be slow");
    advance(Duration::from_secs(900)).await;
    let seen = find(&lab.engine, "stale-read").await;
    assert_eq!(seen.object, "src@ds");
    assert_eq!(seen.command, "vdvs doctor --fix=stale-read src@ds");
    let before = found(&lab.engine).await;
    let (user, again) = (root(), call(rand_request()));
    let dry = lab
        .engine
        .admin_repair(&user, &again, ("stale-read", ""), true);
    assert_eq!(dry.await.unwrap()[0].outcome, Repaired::Would);
    assert_eq!(found(&lab.engine).await, before, "nothing was changed");
    let fixed = fix(&lab.engine, "stale-read").await;
    assert!(
        matches!(fixed.as_slice(), [(Repaired::Done, _)]),
        "{fixed:?}"
    );
    lab.attach(2, "src").await;
    let undone = fix(&lab.engine, "unfinished-operation").await;
    let done = matches!(undone.as_slice(), [(Repaired::Done, _)]);
    assert!(done, "the clone is taken back: {undone:?}");
    assert_eq!(found(&lab.engine).await, []);
}

/// The agent dies at every call of a move to another vmgroup; what it leaves is named after a minute, and ended.
#[tokio::test(start_paused = true)]
async fn a_move_that_does_not_arrive_is_named_and_brought_to_its_end() {
    let mut seen = BTreeMap::new();
    for at in 0.. {
        let mut lab = Lab::new();
        lab.create(1, "db").await;
        let dev = make_group(&lab.engine, "dev", &["vm3"], Leaving::Ask).await;
        dev.unwrap();
        lab.session.plan(at, Fault::Crash(When::After));
        tokio::select! {
            biased;
            _ = move_to(&lab.engine, "db", "dev") => {}
            () = lab.session.died() => {}
        }
        let died = lab.session.is_dead();
        lab.restart();
        let early = found(&lab.engine).await;
        assert!(
            !early.iter().any(|(n, _)| *n == "unfinished-move"),
            "{early:?}"
        );
        advance(Duration::from_secs(61)).await;
        let names: Vec<_> = found(&lab.engine)
            .await
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        if names.contains(&"unfinished-move") {
            let fixed = fix(&lab.engine, "unfinished-move").await;
            let done = matches!(fixed.as_slice(), [(Repaired::Done, _)]);
            assert!(done, "after call {at}: {fixed:?}");
        }
        for name in names {
            *seen.entry(name).or_insert(0) += 1;
        }
        if !died {
            break;
        }
    }
    assert!(
        seen.get("unfinished-move").is_some_and(|n| *n > 2),
        "{seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_ails_a_datastore_is_said_of_it() {
    let lab = Lab::with_datastores(&["ds", "ds2", "old"]);
    lab.create(1, "a@ds").await;
    lab.create(1, "b@ds2").await;
    assert_eq!(found(&lab.engine).await, []);
    lab.world.fill(&ds("ds2"), Some(1 << 20));
    let seen = is_a_persons(&lab.engine, "low-space", "ds2").await;
    assert!(seen.text.starts_with("only 1 MiB of "), "{seen:?}");
    lab.world.fill(&ds("ds2"), None);
    assert_eq!(found(&lab.engine).await, []);
    let folder = format!("dockvols/{}/old.vmdk", GroupId::DEFAULT);
    lab.world.put_file(&ds("old"), &folder, b"x");
    sleep(Duration::from_secs(2)).await;
    let seen = is_a_persons(&lab.engine, "closed-datastore", "old").await;
    assert!(seen.text.contains("vdvs config init"), "{seen:?}");
    lab.world.lose_file(&ds("old"), &folder);
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_the_configuration_that_counts_in_its_place_is_said() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    lab.create(1, "a@ds").await;
    lab.create(1, "b@ds2").await;
    lab.get(1, "b@ds2").await.unwrap();
    lab.world.reach(lab.host, &ds("ds"), false);
    sleep(Duration::from_secs(60)).await;
    let seen = is_a_persons(&lab.engine, "kept-configuration", "ds2").await;
    assert!(seen.text.contains("it lies on ds, version "), "{seen:?}");
    lab.world.reach(lab.host, &ds("ds"), true);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(found(&lab.engine).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_another_host_tells_that_cannot_be_and_its_clock_are_said() {
    let two = Two::new();
    two.held(&[]).await;
    told(&two).await;
    assert_eq!(found(&two.near.engine).await, []);
    let strange = "00000000-0000-0000-0000-0000000000bb";
    let path = format!("dockvols/.vdvs/host.{strange}.1");
    // `{}` and its checksum, of a format to come.
    let newer = b"vdvs host 9 2 a3a6bf43\n{}";
    two.near.world.put_file(&ds("ds"), &path, newer);
    sleep(Duration::from_secs(2)).await;
    let seen = is_a_persons(&two.near.engine, "strange-host", strange).await;
    assert!(seen.text.contains("format 9"), "{seen:?}");
    two.near.world.lose_file(&ds("ds"), &path);
    two.near.world.jump_clock(two.far_host, 3_600_000);
    // It tells so with its next sign of life.
    sleep(Duration::from_secs(600)).await;
    let seen = is_a_persons(&two.near.engine, "clock-ahead", "esx02").await;
    assert!(seen.text.contains("ahead of this host's"), "{seen:?}");
}
