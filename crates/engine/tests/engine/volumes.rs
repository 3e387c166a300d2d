//! Create, get, list, delete.

use std::time::Duration;

use crate::support::{Lab, call, ds, given, rand_request, volume};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::task::yield_now;
use tokio::time::advance;
use vdvs_domain::access::{AccessConfig, DatastoreScope};
use vdvs_domain::{Capacity, Error, ErrorKind, FilesystemState, Ownership};
use vdvs_engine::api::{Caller, Outcome};
use vdvs_engine::ports::DatastoreKind;

#[tokio::test(start_paused = true)]
async fn a_created_volume_is_found_listed_and_free() {
    let lab = Lab::new();
    let made = lab
        .try_create(1, 1, "db", &[("size", "2gb")])
        .await
        .unwrap();
    let Outcome::Created(made) = made else {
        panic!("{made:?}")
    };
    assert_eq!(made.capacity.bytes(), 2 << 30);
    assert_eq!(made.filesystem.state, FilesystemState::Never);
    assert_eq!(made.ownership, Ownership::Free);
    assert_eq!(made.group.as_str(), "_DEFAULT");
    let got = lab.get(2, "db").await.unwrap();
    assert_eq!(got, made);
    assert_eq!(lab.get(2, "db@DS").await.unwrap(), made);
    let caller = lab.caller(1);
    let listing = lab.engine.list(&caller).await.unwrap();
    assert_eq!((listing.volumes, listing.unreadable), (vec![made], vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_files_lie_where_the_layout_says() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let group = "11111111-1111-1111-1111-111111111111";
    let id8 = made.id.id8();
    let files: Vec<String> = lab
        .world
        .files(&ds("ds"))
        .into_iter()
        .filter(|f| f.starts_with("dockvols"))
        .collect();
    let mut expected = vec![
        "dockvols/.vdvs/config.1".to_owned(),
        "dockvols/.vdvs/datastore.json".to_owned(),
        format!("dockvols/.vdvs/ledger.{group}.1"),
        format!("dockvols/{group}/db.vdvs"),
        format!("dockvols/{group}/db.{id8}.vdvs.2"),
        format!("dockvols/{group}/db.{id8}.vmdk"),
        format!("dockvols/{group}/db.{id8}-flat.vmdk"),
    ];
    expected.sort();
    assert_eq!(files, expected);
}

#[tokio::test(start_paused = true)]
async fn creating_again_changes_nothing_unless_a_given_option_differs() {
    let lab = Lab::new();
    let made = lab
        .try_create(1, 1, "db", &[("size", "2gb")])
        .await
        .unwrap()
        .into_inner();
    let again = lab.try_create(2, 2, "db", &[]).await.unwrap();
    assert_eq!(again, Outcome::Unchanged(made.clone()));
    let retry = lab
        .try_create(1, 1, "db", &[("size", "2gb")])
        .await
        .unwrap();
    assert_eq!(
        retry,
        Outcome::Created(made),
        "a retry gets the first answer"
    );
    let other = lab
        .try_create(1, 3, "db", &[("size", "3gb"), ("fstype", "xfs")])
        .await
        .unwrap_err();
    let Error::AlreadyExists { differences, .. } = other else {
        panic!("{other}")
    };
    assert_eq!(
        differences,
        ["size: asked 3GB, has 2GB", "fstype: asked xfs, has ext4"]
    );
    let misused = lab.try_create(1, 1, "db", &[]).await.unwrap_err();
    assert_eq!(misused.kind(), ErrorKind::RequestMismatch);
}

#[tokio::test(start_paused = true)]
async fn two_creators_of_one_name_get_one_volume() {
    let lab = Lab::new();
    let (a, b) = tokio::join!(
        lab.try_create(1, 1, "db", &[]),
        lab.try_create(2, 2, "db", &[])
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a.is_change() != b.is_change(), "{a:?} {b:?}");
    assert_eq!(a.into_inner().id, b.into_inner().id);
}

#[tokio::test(start_paused = true)]
async fn creators_on_two_hosts_get_one_volume() {
    let lab = Lab::new();
    let (host, other) = lab.second_host();
    let far = lab.world.add_vm(host, "far", &ds("ds"));
    let far = other
        .caller(far.instance_uuid, &far.config_path)
        .await
        .unwrap();
    let (none, address, two) = (given(&[]), volume("db"), call(2));
    let (a, b) = tokio::join!(
        lab.try_create(1, 1, "db", &[]),
        other.create(&far, &two, &address, &none)
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a.is_change() != b.is_change(), "{a:?} {b:?}");
    assert_eq!(a.into_inner().id, b.into_inner().id);
}

#[tokio::test(start_paused = true)]
async fn sixty_four_creators_share_a_few_ledger_writes() {
    let lab = Lab::new();
    lab.create(1, "first").await;
    let creates = (0..64).map(|n| {
        let lab = &lab;
        async move {
            lab.try_create(n % 3 + 1, rand_request(), &format!("v{n}"), &[])
                .await
        }
    });
    let made = join_all(creates).await;
    assert!(made.into_iter().all(|m| m.is_ok_and(|m| m.is_change())));
    let files = lab.world.files(&ds("ds"));
    let ledger = files.iter().find(|f| f.contains("ledger")).unwrap();
    let writes: u32 = ledger.rsplit_once('.').unwrap().1.parse().unwrap();
    assert!(writes < 20, "64 entries took {writes} writes");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_volume_leaves_nothing_and_its_name_is_free() {
    let lab = Lab::new();
    lab.create(1, "keep").await;
    let before = lab.world.files(&ds("ds"));
    let first = lab.create(1, "db").await;
    assert_eq!(lab.try_delete(1, 5, "db").await.unwrap(), first.id);
    assert_eq!(
        lab.try_delete(1, 5, "db").await.unwrap(),
        first.id,
        "a retry gets the first answer"
    );
    let strip = |files: Vec<String>| -> Vec<String> {
        files
            .into_iter()
            .filter(|f| !f.contains("ledger"))
            .collect()
    };
    assert_eq!(strip(lab.world.files(&ds("ds"))), strip(before));
    assert_eq!(
        lab.get(1, "db").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_ne!(lab.create(1, "db").await.id, first.id);
}

#[tokio::test(start_paused = true)]
async fn who_means_a_volume_that_is_gone_is_told_whose_the_name_is_and_what_to_do() {
    let lab = Lab::new();
    let meant = lab.create(1, "db").await.id;
    lab.try_delete(1, 5, "db").await.unwrap();
    let other = lab.create(1, "db").await.id;
    let (caller, call, address) = (lab.caller(1), call(6), volume("db"));
    let removed = lab.engine.delete(&caller, &call, &address, Some(meant));
    let err = removed.await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotFound);
    assert_eq!(
        err.to_string(),
        format!(
            "Volume db@ds with id {meant} not found, nothing was removed: another volume has that name by now; \
             docker volume inspect db@ds shows it, docker volume rm db@ds removes it"
        )
    );
    assert_eq!(lab.get(1, "db").await.unwrap().id, other);
}

#[tokio::test(start_paused = true)]
async fn an_attached_volume_is_not_deleted() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.attach(1, "db").await;
    let err = lab.try_delete(2, 9, "db").await.unwrap_err();
    assert!(
        err.to_string()
            .starts_with("Failed to remove volume db@ds, in use by VM = vm1."),
        "{err}"
    );
    assert!(lab.get(1, "db").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn not_found_is_said_only_when_every_datastore_was_read() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    lab.create(1, "here").await;
    let err = lab.get(1, "gone").await.unwrap_err();
    assert_eq!(
        err.to_string(),
        "Volume gone not found (looked on: ds, ds2); docker volume ls shows the volumes there are"
    );
    lab.world.reach(lab.host, &ds("ds2"), false);
    let err = lab.get(1, "gone").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable, "{err}");
    let err = lab.try_create(1, 3, "gone", &[]).await.unwrap_err();
    assert_eq!(
        err.kind(),
        ErrorKind::Unavailable,
        "a second one is never made: {err}"
    );
    assert!(lab.get(1, "here").await.is_ok(), "the others go on");
    let caller = lab.caller(1);
    let listing = lab.engine.list(&caller).await.unwrap();
    assert_eq!(
        (listing.volumes.len(), listing.unreadable),
        (1, vec![ds("ds2")])
    );
}

#[tokio::test(start_paused = true)]
async fn a_hanging_datastore_stops_only_its_own_volumes() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    lab.create(1, "here").await;
    lab.create(1, "there@ds2").await;
    lab.world.hang(lab.host, &ds("ds2"), true);
    assert!(lab.get(1, "here@ds").await.is_ok());
    let err = lab.get(1, "there@ds2").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable, "{err}");
    assert!(lab.get(1, "here").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_short_name_belongs_to_the_volume_created_under_it() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    let short = lab.create(1, "db").await;
    let long = lab.create(1, "db@ds2").await;
    assert_ne!(short.id, long.id);
    assert_eq!(lab.get(1, "db").await.unwrap().id, short.id);
    assert_eq!(lab.get(1, "db@ds2").await.unwrap().id, long.id);
    let other = lab.create(1, "only@ds2").await;
    assert_eq!(
        lab.get(1, "only").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(lab.get(1, "only@ds2").await.unwrap().id, other.id);
    let home = lab.create(1, "home@ds").await;
    assert_eq!(
        lab.get(1, "home").await.unwrap().id,
        home.id,
        "the default datastore's own"
    );
}

#[tokio::test(start_paused = true)]
async fn two_nodes_with_different_homes_and_one_short_name_make_one_volume() {
    for steps in 0..60 {
        let lab = Lab::with_datastores(&["ds", "ds2"]);
        let (host, other) = lab.second_host();
        let far = lab.world.add_vm(host, "far", &ds("ds2"));
        let far = other
            .caller(far.instance_uuid, &far.config_path)
            .await
            .unwrap();
        let address = volume("db");
        let (one, two, none) = (call(1), call(2), given(&[]));
        let caller = lab.caller(1);
        let late = async {
            // Every call to a port is one step of the other.
            for _ in 0..steps {
                yield_now().await;
            }
            other.create(&far, &two, &address, &none).await
        };
        let (a, b) = tokio::join!(lab.engine.create(&caller, &one, &address, &none), late);
        let (a, b) = (a.unwrap().into_inner(), b.unwrap().into_inner());
        assert_eq!(a.id, b.id, "after {steps} steps");
        let left = lab.engine.admin_volumes().await.unwrap().volumes;
        assert_eq!(
            left.len(),
            1,
            "after {steps} steps: nothing is left of the loser"
        );
    }
}

/// A datastore that comes from somewhere else with a volume of the same short name.
#[tokio::test(start_paused = true)]
async fn two_claimants_of_a_short_name_are_refused_by_name() {
    let elsewhere = Lab::with_datastores(&["ds2", "ds"]);
    let caller = Caller {
        home: Some(ds("ds2")),
        ..elsewhere.caller(1)
    };
    let made = elsewhere
        .engine
        .create(&caller, &call(1), &volume("db"), &given(&[]))
        .await;
    made.unwrap();
    let lab = Lab::with_datastores(&["ds"]);
    lab.create(1, "db").await;
    lab.world.add_datastore(&ds("ds2"), DatastoreKind::Vmfs);
    for file in elsewhere.world.files(&ds("ds2")) {
        if let Some(bytes) = elsewhere.world.file(&ds("ds2"), &file) {
            lab.world.put_file(&ds("ds2"), &file, &bytes);
        }
    }
    let err = lab.get(1, "db").await.unwrap_err();
    assert_eq!(
        err.to_string(),
        "volume name db is ambiguous: it exists on ds, ds2; name one in full: db@ds or db@ds2"
    );
    assert!(lab.get(1, "db@ds2").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_dockvols_without_marker_is_closed() {
    let lab = Lab::new();
    lab.world.put_file(&ds("ds"), "dockvols/old/old.vmdk", b"x");
    let err = lab.try_create(1, 1, "db", &[]).await.unwrap_err();
    assert!(
        err.to_string()
            .starts_with("Configuration not found. Please init"),
        "{err}"
    );
    let err = lab.get(1, "old").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotConfigured);
    assert!(
        !lab.world
            .files(&ds("ds"))
            .iter()
            .any(|f| f.contains(".vdvs"))
    );
    let audit = lab.world.audit(lab.host);
    assert_eq!(audit.len(), 2, "each denial is audited: {audit:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_marker_is_completed_only_while_nothing_else_is_there() {
    let lab = Lab::new();
    lab.world
        .put_file(&ds("ds"), "dockvols/.vdvs/datastore.json", b"");
    lab.create(1, "db").await;
    assert!(lab.get(1, "db").await.is_ok());
    let torn = Lab::new();
    torn.world
        .put_file(&ds("ds"), "dockvols/.vdvs/datastore.json", b"vdvs datast");
    torn.world.put_file(&ds("ds"), "dockvols/group/x.vmdk", b"");
    let err = torn.try_create(1, 1, "db", &[]).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotConfigured, "{err}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_document_is_replaced_by_the_copy_kept_here() {
    let lab = Lab::new();
    lab.create(1, "db").await;
    lab.get(1, "db").await.unwrap();
    lab.world
        .put_file(&ds("ds"), "dockvols/.vdvs/config.1", b"torn");
    advance(Duration::from_secs(2)).await;
    assert!(lab.get(1, "db").await.is_ok());
    let (host, other) = lab.second_host();
    let far = lab.world.add_vm(host, "far", &ds("ds"));
    let far = other
        .caller(far.instance_uuid, &far.config_path)
        .await
        .unwrap();
    let err = other.get(&far, &volume("db")).await.unwrap_err();
    assert_eq!(
        err.kind(),
        ErrorKind::NotConfigured,
        "a host without a copy is closed: {err}"
    );
}

#[tokio::test(start_paused = true)]
async fn limits_of_the_configuration_hold() {
    let lab = Lab::new();
    lab.create(1, "first").await;
    let mut config = AccessConfig::open_to_all();
    config.groups[0].privileges.truncate(1);
    let privilege = &mut config.groups[0].privileges[0];
    privilege.datastore = DatastoreScope::All;
    privilege.max_volume = Some("2gb").map(|t| Capacity::parse(t).unwrap());
    privilege.total_bytes = Some(4 << 30);
    rewrite_config(&lab, &config);
    advance(Duration::from_secs(2)).await;
    let err = lab
        .try_create(1, 1, "large", &[("size", "3gb")])
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::PermissionDenied, "{err}");
    lab.try_create(1, 2, "two", &[("size", "2gb")])
        .await
        .unwrap();
    lab.try_create(1, 3, "exact", &[]).await.unwrap();
    let err = lab.try_create(1, 4, "over", &[]).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::QuotaExceeded, "{err}");
    assert!(
        !lab.world
            .files(&ds("ds"))
            .iter()
            .any(|f| f.contains("over")),
        "no trace"
    );
    lab.try_delete(1, 5, "two").await.unwrap();
    lab.try_create(1, 6, "over", &[]).await.unwrap();
    config.groups.clear();
    rewrite_config(&lab, &config);
    advance(Duration::from_secs(2)).await;
    let err = lab.get(1, "first").await.unwrap_err();
    assert_eq!(
        err.kind(),
        ErrorKind::PermissionDenied,
        "without _DEFAULT access is closed: {err}"
    );
}

/// Replaces the access part of the configuration document, keeping its frame.
pub(crate) fn rewrite_config(lab: &Lab, config: &AccessConfig) {
    let path = "dockvols/.vdvs/config.1";
    let old = lab.world.file(&ds("ds"), path).unwrap();
    let text = String::from_utf8(old).unwrap();
    let (_, json) = text.split_once('\n').unwrap();
    let mut document: Value = serde_json::from_str(json).unwrap();
    document["access"] = serde_json::to_value(config).unwrap();
    let body = serde_json::to_string(&document).unwrap();
    let crc = crc32fast::hash(body.as_bytes());
    let framed = format!("vdvs config 1 {} {crc:08x}\n{body}", body.len());
    lab.world.put_file(&ds("ds"), path, framed.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_record_without_claim_and_a_newer_record_are_never_called_missing() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let group = "dockvols/11111111-1111-1111-1111-111111111111";
    let record = format!("{group}/db.{}.vdvs.3", made.id.id8());
    lab.world
        .put_file(&ds("ds"), &record, b"vdvs record 9 2 d3202f1e\n{}");
    // The checksum of `{}` computed here, so that the frame is whole.
    let crc = crc32fast::hash(b"{}");
    let newer = format!("vdvs record 9 2 {crc:08x}\n{{}}");
    lab.world.put_file(&ds("ds"), &record, newer.as_bytes());
    let err = lab.get(1, "db").await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NewerFormat, "{err}");
    assert_eq!(
        lab.try_create(1, 7, "db", &[]).await.unwrap_err().kind(),
        ErrorKind::NewerFormat
    );
}
