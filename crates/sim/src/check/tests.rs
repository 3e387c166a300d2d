//! The checker can fail: every promise, broken on purpose.

use std::time::Duration;

use tokio::time::{Instant, advance};
use uuid::Uuid;
use vdvs_domain::{Capacity, DatastoreName, DiskFormat, HostId, VmId};
use vdvs_engine::ports::{
    DatastoreKind, Datastores, DiskPath, DiskSpec, DsPath, Host, Power, Progress,
};
use vdvs_host_sim::{Event, World};

use super::{Checker, Found, Promise};

mod names;
mod removals;

/// One host, one datastore, VMs `a` and `b`, and the disk of volume `v`.
struct Lab {
    world: World,
    checker: Checker,
    host: HostId,
    a: VmId,
    b: VmId,
    disk: DiskPath,
}

fn ds() -> DatastoreName {
    DatastoreName::new("ds").unwrap()
}

fn path(text: &str) -> DsPath {
    DsPath::new(text).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

const FOLDER: &str = "dockvols/g";
const SPEC: DiskSpec = DiskSpec {
    capacity: Capacity::DEFAULT,
    format: DiskFormat::Thin,
    uuid: Uuid::nil(),
};

impl Lab {
    async fn new() -> Self {
        let world = World::new();
        world.add_datastore(&ds(), DatastoreKind::Vmfs);
        let host = world.add_host("esx01");
        let (a, b) = (
            world.add_vm(host, "a", &ds()),
            world.add_vm(host, "b", &ds()),
        );
        let checker = Checker::new(&world);
        let session = world.session(host);
        session.make_dir(&ds(), &path(FOLDER)).await.unwrap();
        let disk = path(&format!("{FOLDER}/v.00000001.vmdk"));
        let progress = Progress::default().into();
        session
            .create_disk(&ds(), &disk, &SPEC, &progress)
            .await
            .unwrap();
        let disk = DiskPath {
            datastore: ds(),
            path: disk,
        };
        Self {
            world,
            checker,
            host,
            a,
            b,
            disk,
        }
    }

    async fn attach(&self, vm: &VmId) {
        let session = self.world.session(self.host);
        session.attach(vm, &self.disk, false, soon()).await.unwrap();
    }

    async fn detach(&self, vm: &VmId) {
        let session = self.world.session(self.host);
        session.detach(vm, &self.disk, soon()).await.unwrap();
    }

    async fn fence(&self, vm: &VmId) {
        let session = self.world.session(self.host);
        session.fence(vm, &self.disk, soon()).await.unwrap();
    }

    async fn mount(&self, vm: &VmId) {
        self.attach(vm).await;
        self.checker.mounted(vm, &self.disk, "task");
    }

    async fn unmount(&self, vm: &VmId) {
        self.checker.unmounted(vm, &self.disk);
        self.checker.detached(vm, &self.disk, false);
        self.detach(vm).await;
    }

    fn broken(&self) -> Vec<Promise> {
        self.checker
            .violations()
            .iter()
            .map(|v| v.promise)
            .collect()
    }

    /// What is broken of how the datastore looks, in words.
    fn traces(&self) -> String {
        let all = self.checker.verdict();
        let traces = all.iter().filter(|v| v.promise == Promise::NoTrace);
        traces.map(|v| format!("{v}\n")).collect()
    }

    fn put(&self, path: &str, kind: &str, body: &str) {
        let crc = crc32fast::hash(body.as_bytes());
        let frame = format!("vdvs {kind} 1 {} {crc:08x}\n{body}", body.len());
        self.world.put_file(&ds(), path, frame.as_bytes());
    }

    /// Record, claim and ledger of `v`, as they are when all is well.
    fn settle(&self) {
        self.record(r#"{"state":"free"}"#, "null");
        let stem = format!("{FOLDER}/v.vdvs");
        self.put(&stem, "claim", r#"{"id":"1"}"#);
        self.ledger(Capacity::DEFAULT.bytes());
    }

    fn record(&self, ownership: &str, operation: &str) {
        let body = format!(
            r#"{{"id":"1","name":"v","group":"g","capacity":{},"ownership":{ownership},"operation":{operation}}}"#,
            Capacity::DEFAULT.bytes()
        );
        self.put(&format!("{FOLDER}/v.00000001.vdvs.3"), "record", &body);
    }

    /// A host writes the next version of `v`'s record.
    async fn file(&self, slot: u64, ownership: &str) {
        self.record(ownership, "null");
        let written = self
            .world
            .file(&ds(), &format!("{FOLDER}/v.00000001.vdvs.3"));
        let session = self.world.session(self.host);
        let to = path(&format!("{FOLDER}/v.00000001.vdvs.{slot}"));
        session.create_new(&ds(), &to).await.unwrap();
        session.write(&ds(), &to, &written.unwrap()).await.unwrap();
    }

    /// An owner, as records write it.
    fn attached_to(vm: &VmId) -> String {
        let owner = format!(
            r#"{{"vm":{{"id":{{"config_path":"{}"}}}}}}"#,
            vm.config_path
        );
        format!(r#"{{"state":"attached","owner":{owner}}}"#)
    }

    fn ledger(&self, bytes: u64) {
        let body = format!(r#"{{"entries":{{"1":{bytes}}}}}"#);
        self.put("dockvols/.vdvs/ledger.g.2", "ledger", &body);
    }
}

#[tokio::test(start_paused = true)]
async fn an_ordinary_life_breaks_nothing() {
    let lab = Lab::new().await;
    lab.settle();
    lab.checker.created("v", &ds());
    lab.checker.seen(&lab.a, "v");
    lab.attach(&lab.a).await;
    lab.checker.formats(&lab.a, &lab.disk, Found::Blank);
    lab.checker.mounted(&lab.a, &lab.disk, "t1");
    lab.world.write_block(&lab.a, &lab.disk, 0, b"one").unwrap();
    lab.checker.flushed(&lab.a, &lab.disk, 0, 1);
    lab.unmount(&lab.a).await;
    lab.mount(&lab.b).await;
    lab.checker.read(&lab.b, &lab.disk, 0, 1);
    assert!(lab.world.power(&lab.b, Power::Off));
    lab.detach(&lab.b).await;
    lab.checker.told_not_found(&lab.b, "w", lab.checker.asks());
    let verdict = lab.checker.verdict();
    assert!(verdict.is_empty(), "{verdict:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_writer_is_seen() {
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    // The world refuses a second one, so the world lies here.
    let event = |vm: &VmId| Event::Attached {
        vm: vm.clone(),
        host: lab.host,
        disk: lab.disk.clone(),
        read_only: false,
    };
    lab.checker.state().happened(&event(&lab.b));
    assert_eq!(lab.broken(), [Promise::OneWriter]);
}

#[tokio::test(start_paused = true)]
async fn a_write_from_a_vm_that_lost_the_disk_is_seen() {
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    let wrote = Event::Wrote {
        vm: lab.b.clone(),
        disk: lab.disk.clone(),
        block: 7,
        outcome: Ok(()),
    };
    lab.checker.state().happened(&wrote);
    assert_eq!(lab.broken(), [Promise::OneWriter]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_goes_on_while_its_vm_is_suspended_is_seen() {
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    assert!(lab.world.power(&lab.a, Power::Suspended));
    lab.attach(&lab.b).await;
    assert_eq!(lab.broken(), [Promise::OneWriter]);
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_starts_with_the_disk_of_a_suspended_one_must_not_write_it() {
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    assert!(lab.world.power(&lab.b, Power::Off));
    lab.world.plug_disk(&lab.b, &lab.disk);
    assert!(lab.world.power(&lab.a, Power::Suspended));
    assert!(lab.world.power(&lab.b, Power::On));
    assert_eq!(lab.broken(), [], "people started it");
    lab.world.write_block(&lab.b, &lab.disk, 1, b"x").unwrap();
    assert_eq!(lab.broken(), [Promise::OneWriter]);
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_by_force_may_be_in_use_until_the_next_vm_has_it() {
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    lab.file(10, &Lab::attached_to(&lab.a)).await;
    advance(Duration::from_secs(100)).await;
    lab.checker.forced("v@ds", true);
    lab.file(11, r#"{"state":"free"}"#).await;
    lab.detach(&lab.a).await;
    assert_eq!(lab.broken(), []);
    lab.mount(&lab.b).await;
    lab.detach(&lab.b).await;
    assert_eq!(lab.broken(), [Promise::DetachUnused]);
}

#[tokio::test(start_paused = true)]
async fn by_force_it_may_go_on() {
    let lab = Lab::new().await;
    lab.checker.may_fence("v@ds");
    lab.mount(&lab.a).await;
    assert!(lab.world.power(&lab.a, Power::Suspended));
    lab.attach(&lab.b).await;
    lab.checker.mounted(&lab.b, &lab.disk, "t");
    lab.fence(&lab.b).await;
    assert_eq!(lab.broken(), []);
}

#[tokio::test(start_paused = true)]
async fn less_than_was_flushed_is_seen() {
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    lab.checker.flushed(&lab.a, &lab.disk, 3, 20);
    lab.checker.read(&lab.a, &lab.disk, 3, 21);
    assert_eq!(lab.broken(), [], "later and not flushed is fine");
    lab.checker.read(&lab.a, &lab.disk, 3, 19);
    assert_eq!(lab.broken(), [Promise::NothingLost]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_removed_without_being_asked_is_seen() {
    let lab = Lab::new().await;
    lab.checker.created("v", &ds());
    let session = lab.world.session(lab.host);
    session.delete_disk(&ds(), &lab.disk.path).await.unwrap();
    assert_eq!(lab.broken(), [Promise::NothingLost]);
}

#[tokio::test(start_paused = true)]
async fn a_created_volume_without_record_or_disk_is_seen_at_the_end() {
    let lab = Lab::new().await;
    lab.settle();
    lab.checker.created("w", &ds());
    let verdict = lab.checker.verdict();
    assert_eq!(verdict.len(), 1, "{verdict:?}");
    assert_eq!(verdict[0].promise, Promise::NothingLost);
    assert!(verdict[0].text.contains("no record"), "{}", verdict[0]);
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_disk_that_is_written_is_seen() {
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    let made = Event::Made {
        disk: DiskPath {
            datastore: ds(),
            path: path(&format!("{FOLDER}/w.00000002.vmdk")),
        },
        source: Some(lab.disk.clone()),
    };
    lab.checker.state().happened(&made);
    assert_eq!(lab.broken(), [Promise::NothingLost]);
}

#[tokio::test(start_paused = true)]
async fn a_format_by_guess_is_seen() {
    for (found, used, wrong) in [
        (Found::Blank, false, false),
        (Found::OwnUnfinished, false, false),
        (Found::Foreign, false, true),
        (Found::Unknown, false, true),
        (Found::Blank, true, true),
        (Found::OwnUnfinished, true, true),
    ] {
        let lab = Lab::new().await;
        if used {
            lab.mount(&lab.a).await;
            lab.unmount(&lab.a).await;
        }
        lab.attach(&lab.b).await;
        lab.checker.formats(&lab.b, &lab.disk, found);
        let broken = lab.broken() == [Promise::NeverFormatByGuess];
        assert_eq!(broken, wrong, "{found:?}, used: {used}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_answers_and_two_volumes_of_a_name_are_seen() {
    let lab = Lab::new().await;
    lab.checker.answered(Uuid::nil(), "attached 1");
    lab.checker.answered(Uuid::nil(), "attached 1");
    assert_eq!(lab.broken(), []);
    lab.checker.answered(Uuid::nil(), "attached 2");
    assert_eq!(lab.broken(), [Promise::TwiceIsOnce]);
    let other = DatastoreName::new("other").unwrap();
    lab.checker.created("v", &ds());
    lab.checker.created("v@other", &other);
    assert_eq!(lab.broken().len(), 1, "it was asked for there");
    lab.checker.created("x", &ds());
    lab.checker.created("x", &other);
    assert_eq!(lab.broken().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_mounted_disk_that_is_detached_is_seen() {
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    lab.checker.detached(&lab.a, &lab.disk, false);
    assert_eq!(lab.broken(), [Promise::DetachUnused], "it was asked for");
    lab.detach(&lab.a).await;
    assert_eq!(lab.broken().len(), 2, "and it was done");
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_nobody_allowed_is_seen() {
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    lab.fence(&lab.a).await;
    assert_eq!(lab.broken(), [Promise::DetachUnused]);
}

#[tokio::test(start_paused = true)]
async fn what_lingers_of_a_fenced_disk_does_not_count_for_the_next_attachment() {
    let lab = Lab::new().await;
    lab.checker.may_fence("v@ds");
    lab.mount(&lab.a).await;
    lab.fence(&lab.a).await;
    lab.attach(&lab.a).await;
    lab.checker.detached(&lab.a, &lab.disk, false);
    lab.detach(&lab.a).await;
    assert_eq!(lab.broken(), []);
}

/// The same of a host that was cut off for so long that its locks are gone.
#[tokio::test(start_paused = true)]
async fn what_lingers_of_a_lapsed_disk_does_not_count_for_the_next_attachment() {
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    lab.world.cut_off(lab.host, true);
    advance(Duration::from_secs(60)).await;
    lab.world.cut_off(lab.host, false);
    lab.checker.detached(&lab.a, &lab.disk, true);
    lab.attach(&lab.a).await;
    lab.checker.detached(&lab.a, &lab.disk, false);
    assert_eq!(lab.broken(), [], "a dead device is used no more");
    lab.checker.mounted(&lab.a, &lab.disk, "task");
    lab.checker.detached(&lab.a, &lab.disk, false);
    assert_eq!(lab.broken(), [Promise::DetachUnused], "the new one is");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_gives_away_what_its_owner_writes_is_seen() {
    let free = r#"{"state":"free"}"#;
    let lab = Lab::new().await;
    lab.mount(&lab.a).await;
    lab.file(10, &Lab::attached_to(&lab.a)).await;
    lab.file(11, free).await;
    assert_eq!(
        lab.broken(),
        [],
        "what was proven a moment ago is written a moment later"
    );
    lab.file(12, &Lab::attached_to(&lab.a)).await;
    advance(Duration::from_secs(100)).await;
    lab.file(13, &Lab::attached_to(&lab.b)).await;
    assert_eq!(lab.broken(), [Promise::DetachUnused]);
    lab.unmount(&lab.a).await;
    lab.file(14, &Lab::attached_to(&lab.a)).await;
    lab.file(15, free).await;
    assert_eq!(lab.broken().len(), 1, "it has it no more");
}

#[tokio::test(start_paused = true)]
async fn every_trace_is_seen_at_the_end() {
    type Wrong = (&'static str, fn(&Lab));
    let wrong: [Wrong; 8] = [
        ("under way", |lab| {
            lab.record(r#"{"state":"free"}"#, r#"{"kind":"detach"}"#);
        }),
        ("says it is detaching", |lab| {
            lab.record(r#"{"state":"detaching"}"#, "null");
        }),
        ("and that has it not", |lab| {
            lab.record(&Lab::attached_to(&lab.a), "null");
        }),
        ("is in no ledger", |lab| {
            lab.put("dockvols/.vdvs/ledger.g.2", "ledger", r#"{"entries":{}}"#);
        }),
        ("which is not so", |lab| lab.ledger(5)),
        ("belongs to no record", |lab| {
            lab.world
                .put_file(&ds(), &format!("{FOLDER}/x.00000009-flat.vmdk"), b"");
        }),
        ("claims a name for nobody", |lab| {
            lab.put(&format!("{FOLDER}/x.vdvs"), "claim", r#"{"id":"9"}"#);
        }),
        ("holds no record", |lab| {
            lab.world.put_file(
                &ds(),
                &format!("{FOLDER}/x.00000009.vdvs.1"),
                b"vdvs record",
            );
        }),
    ];
    for (words, break_it) in wrong {
        let lab = Lab::new().await;
        lab.settle();
        assert_eq!(lab.traces(), "");
        break_it(&lab);
        assert!(lab.traces().contains(words), "{words}: {}", lab.traces());
    }
    let lab = Lab::new().await;
    lab.settle();
    lab.attach(&lab.b).await;
    assert!(lab.traces().contains("b has [ds]"), "{}", lab.traces());
}
