//! Rows of the original's list of defects, each shown not to be ours. The names begin with the row.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::advance;
use vdvs_domain::access::{AccessConfig, DatastoreScope};
use vdvs_domain::{ErrorKind, Ownership};
use vdvs_engine::api::Caller;
use vdvs_engine::ports::Power;

use crate::consistency::{check, ledger};
use crate::support::{Lab, call, disk, ds, given, volume};
use crate::volumes::rewrite_config;

#[tokio::test(start_paused = true)]
async fn d2_a_volume_whose_disk_is_locked_elsewhere_is_not_removed_and_loses_nothing() {
    let lab = Lab::new();
    let made = lab.create(1, "db").await;
    let attached = lab.attach(1, "db").await;
    lab.world.linger_locks(&lab.vms[0], Duration::from_secs(60));
    lab.detach(1, &attached).await;
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
    let privilege = &mut config.groups[0].privileges[0];
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
