//! Volumes of the archived system, found in place.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;
use vdvs_domain::{Capacity, DiskFormat, Error, FilesystemState, GroupId, Layout};
use vdvs_engine::api::Outcome;
use vdvs_engine::ports::{Datastores, DiskPath, DiskSpec, DsPath};

use vdvs_host_sim::{Fault, Session, When, World};

use crate::support::{Lab, call, ds, rand_request, volume};

const CONTENT: u64 = 4711;

fn path(file: &str) -> String {
    format!("dockvols/{}/{file}", GroupId::DEFAULT)
}

fn disk_of(name: &str) -> DiskPath {
    DiskPath {
        datastore: ds("ds"),
        path: DsPath::new(&path(&format!("{name}.vmdk"))).unwrap(),
    }
}

/// A datastore in use, and on it a volume that the original made, with data.
async fn lab_with_original(name: &str) -> Lab {
    let lab = Lab::new();
    lab.create(1, "ours").await;
    plant(&lab, name).await;
    lab
}

pub(crate) async fn plant(lab: &Lab, name: &str) {
    plant_on(&lab.world, &lab.session, name).await;
}

/// A volume of the original, of 300 MiB.
pub(crate) async fn plant_on(world: &World, session: &Session, name: &str) {
    let disk = disk_of(name);
    let spec = DiskSpec {
        capacity: Capacity::parse("300mb").unwrap(),
        format: DiskFormat::Thin,
        uuid: Uuid::from_u128(7),
    };
    let quiet = Default::default();
    let made = session.create_disk(&disk.datastore, &disk.path, &spec, &quiet);
    made.await.unwrap();
    world.write_disk(&disk, CONTENT);
    let metadata = format!("{name}-4b88db79778570b6.vmfd");
    let descriptor = format!(
        "# Disk DescriptorFile\nddb.uuid = \"60 00 C2 9e 5b 0a 63 0d-0f 9b 8b 1d 2b 60 c4 5e\"\n\
         ddb.sidecars = \"docker-volume-vsphere,{metadata}\"\n"
    );
    world.put_file(&ds("ds"), disk.path.as_str(), descriptor.as_bytes());
    let text = r#"{"status":"detached","volOpts":{"diskformat":"thin","fstype":"xfs"},"created-by":"worker1","created":"Tue Jun 20 08:32:19 2017"}"#;
    world.put_file(&ds("ds"), &path(&metadata), text.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_the_original_is_listed_and_shown_without_writing_a_file() {
    let lab = lab_with_original("db").await;
    let before = lab.world.files(&ds("ds"));
    let view = lab.get(2, "db").await.unwrap();
    assert_eq!(view.capacity.bytes(), 300 << 20);
    assert_eq!(view.layout, Layout::Root);
    assert_eq!(view.filesystem.state, FilesystemState::Unknown);
    assert_eq!(view.filesystem.fstype.as_str(), "xfs");
    assert_eq!(view.created.at.millis(), 1_497_947_539_000);
    assert_eq!(view.created.by.unwrap().name, "worker1");
    sleep(Duration::from_secs(10)).await;
    let listed = lab.engine.list(&lab.caller(1)).await.unwrap().volumes;
    let names: Vec<_> = listed.iter().map(|v| (v.name.as_str(), v.id)).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&("db", view.id)), "{names:?}");
    assert_eq!(lab.world.files(&ds("ds")), before);
}

#[tokio::test(start_paused = true)]
async fn its_first_use_makes_a_record_and_leaves_disk_and_metadata_alone() {
    let lab = lab_with_original("db").await;
    let metadata = lab.world.file(&ds("ds"), &path("db-4b88db79778570b6.vmfd"));
    let seen = lab.get(1, "db").await.unwrap();
    let attached = lab.attach(1, "db").await;
    assert_eq!(attached.view.id, seen.id);
    assert_eq!(lab.world.writers(&disk_of("db")), ["vm1"]);
    assert_eq!(lab.world.read_disk(&disk_of("db")), Some(CONTENT));
    assert_eq!(
        lab.world.file(&ds("ds"), &path("db-4b88db79778570b6.vmfd")),
        metadata
    );
    lab.detach(1, &attached).await;
    // A volume like any other, also for another agent, and after a restart.
    let (host, other) = lab.second_host();
    let vm = lab.world.add_vm(host, "far", &ds("ds"));
    let caller = other
        .caller(vm.instance_uuid, &vm.config_path)
        .await
        .unwrap();
    let (call, name) = (call(rand_request()), volume("db"));
    let far = other.attach(&caller, &call, &name, false, Duration::ZERO);
    assert_eq!(far.await.unwrap().view.id, seen.id);
    let refused = lab.try_delete(1, rand_request(), "db").await.unwrap_err();
    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn it_is_never_formatted() {
    let lab = lab_with_original("db").await;
    let attached = lab.attach(1, "db").await;
    let (caller, id) = (lab.caller(1), attached.view.id);
    let call = call(rand_request());
    let begun = lab.engine.begin_format(&caller, &call, id, attached.epoch);
    assert!(begun.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_create_of_its_name_finds_it() {
    let lab = lab_with_original("db").await;
    let same = lab.try_create(1, rand_request(), "db", &[("fstype", "xfs")]);
    assert!(matches!(same.await, Ok(Outcome::Unchanged(_))));
    let other = lab.try_create(1, rand_request(), "db", &[("size", "1gb")]);
    assert!(matches!(other.await, Err(Error::AlreadyExists { .. })));
    assert_eq!(lab.world.read_disk(&disk_of("db")), Some(CONTENT));
}

#[tokio::test(start_paused = true)]
async fn deleting_it_removes_disk_and_metadata_and_nothing_of_its_neighbour() {
    let lab = lab_with_original("db").await;
    plant(&lab, "db2").await;
    lab.try_delete(1, rand_request(), "db").await.unwrap();
    assert_eq!(lab.world.read_disk(&disk_of("db")), None);
    assert_eq!(lab.world.read_disk(&disk_of("db2")), Some(CONTENT));
    let files = lab.world.files(&ds("ds"));
    let of = |name: &str| files.iter().filter(|f| f.contains(name)).count();
    assert_eq!(of("db-4b88db79778570b6.vmfd"), 0, "{files:?}");
    assert_eq!(of("db2-4b88db79778570b6.vmfd"), 1, "{files:?}");
    assert!(lab.get(1, "db").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn one_pinned_by_a_snapshot_of_a_vm_is_refused_with_the_reason() {
    let lab = lab_with_original("db").await;
    lab.world.put_file(
        &ds("ds"),
        &path("db-000001.vmdk"),
        b"# Disk DescriptorFile\n",
    );
    let refused = lab
        .try_attach(1, rand_request(), "db", Duration::ZERO)
        .await;
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("snapshot") && text.contains("db-000001.vmdk"),
        "{text}"
    );
    assert!(lab.world.writers(&disk_of("db")).is_empty());
}

/// What a crash in the middle of an adoption leaves must never be taken for the leftover of a create: its disk holds
/// somebody's data.
#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_in_an_adoption_costs_no_data() {
    for when in [When::Before, When::Half, When::After] {
        let mut step = 1;
        while !crashed_attach_loses_nothing(step, when).await {
            step += 1;
        }
        assert!(step > 20, "only {step} calls were hit");
    }
}

/// `true`: the attach ended before the crash.
async fn crashed_attach_loses_nothing(step: u64, when: When) -> bool {
    let mut lab = lab_with_original("db").await;
    lab.session.plan(step, Fault::Crash(when));
    let dies = lab.session.clone();
    let attach = lab.try_attach(1, rand_request(), "db", Duration::ZERO);
    let finished = tokio::select! {
        done = attach => done.is_ok(),
        () = dies.died() => false,
    };
    lab.restart();
    let sweeps = lab.reconcile();
    sleep(Duration::from_secs(130)).await;
    drop(sweeps);
    let at = format!("{when:?} call {step}");
    let id = lab.get(1, "db").await.unwrap().id;
    assert_eq!(lab.world.read_disk(&disk_of("db")), Some(CONTENT), "{at}");
    let again = lab.try_attach(1, rand_request(), "db", Duration::from_secs(20));
    assert_eq!(again.await.unwrap().view.id, id, "{at}");
    finished
}

#[tokio::test(start_paused = true)]
async fn two_hosts_that_adopt_one_at_once_mean_the_same_volume() {
    let lab = lab_with_original("db").await;
    let (host, other) = lab.second_host();
    let vm = lab.world.add_vm(host, "far", &ds("ds"));
    let far = other
        .caller(vm.instance_uuid, &vm.config_path)
        .await
        .unwrap();
    let (name, wait) = (volume("db"), Duration::ZERO);
    let (here_call, far_call) = (call(rand_request()), call(rand_request()));
    let here_caller = lab.caller(1);
    let here = lab
        .engine
        .attach(&here_caller, &here_call, &name, false, wait);
    let there = other.attach(&far, &far_call, &name, false, wait);
    let (here, there) = tokio::join!(here, there);
    assert!(here.is_ok() != there.is_ok());
    assert_eq!(lab.world.writers(&disk_of("db")).len(), 1);
    let same = lab.try_create(1, rand_request(), "db", &[]).await.unwrap();
    assert!(!same.is_change());
}

/// Files of the volume beside its disk and metadata.
fn ours_of(lab: &Lab, name: &str) -> Vec<String> {
    let start = path(&format!("{name}."));
    let files = lab.world.files(&ds("ds")).into_iter();
    let ours = files.filter(|f| f.starts_with(&start) && f.contains(".vdvs"));
    ours.collect()
}

/// Attach, until the agent dies in call `step`; then another one sweeps for a while. `true`: it did not die.
async fn crashed_and_swept(lab: &mut Lab, step: u64, when: When, again: bool) -> bool {
    lab.session.plan(step, Fault::Crash(when));
    let dies = lab.session.clone();
    let attach = lab.try_attach(1, 77, "db", Duration::ZERO);
    let finished = tokio::select! {
        done = attach => done.is_ok(),
        () = dies.died() => false,
    };
    lab.restart();
    if again {
        lab.try_attach(1, 77, "db", Duration::ZERO).await.unwrap();
    }
    let sweeps = lab.reconcile();
    sleep(Duration::from_secs(200)).await;
    drop(sweeps);
    finished
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_in_an_adoption_leaves_all_of_it_or_nothing() {
    for (when, again) in [
        (When::Half, false),
        (When::After, false),
        (When::Half, true),
        (When::After, true),
    ] {
        let mut step = 0;
        loop {
            let mut lab = lab_with_original("db").await;
            let finished = crashed_and_swept(&mut lab, step, when, again).await;
            let at = format!("{when:?} call {step}, repeated: {again}");
            let ours = ours_of(&lab, "db");
            let claim = path("db.vdvs");
            match ours.as_slice() {
                [] => assert!(!again, "{at}"),
                // The record, perhaps with a change of it that nobody finished; and the claim.
                [record, .., last] => {
                    assert!(record.contains("db.00000000.vdvs."), "{at}: {ours:?}");
                    assert_eq!(*last, claim, "{at}");
                    let claim = lab.world.file(&ds("ds"), &claim).unwrap();
                    assert!(claim.starts_with(b"vdvs claim 1 "), "{at}: it is not whole");
                }
                left => panic!("{at}: {left:?}"),
            }
            let listed = lab.engine.list(&lab.caller(1)).await.unwrap().volumes;
            let named = listed.iter().filter(|v| v.name.as_str() == "db").count();
            assert_eq!(named, 1, "{at}");
            step += 1;
            if finished {
                break;
            }
        }
        assert!(step > 20, "only {step} calls were hit");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_another_host_removed_is_listed_nowhere() {
    let lab = lab_with_original("db").await;
    let (_, other) = lab.second_host();
    let names = async |engine: &vdvs_engine::Engine| {
        let listed = engine.admin_volumes().await.unwrap().volumes;
        listed
            .iter()
            .filter(|v| v.view.name.as_str() == "db")
            .count()
    };
    assert_eq!((names(&lab.engine).await, names(&other).await), (1, 1));
    lab.try_delete(1, rand_request(), "db").await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!((names(&lab.engine).await, names(&other).await), (0, 0));
}
