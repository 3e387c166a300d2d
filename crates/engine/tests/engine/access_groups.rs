//! An administrator's changes of vmgroups, over hosts, members that are gone, and volumes that are in use.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::access::{ChangeMembers, ChangePrivilege, CreateGroup, Leaving, UpdateGroup};
use vdvs_domain::{Error, ErrorKind, VmRef};
use vdvs_engine::Engine;
use vdvs_engine::api::{AdminGroup, Caller, GroupChange, GroupChanged, RemoveGroup, Teller};

use super::moving::edit_config;
use super::support::{Lab, call, ds, given, rand_request, root, until, volume};

async fn change(engine: &Engine, change: GroupChange) -> Result<GroupChanged, Error> {
    let (user, teller) = (root(), Teller::default());
    engine.admin_change_group(&user, &change, &teller).await
}

fn create(name: &str, vms: &[&str], volumes: Leaving) -> GroupChange {
    GroupChange::Create(CreateGroup {
        name: name.to_owned(),
        default_datastore: "ds".to_owned(),
        vms: vms.iter().map(|vm| (*vm).to_owned()).collect(),
        volumes,
        ..CreateGroup::default()
    })
}

fn members(group: &str, vms: &[&str], volumes: Leaving) -> ChangeMembers {
    ChangeMembers {
        group: group.to_owned(),
        vms: vms.iter().map(|vm| (*vm).to_owned()).collect(),
        volumes,
    }
}

fn add(group: &str, vms: &[&str], volumes: Leaving) -> GroupChange {
    GroupChange::AddMembers(members(group, vms, volumes), Vec::new())
}

fn remove(group: &str, vms: &[&str]) -> GroupChange {
    GroupChange::RemoveMembers(members(group, vms, Leaving::Ask), Vec::new())
}

async fn group(engine: &Engine, name: &str) -> AdminGroup {
    let listed = engine.admin_groups(Some(name)).await.unwrap();
    listed.groups.into_iter().next().unwrap()
}

/// A lab that is configured: its first volume was made.
async fn configured() -> Lab {
    let lab = Lab::new();
    lab.create(3, "first").await;
    lab
}

#[tokio::test(start_paused = true)]
async fn before_the_first_volume_the_default_vmgroup_is_shown_and_nothing_can_be_changed() {
    let lab = Lab::new();
    let listed = lab.engine.admin_groups(None).await.unwrap();
    assert!(listed.not_configured);
    assert_eq!(listed.groups[0].group.name.as_str(), "_DEFAULT");
    let refused = change(&lab.engine, create("dev", &[], Leaving::Ask)).await;
    let said = refused.unwrap_err().to_string();
    assert!(
        said.starts_with("Configuration not found. Please init configuration with 'esxcli storage guestvol config init'."),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_vm_with_mounted_volumes_neither_joins_nor_leaves_without_them() {
    let lab = configured().await;
    lab.create(1, "v").await;
    let held = lab.attach(1, "v").await;
    let refused = change(&lab.engine, create("dev", &["vm1"], Leaving::Leave)).await;
    let said = refused.unwrap_err().to_string();
    assert!(
        said.starts_with("Cannot add VM to vmgroup VM 'vm1' has volumes mounted. Stop the containers that use v@ds"),
        "{said}"
    );
    lab.detach(1, &held).await;
    let refused = change(&lab.engine, create("dev", &["vm1"], Leaving::Ask)).await;
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("leaves volumes in vmgroup _DEFAULT: v@ds"),
        "{said}"
    );
    change(&lab.engine, create("dev", &["vm1"], Leaving::Leave))
        .await
        .unwrap();

    lab.create(1, "mine").await;
    let held = lab.attach(1, "mine").await;
    let refused = change(&lab.engine, remove("dev", &["vm1"])).await;
    let said = refused.unwrap_err().to_string();
    assert!(
        said.starts_with("Cannot complete vmgroup vm rm. VM 'vm1' has volumes mounted."),
        "{said}"
    );
    lab.detach(1, &held).await;
    let done = change(&lab.engine, remove("dev", &["vm1"])).await.unwrap();
    assert!(
        done.warnings[0].contains("can no longer reach volumes it made in vmgroup dev: mine@ds"),
        "{done:?}"
    );
    lab.get(1, "v").await.unwrap();
    assert!(lab.get(1, "mine").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn volumes_come_along_while_they_are_attached_and_no_twin_is_made() {
    let lab = configured().await;
    let made = lab.create(1, "v").await;
    let held = lab.attach(1, "v").await;
    change(&lab.engine, create("dev", &["vm1"], Leaving::Move))
        .await
        .unwrap();
    let now = lab.get(1, "v").await.unwrap();
    assert_eq!((now.id, now.group.as_str()), (made.id, "dev"));
    assert!(lab.detach(1, &held).await.is_change());
    let again = lab.create(1, "v").await;
    assert_eq!(again.id, made.id, "it is the same volume");
    assert_eq!(group(&lab.engine, "dev").await.members[0].name, "vm1");
    assert!(
        lab.get(2, "v").await.is_err(),
        "who stayed behind has no such volume"
    );
}

#[tokio::test(start_paused = true)]
async fn a_vm_of_another_host_is_added_by_name_and_its_mounts_are_seen() {
    let lab = configured().await;
    let (far, engine) = lab.second_host();
    let vm = lab.world.add_vm(far, "far", &ds("ds"));
    let mut rounds = JoinSet::new();
    for engine in [&lab.engine, &engine] {
        let run = Arc::clone(engine).run(CancellationToken::new());
        rounds.spawn(run);
    }
    until("the other host has told of its VM", async || {
        lab.engine
            .admin_vms()
            .await
            .unwrap()
            .iter()
            .any(|vm| vm.vm.name == "far")
    })
    .await;
    let caller = Caller {
        vm: VmRef {
            id: vm,
            name: "far".to_owned(),
        },
        home: Some(ds("ds")),
    };
    change(&lab.engine, create("dev", &["far"], Leaving::Ask))
        .await
        .unwrap();
    // Followed within a second.
    sleep(Duration::from_secs(2)).await;
    let (one, options) = (call(rand_request()), given(&[]));
    let name = volume("v");
    let made = engine
        .create(&caller, &one, &name, &options)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(made.group.as_str(), "dev");
    let two = call(rand_request());
    engine
        .attach(&caller, &two, &name, false, Duration::ZERO)
        .await
        .unwrap();
    let refused = change(&lab.engine, remove("dev", &["far"])).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("VM 'far' has volumes mounted")
    );
    let member = &group(&lab.engine, "dev").await.members[0];
    assert_eq!(
        (member.name.as_str(), member.host.as_deref()),
        ("far", Some("esx02"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_gone_blocks_nothing() {
    let lab = configured().await;
    change(&lab.engine, create("dev", &["vm1", "vm2"], Leaving::Ask))
        .await
        .unwrap();
    let uuid = lab.vms[0].instance_uuid;
    lab.world.delete_vm(&lab.vms[0]);
    lab.world.delete_vm(&lab.vms[1]);
    let shown = group(&lab.engine, "dev").await.members;
    assert_eq!((shown[0].name.as_str(), &shown[0].host), ("vm1", &None));
    change(&lab.engine, remove("dev", &[&uuid.to_string()]))
        .await
        .unwrap();
    change(&lab.engine, remove("dev", &["vm2"])).await.unwrap();
    let unknown = change(&lab.engine, add("dev", &["vm2"], Leaving::Ask)).await;
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .starts_with("Cannot find vm vm2")
    );
    change(
        &lab.engine,
        GroupChange::Remove(RemoveGroup {
            name: "dev".to_owned(),
            ..RemoveGroup::default()
        }),
    )
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn usage_is_shown_against_the_limit_that_applies() {
    let lab = configured().await;
    change(&lab.engine, create("dev", &["vm1"], Leaving::Ask))
        .await
        .unwrap();
    let limits = ChangePrivilege {
        group: "dev".to_owned(),
        datastore: "DS".to_owned(),
        total_size: Some("100MB".to_owned()),
        ..ChangePrivilege::default()
    };
    change(&lab.engine, GroupChange::SetPrivilege(limits))
        .await
        .unwrap();
    lab.try_create(1, 1, "v", &[("size", "30mb")])
        .await
        .unwrap();
    lab.try_create(1, 2, "w", &[("clone-from", "v")])
        .await
        .unwrap();
    let usage = &group(&lab.engine, "dev").await.usage;
    assert_eq!(usage.len(), 1);
    assert_eq!((usage[0].volumes, usage[0].used_bytes), (2, 60 << 20));
    assert_eq!(usage[0].total_bytes, Some(100 << 20));
}

#[tokio::test(start_paused = true)]
async fn the_vmgroups_default_size_is_what_a_volume_gets_that_asks_for_none() {
    let lab = configured().await;
    change(&lab.engine, create("dev", &["vm1"], Leaving::Ask))
        .await
        .unwrap();
    let size = |text: &str| {
        GroupChange::Update(UpdateGroup {
            name: "dev".to_owned(),
            default_size: Some(text.to_owned()),
            ..UpdateGroup::default()
        })
    };
    change(&lab.engine, size("5gb")).await.unwrap();
    assert_eq!(lab.create(1, "v").await.capacity.bytes(), 5 << 30);
    assert_eq!(
        lab.create(1, "v").await.capacity.bytes(),
        5 << 30,
        "again: the same"
    );
    let asked = lab.try_create(1, 7, "w", &[("size", "2gb")]).await.unwrap();
    assert_eq!(asked.into_inner().capacity.bytes(), 2 << 30);
    change(&lab.engine, size("")).await.unwrap();
    assert_eq!(lab.create(1, "x").await.capacity.bytes(), 1 << 30);
}

#[tokio::test(start_paused = true)]
async fn a_datastore_that_hangs_hides_nothing_from_who_may_not_use_it() {
    let lab = Lab::with_datastores(&["ds", "far"]);
    lab.create(3, "first").await;
    lab.create(3, "there@far").await;
    change(&lab.engine, create("dev", &["vm1"], Leaving::Ask))
        .await
        .unwrap();
    // The rules of both are known.
    assert!(lab.get(1, "none").await.is_err());
    lab.world.reach(lab.host, &ds("far"), false);
    let said = lab.get(1, "none").await.unwrap_err();
    assert!(matches!(said, Error::VolumeNotFound { .. }), "{said}");
    let said = lab.get(3, "none").await.unwrap_err();
    assert!(
        matches!(said, Error::DatastoreUnavailable { .. }),
        "who may use it does not know: {said}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_said_elsewhere_of_a_datastore_that_hangs_counts_from_then_on() {
    let lab = Lab::with_datastores(&["ds", "far"]);
    lab.create(3, "first").await;
    lab.create(3, "there@far").await;
    assert!(lab.get(1, "none").await.is_err());
    lab.world.reach(lab.host, &ds("far"), false);
    let said = lab.get(1, "none").await.unwrap_err();
    assert!(matches!(said, Error::DatastoreUnavailable { .. }), "{said}");
    edit_config(&lab, |groups| {
        groups[0]["privileges"][0]["datastore"] = json!({ "named": "ds" });
        groups[0]["privileges"].as_array_mut().unwrap().truncate(1);
    });
    sleep(Duration::from_secs(2)).await;
    let said = lab.get(1, "none").await.unwrap_err();
    assert!(matches!(said, Error::VolumeNotFound { .. }), "{said}");
}

#[tokio::test(start_paused = true)]
async fn who_may_use_nothing_hears_why_its_default_datastore_is_closed() {
    let lab = Lab::with_datastores(&["ds", "another"]);
    lab.create(1, "first").await;
    lab.world
        .put_file(&ds("another"), "dockvols/old/old.vmdk", b"x");
    edit_config(&lab, |groups| groups[0]["privileges"] = json!([]));
    sleep(Duration::from_secs(2)).await;
    let said = lab.get(1, "none").await.unwrap_err();
    assert_eq!(said.kind(), ErrorKind::PermissionDenied, "{said}");
    let why = "No access privilege exists for vmgroup _DEFAULT on the default datastore";
    assert!(said.to_string().starts_with(why), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_request_by_old_rules_makes_nothing_in_a_vmgroup_that_its_vm_has_left() {
    let lab = configured().await;
    let (_, stale) = lab.second_host();
    let caller = lab.caller(1);
    // It follows the rules of this moment for a second.
    stale.get(&caller, &volume("first")).await.unwrap();
    change(&lab.engine, create("dev", &["vm1"], Leaving::Ask))
        .await
        .unwrap();
    let one = call(rand_request());
    let made = stale.create(&caller, &one, &volume("v"), &given(&[])).await;
    if let Ok(made) = &made {
        assert_eq!(made.clone().into_inner().group.as_str(), "dev");
    }
    let all = lab.engine.admin_volumes().await.unwrap().volumes;
    let twins = all.iter().filter(|v| v.view.name.as_str() == "v");
    assert!(twins.into_iter().all(|v| v.view.group.as_str() == "dev"));
}

#[tokio::test(start_paused = true)]
async fn what_a_privilege_lost_is_lost_at_once_here_and_within_a_second_elsewhere() {
    let lab = configured().await;
    let (_, other) = lab.second_host();
    let caller = lab.caller(3);
    other.get(&caller, &volume("first")).await.unwrap();
    let default = |how: fn(ChangePrivilege) -> GroupChange, scope: &str, create: Option<&str>| {
        how(ChangePrivilege {
            group: "_DEFAULT".to_owned(),
            datastore: scope.to_owned(),
            allow_create: create.map(str::to_owned),
            ..ChangePrivilege::default()
        })
    };
    let set = default(GroupChange::SetPrivilege, "_VM_DS", Some("False"));
    change(&lab.engine, set).await.unwrap();
    let said = lab
        .try_create(3, 1, "v", &[])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        said.starts_with("No create privilege for vmgroup _DEFAULT"),
        "{said}"
    );
    // A create never goes by older rules; a look-up may, for a second.
    let one = call(rand_request());
    let said = other.create(&caller, &one, &volume("w"), &given(&[])).await;
    assert!(
        said.unwrap_err()
            .to_string()
            .starts_with("No create privilege")
    );
    let named = Uuid::nil();
    assert!(
        lab.engine
            .admin_groups(Some(&named.to_string()))
            .await
            .is_err()
    );
}
