//! Rows of the original's list of defects, each shown not to be ours. The names begin with the row.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, advance, timeout};
use uuid::Uuid;
use vdvs_domain::access::{AccessConfig, DatastoreScope, Group, Member, Members};
use vdvs_domain::options::DiskFormat;
use vdvs_domain::{Capacity, ErrorKind, GroupId, GroupName, Ownership};
use vdvs_engine::api::Caller;
use vdvs_engine::ports::{DiskPath, DiskSpec, DsPath, Power};

use crate::consistency::{check, ledger};
use crate::support::{Lab, call, disk, ds, given, root, until, volume};
use crate::volumes::rewrite_config;

#[tokio::test(start_paused = true)]
async fn d2_a_volume_whose_disk_is_locked_elsewhere_is_not_removed_and_loses_nothing() {
    let (lab, made) = Lab::with_lingering_lock(Duration::from_secs(60)).await;
    let err = lab.try_delete(2, 1, "db").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InUse, "{err}");
    let kept = lab.get(2, "db").await.unwrap();
    assert_eq!((kept.id, kept.options), (made.id, made.options));
    check(&lab, "after the refusal").await;
}

#[tokio::test(start_paused = true)]
async fn c1_vms_with_different_homes_meet_at_the_same_volume() {
    let mut lab = Lab::with_datastores(&["ds", "ds2"]);
    let vm = lab.world.add_vm(lab.host, "vm4", &ds("ds2"));
    lab.vms.push(vm);
    let made = lab.create(1, "db@ds").await;
    let far = Caller {
        home: Some(ds("ds2")),
        ..lab.caller(4)
    };
    let near = lab.caller(1);
    let (one, two, address) = (call(1), call(2), volume("db@ds"));
    let (a, b) = tokio::join!(
        lab.engine
            .attach(&near, &one, &address, false, Duration::ZERO),
        lab.engine
            .attach(&far, &two, &address, false, Duration::ZERO)
    );
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    assert_eq!(lab.world.writers(&disk(&made)).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c6_creates_side_by_side_do_not_exceed_the_total() {
    let lab = Lab::new();
    let first = lab.create(1, "first").await;
    let mut config = AccessConfig::open_to_all();
    let privileges = &mut config.groups[0].privileges;
    privileges.truncate(1);
    let privilege = &mut privileges[0];
    privilege.datastore = DatastoreScope::All;
    privilege.total_bytes = Some(4 * first.capacity.bytes());
    rewrite_config(&lab, &config);
    advance(Duration::from_secs(2)).await;
    let mut creates = JoinSet::new();
    for n in 0..12 {
        let (engine, caller) = (lab.engine.clone(), lab.caller(1));
        creates.spawn(async move {
            let address = volume(&format!("v{n}"));
            engine
                .create(&caller, &call(n), &address, &given(&[]))
                .await
        });
    }
    let results = creates.join_all().await;
    let made = results.iter().filter(|r| r.is_ok()).count();
    let refused = results
        .iter()
        .filter_map(|r| r.as_ref().err())
        .all(|e| e.kind() == ErrorKind::QuotaExceeded);
    assert!(made == 3 && refused, "{made} were made: {results:?}");
    assert_eq!(ledger(&lab).len(), 4);
    check(&lab, "after the refusals").await;
}

#[tokio::test(start_paused = true)]
async fn d4_an_owner_that_is_off_does_not_keep_a_volume_from_being_removed() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    let owner = lab.attach(1, "db").await.view.ownership;
    assert!(matches!(owner, Ownership::Attached { .. }));
    lab.world.power(&lab.vms[0], Power::Off);
    lab.try_delete(2, 1, "db").await.unwrap();
    assert!(lab.world.devices(&lab.vms[0]).is_empty());
    check(&lab, "after the removal").await;
}

#[tokio::test(start_paused = true)]
async fn s7_a_name_that_looks_like_a_pattern_is_a_name_and_nothing_else() {
    let lab = Lab::new();
    let victim = lab.create(1, "victim").await;
    let patterns = ["*", "v*", "victi?", "[v]ictim", "{victim}", "victi."];
    for name in patterns {
        let err = lab.get(1, name).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::NotFound, "{name}: {err}");
        let err = lab.try_delete(1, 1, name).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::NotFound, "{name}: {err}");
    }
    for (name, n) in patterns.into_iter().zip(100..) {
        let own = lab.create(1, name).await;
        assert_ne!(own.id, victim.id);
        assert_eq!(lab.get(1, name).await.unwrap().id, own.id);
        lab.try_delete(1, n, name).await.unwrap();
    }
    assert_eq!(lab.get(1, "victim").await.unwrap().id, victim.id);
    check(&lab, "after the patterns").await;
}

#[tokio::test(start_paused = true)]
async fn s11_a_group_made_again_under_its_name_sees_nothing_of_the_one_before() {
    let lab = Lab::new();
    lab.create(1, "seed").await;
    let mut config = AccessConfig::open_to_all();
    for round in 0..2_u128 {
        config.groups.truncate(1);
        config.groups.push(dev_of(&lab, &config.groups[0], round));
        rewrite_config(&lab, &config);
        advance(Duration::from_secs(2)).await;
        let listed = lab.engine.list(&lab.caller(1)).await.unwrap();
        assert!(listed.volumes.is_empty(), "round {round}: {listed:?}");
        let err = lab.get(1, "db").await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::NotFound, "round {round}: {err}");
        lab.create(1, "db").await;
    }
    let names = lab.world.files(&ds("ds")).into_iter();
    assert_eq!(names.filter(|f| f.ends_with("/db.vdvs")).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn c2_a_volume_is_cloned_to_another_datastore_under_its_own_name() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    let source = lab.create(1, "x").await;
    for (n, name) in [(1, "x@ds2"), (2, "y")] {
        let options = [("clone-from", "x@ds")];
        let made = timeout(
            Duration::from_secs(60),
            lab.try_create(1, n, name, &options),
        )
        .await;
        let clone = made
            .expect("it does not wait for itself")
            .unwrap()
            .into_inner();
        assert_ne!(clone.id, source.id, "{name}");
    }
    assert_eq!(lab.get(1, "x").await.unwrap().id, source.id);
    assert_eq!(lab.get(1, "x@ds").await.unwrap().id, source.id);
    assert_eq!(lab.get(1, "y").await.unwrap().datastore, ds("ds"));
}

#[tokio::test(start_paused = true)]
async fn a19_a_vms_own_disk_stays_in_it_whatever_its_folder_is_called() {
    let lab = Lab::new();
    lab.create(1, "seed").await;
    let ports = lab.session.ports();
    let spec = DiskSpec {
        capacity: Capacity::parse("1gb").unwrap(),
        format: DiskFormat::Thin,
        uuid: Uuid::from_u128(0x0b5e),
    };
    for folder in ["dockvols-vm", "vm1"] {
        let folder = DsPath::new(folder).unwrap();
        ports.datastores.make_dir(&ds("ds"), &folder).await.unwrap();
    }
    let mut own = Vec::new();
    for path in [
        "dockvols-vm/dockvols-vm.vmdk",
        "dockvols/web01.vmdk",
        "vm1/dockvols.vmdk",
    ] {
        let disk = DiskPath {
            datastore: ds("ds"),
            path: DsPath::new(path).unwrap(),
        };
        let progress = Arc::default();
        ports
            .datastores
            .create_disk(&disk.datastore, &disk.path, &spec, &progress)
            .await
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        ports
            .host
            .attach(&lab.vms[0], &disk, false, deadline)
            .await
            .unwrap();
        own.push(disk);
    }
    let _reconciler = lab.reconcile();
    lab.attach(1, "seed").await;
    lab.world.power(&lab.vms[0], Power::Off);
    until("the volume's release", async || {
        lab.world.devices(&lab.vms[0]).len() == own.len()
    })
    .await;
    advance(Duration::from_secs(600)).await;
    let left: Vec<_> = lab
        .world
        .devices(&lab.vms[0])
        .into_iter()
        .map(|d| d.disk)
        .collect();
    assert!(own.iter().all(|disk| left.contains(disk)), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a20_a_name_is_listed_as_it_was_given_whatever_file_names_end_in() {
    let lab = Lab::new();
    let names = ["a.vmdk.b", ".vmdk", "x.vmfd", "雪.vdvs"];
    for name in names {
        lab.create(1, name).await;
    }
    let listed = lab.engine.list(&lab.caller(1)).await.unwrap().volumes;
    let mut listed: Vec<_> = listed.iter().map(|v| v.name.to_string()).collect();
    listed.sort();
    let mut expected = names.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(listed, expected);
    check(&lab, "after the names").await;
}

#[tokio::test(start_paused = true)]
async fn a21_what_only_asks_writes_nothing() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    lab.create(1, "seed").await;
    let files = || ["ds", "ds2"].map(|name| lab.world.files(&ds(name)));
    let before = files();
    for name in ["none", "none@ds", "none@ds2"] {
        let err = lab.get(1, name).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::NotFound, "{name}: {err}");
        lab.try_attach(1, 7, name, Duration::ZERO)
            .await
            .unwrap_err();
        lab.try_delete(1, 8, name).await.unwrap_err();
    }
    lab.engine.list(&lab.caller(1)).await.unwrap();
    assert_eq!(files(), before);
}

#[tokio::test(start_paused = true)]
async fn a10_volumes_of_a_group_that_is_gone_are_shown_given_to_another_or_removed() {
    let lab = Lab::new();
    lab.create(1, "seed").await;
    let mut config = AccessConfig::open_to_all();
    config.groups.push(dev_of(&lab, &config.groups[0], 7));
    rewrite_config(&lab, &config);
    advance(Duration::from_secs(2)).await;
    let kept = lab.create(1, "kept").await;
    lab.create(1, "useless").await;
    config.groups.truncate(1);
    rewrite_config(&lab, &config);
    advance(Duration::from_secs(2)).await;
    let orphans = async || {
        let all = lab.engine.admin_volumes().await.unwrap().volumes;
        let orphans = all.into_iter().filter(|v| v.orphan);
        let mut names: Vec<_> = orphans.map(|v| v.view.name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(orphans().await, ["kept", "useless"]);
    lab.engine
        .admin_remove(&root(), &call(1), "useless")
        .await
        .unwrap();
    lab.engine
        .admin_move(&root(), &call(2), "kept", "_DEFAULT", false)
        .await
        .unwrap();
    assert!(orphans().await.is_empty());
    assert_eq!(lab.get(1, "kept").await.unwrap().id, kept.id);
    lab.attach(1, "kept").await;
}

/// A vmgroup `dev` of vm1 alone, with the privileges of `like`.
fn dev_of(lab: &Lab, like: &Group, id: u128) -> Group {
    Group {
        id: GroupId::new(Uuid::from_u128(0xdeb0_0000 | id)),
        name: GroupName::new("dev").unwrap(),
        members: Members::Vms(vec![Member {
            uuid: lab.vms[0].instance_uuid,
            name: "vm1".to_owned(),
        }]),
        ..like.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a2_without_a_configuration_a_list_is_no_answer_and_who_holds_a_volume_lets_go_of_it() {
    let mut lab = Lab::new();
    lab.create(1, "db").await;
    let held = lab.attach(1, "db").await;
    let files = lab.world.files(&ds("ds"));
    for slot in files.iter().filter(|f| f.contains(".vdvs/config.")) {
        lab.world.put_file(&ds("ds"), slot, b"torn");
    }
    lab.world.forget_store(lab.host);
    lab.restart();
    for name in ["db", "none"] {
        let err = lab.get(1, name).await.unwrap_err();
        assert_ne!(err.kind(), ErrorKind::NotFound, "{name}: {err}");
    }
    let listed = lab.engine.list(&lab.caller(1)).await;
    let says_so = listed.map_or(true, |l| l.unreadable.contains(&ds("ds")));
    assert!(says_so, "an empty list would say that there are none");
    lab.detach(1, &held).await;
    assert!(lab.world.devices(&lab.vms[0]).is_empty());
}
