//! Clones, and disks that take long to make.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use uuid::Uuid;
use vdvs_domain::{Error, ErrorKind, FilesystemState, Ownership};
use vdvs_engine::api::{Outcome, VolumeView};
use vdvs_engine::ports::Power;

use crate::consistency::{check, ledger};
use crate::support::{Lab, call_for, disk, ds, given, rand_request, root, until, volume};

const CLONE: [(&str, &str); 1] = [("clone-from", "src")];

/// A formatted volume `src` that holds something and is nobody's.
async fn source(lab: &Lab, options: &[(&str, &str)]) -> VolumeView {
    let made = lab.try_create(1, rand_request(), "src", options).await;
    let src = made.unwrap().into_inner();
    let attached = lab.attach(1, "src").await;
    let (id, epoch, caller) = (src.id, attached.epoch, lab.caller(1));
    let (begin, finish) = (call_for(rand_request(), 60), call_for(rand_request(), 60));
    let uuid = lab.engine.begin_format(&caller, &begin, id, epoch);
    let uuid = uuid.await.unwrap();
    let finished = lab.engine.finish_format(&caller, &finish, id, epoch, uuid);
    finished.await.unwrap();
    lab.detach(1, &attached).await;
    lab.world.write_disk(&disk(&src), 7);
    lab.get(1, "src").await.unwrap()
}

async fn clone(lab: &Lab, name: &str, options: &[(&str, &str)]) -> Result<VolumeView, Error> {
    let made = lab.try_create(1, rand_request(), name, options).await;
    made.map(Outcome::into_inner)
}

fn uuid_of(view: &VolumeView) -> Option<Uuid> {
    match view.filesystem.state {
        FilesystemState::Ready { uuid } => Some(uuid),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_has_its_sources_content_file_system_and_options() {
    let lab = Lab::new();
    let options = [("size", "2gb"), ("fstype", "xfs"), ("access", "read-only")];
    let src = source(&lab, &options).await;
    let copy = clone(
        &lab,
        "copy",
        &[("clone-from", "src"), ("attach-as", "persistent")],
    )
    .await;
    let copy = copy.unwrap();
    assert_eq!(lab.world.read_disk(&disk(&copy)), Some(7));
    assert_eq!(copy.capacity, src.capacity);
    assert_eq!(uuid_of(&copy), uuid_of(&src));
    assert!(uuid_of(&copy).is_some());
    let (of_copy, of_src) = (&copy.options, &src.options);
    assert_eq!(of_copy.clone_from.as_deref(), Some("src@ds"));
    assert_eq!(
        (&of_copy.fstype, of_copy.access),
        (&of_src.fstype, of_src.access)
    );
    assert_ne!(of_copy.attach_as, of_src.attach_as, "what is given counts");
    let after = lab.get(1, "src").await.unwrap();
    assert_eq!(after.ownership, Ownership::Free);
    assert!(
        after.epoch > src.epoch,
        "a late message about the source is recognised"
    );
    assert_eq!(ledger(&lab).len(), 2, "clones count");
    check(&lab, "after a clone").await;
    let asked_again = lab.try_create(1, rand_request(), "copy", &CLONE).await;
    assert!(matches!(asked_again, Ok(Outcome::Unchanged(_))));
    lab.attach(1, "copy").await;
    lab.attach(2, "src").await;
}

#[tokio::test(start_paused = true)]
async fn a_clone_crosses_datastores_and_a_placed_volume_keeps_its_short_name() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    source(&lab, &[]).await;
    let copy = clone(
        &lab,
        "copy",
        &[("clone-from", "src@ds"), ("VolumeStore", "ds2")],
    )
    .await;
    let copy = copy.unwrap();
    assert_eq!(
        (&copy.datastore, lab.world.read_disk(&disk(&copy))),
        (&ds("ds2"), Some(7))
    );
    assert_eq!(lab.get(1, "copy").await.unwrap().id, copy.id);
    // A clone of the clone, found by its short name, on the default datastore.
    let second = clone(&lab, "second", &[("clone-from", "copy")])
        .await
        .unwrap();
    assert_eq!(second.options.clone_from.as_deref(), Some("copy@ds2"));
    assert_eq!(second.datastore, ds("ds"));
    let elsewhere = clone(&lab, "copy", &[("VolumeStore", "ds")])
        .await
        .unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::AlreadyExists);
    assert!(
        elsewhere
            .to_string()
            .contains("VolumeStore: asked ds, has ds2"),
        "{elsewhere}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_read_refuses_at_once_and_says_how_far_the_clone_is() {
    let lab = Lab::new();
    let src = source(&lab, &[]).await;
    lab.world.hold_work(Some(42));
    let caller = lab.caller(1);
    let (asked, options, patient) = (volume("copy"), given(&CLONE), call_for(1, 600));
    let making = lab.engine.create(&caller, &patient, &asked, &options);
    let looking = async {
        until("the copy", async || {
            lab.get(1, "src").await.unwrap().ownership.name() == "reading"
        })
        .await;
        sleep(Duration::from_millis(50)).await;
        let far = "in use by its clone copy@ds, which is being cloned from src@ds: 42 % copied.";
        let wait = Duration::from_secs(100);
        let attach = timeout(Duration::from_secs(1), lab.try_attach(2, 50, "src", wait)).await;
        let attach = attach.expect("no wait").unwrap_err();
        assert_eq!(attach.kind(), ErrorKind::InUse);
        let text = attach.to_string();
        assert!(
            text.starts_with(&format!("Failed to attach volume src@ds, {far}")),
            "{text}"
        );
        let text = lab.try_delete(2, 51, "src").await.unwrap_err().to_string();
        assert!(
            text.starts_with(&format!("Failed to remove volume src@ds, {far}")),
            "{text}"
        );
        let (user, taking) = (root(), call_for(52, 60));
        let taken = lab.engine.admin_take(&user, &taking, "src", true).await;
        let text = taken.unwrap_err().to_string();
        assert!(
            text.starts_with(&format!("Failed to detach volume src@ds, {far}")),
            "{text}"
        );
        let other = clone(&lab, "other", &CLONE).await.unwrap_err().to_string();
        assert!(
            other.starts_with(&format!("Failed to clone volume src@ds, {far}")),
            "{other}"
        );
        let waiting = lab.get(2, "src").await.unwrap().waiting.unwrap();
        assert!(waiting.contains("42 % copied"), "{waiting}");
        let shown = lab.engine.admin_inspect("copy").await.unwrap().volume;
        let attention = shown.attention.unwrap();
        assert_eq!(attention, "being cloned from src@ds: 42 % copied");
        // The sweep leaves both alone, however long it takes.
        sleep(Duration::from_secs(120)).await;
        lab.engine.sweep().await;
        assert_eq!(lab.get(1, "src").await.unwrap().ownership.name(), "reading");
        lab.world.hold_work(None);
    };
    let (made, ()) = tokio::join!(making, looking);
    assert_eq!(
        lab.world.read_disk(&disk(&made.unwrap().into_inner())),
        Some(7)
    );
    lab.attach(2, "src").await;
    assert_eq!(lab.world.writers(&disk(&src)), ["vm2"]);
    check(&lab, "after the clone").await;
}

#[tokio::test(start_paused = true)]
async fn an_attached_source_is_refused_naming_who_has_it() {
    let lab = Lab::new();
    source(&lab, &[]).await;
    lab.attach(2, "src").await;
    let why = clone(&lab, "copy", &CLONE).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::InUse);
    let text = why.to_string();
    let wanted = "Failed to clone volume src@ds, in use by VM = vm2. It is attached to VM vm2 on host esx01 since ";
    assert!(text.starts_with(wanted), "{text}");
    check(&lab, "nothing is left of the clone").await;
    let none = lab.get(1, "copy").await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_long_create_goes_on_without_its_caller_and_a_retry_joins_it() {
    let lab = Lab::new();
    lab.world.hold_work(Some(42));
    let options = given(&[("diskformat", "eagerzeroedthick")]);
    let (caller, asked) = (lab.caller(1), volume("big"));
    let create = |n, secs| {
        let call = call_for(n, secs);
        let (lab, caller, asked, options) = (&lab, &caller, &asked, &options);
        async move { lab.engine.create(caller, &call, asked, options).await }
    };
    let first = create(1, 10).await.unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Timeout);
    assert_eq!(
        first.to_string(),
        "volume big@ds is being created: 42 % written; that goes on without its caller. Ask again with the same options to join it, or see: vdvs volume inspect big@ds"
    );
    let second = create(1, 10).await.unwrap_err();
    assert_eq!(
        second.to_string(),
        first.to_string(),
        "a retry joins and hears the same"
    );
    let gone = lab.get(1, "big").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "it is no volume yet");
    let listing = lab.engine.admin_volumes().await.unwrap();
    let shown: Vec<_> = listing
        .volumes
        .iter()
        .map(|v| v.attention.clone())
        .collect();
    assert_eq!(shown, [Some("being created: 42 % written".to_owned())]);
    let same_request = create(1, 600);
    let other_request = create(2, 600);
    let release = async {
        sleep(Duration::from_secs(30)).await;
        lab.world.hold_work(None);
    };
    let (same, other, ()) = tokio::join!(same_request, other_request, release);
    let (same, other) = (same.unwrap(), other.unwrap());
    assert!(matches!(same, Outcome::Created(_)), "its own result");
    assert!(
        matches!(other, Outcome::Unchanged(_)),
        "somebody else's volume with equal options"
    );
    assert_eq!(same.into_inner().id, other.into_inner().id);
    check(&lab, "after the create").await;
}

#[tokio::test(start_paused = true)]
async fn an_administrator_who_removes_what_is_being_made_stops_it() {
    let lab = Lab::new();
    source(&lab, &[]).await;
    lab.world.hold_work(Some(1));
    let caller = lab.caller(1);
    let (asked, options, patient) = (volume("copy"), given(&CLONE), call_for(1, 600));
    let making = lab.engine.create(&caller, &patient, &asked, &options);
    let removing = async {
        until("the copy", async || {
            lab.engine.admin_inspect("copy").await.is_ok()
        })
        .await;
        sleep(Duration::from_secs(1)).await;
        lab.engine
            .admin_remove(&root(), &call_for(2, 60), "copy")
            .await
            .unwrap();
    };
    let (made, _) = tokio::join!(making, removing);
    let why = made.unwrap_err();
    assert!(
        why.to_string().starts_with("volume copy@ds was not made"),
        "{why}"
    );
    assert_eq!(check(&lab, "after the end").await.len(), 1);
    lab.attach(1, "src").await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stops_takes_back_what_it_was_making() {
    let lab = Lab::new();
    lab.world.hold_work(Some(10));
    let options = [("diskformat", "eagerzeroedthick")];
    let making = lab.try_create(1, 1, "big", &options);
    let stopping = async {
        sleep(Duration::from_secs(5)).await;
        timeout(Duration::from_secs(5), lab.engine.drain())
            .await
            .unwrap();
    };
    let (made, ()) = tokio::join!(making, stopping);
    assert!(
        made.unwrap_err()
            .to_string()
            .contains("the agent is stopping; nothing is left")
    );
    assert!(check(&lab, "after the stop").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_write_to_the_source_meanwhile_spoils_the_clone_and_nothing_else() {
    let lab = Lab::new();
    let src = source(&lab, &[]).await;
    lab.world.hold_work(Some(10));
    let making = clone(&lab, "copy", &CLONE);
    let writing = async {
        sleep(Duration::from_secs(2)).await;
        lab.world.write_disk(&disk(&src), 8);
        lab.world.hold_work(None);
    };
    let (made, ()) = tokio::join!(making, writing);
    assert_eq!(made.unwrap_err().kind(), ErrorKind::InUse);
    assert_eq!(check(&lab, "after the failure").await.len(), 1);
    lab.attach(1, "src").await;
}

#[tokio::test(start_paused = true)]
async fn another_host_frees_a_source_whose_reader_died_and_spares_one_that_lives() {
    let mut lab = Lab::new();
    source(&lab, &[]).await;
    let (far_host, far) = lab.second_host();
    let far_vm = lab.world.add_vm(far_host, "far", &ds("ds"));
    let caller = far
        .caller(far_vm.instance_uuid, &far_vm.config_path)
        .await
        .unwrap();
    let attach = async |n| {
        let call = call_for(n, 60);
        let wait = Duration::ZERO;
        far.attach(&caller, &call, &volume("src"), false, wait)
            .await
            .map(drop)
    };
    lab.world.hold_work(Some(42));
    let died = async {
        let making = clone(&lab, "copy", &CLONE);
        tokio::select! {
            _ = making => panic!("held"),
            () = sleep(Duration::from_secs(65)) => {}
        }
        for n in 0..4 {
            let refused = attach(n).await.unwrap_err().to_string();
            assert!(
                refused.contains("42 % copied"),
                "its record tells other hosts: {refused}"
            );
            sleep(Duration::from_secs(30)).await;
        }
    };
    died.await;
    assert_eq!(lab.get(1, "src").await.unwrap().ownership.name(), "reading");
    // The whole host is gone.
    lab.session.crash();
    for vm in &lab.vms {
        lab.world.power(vm, Power::Off);
    }
    attach(90).await.unwrap_err();
    sleep(Duration::from_secs(70)).await;
    attach(91).await.unwrap();
    // What is left of the clone goes when its host is back.
    lab.world.hold_work(None);
    lab.restart();
    lab.engine.sweep().await;
    let volumes = lab.engine.admin_volumes().await.unwrap().volumes;
    let names: Vec<_> = volumes.iter().map(|v| v.view.name.as_str()).collect();
    assert_eq!(names, ["src"]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_long_create_on_another_datastore_claims_nothing() {
    let lab = Lab::with_datastores(&["ds", "ds2"]);
    lab.world.hold_work(Some(42));
    let thick = [("diskformat", "eagerzeroedthick"), ("VolumeStore", "ds2")];
    let making = lab.try_create(1, 1, "big", &thick);
    let waiting = async {
        sleep(Duration::from_secs(1)).await;
        let (caller, asked, none) = (lab.caller(2), volume("big"), given(&[]));
        let before = lab.world.files(&ds("ds"));
        let call = call_for(2, 10);
        let late = lab.engine.create(&caller, &call, &asked, &none).await;
        let text = late.unwrap_err().to_string();
        assert!(text.contains("42 % written"), "{text}");
        let mine = |files: Vec<String>| files.into_iter().filter(|f| f.contains("/big.")).count();
        assert_eq!(mine(before), mine(lab.world.files(&ds("ds"))));
        lab.world.hold_work(None);
    };
    let (made, ()) = tokio::join!(making, waiting);
    let made = made.unwrap().into_inner();
    assert_eq!(lab.get(2, "big").await.unwrap().id, made.id);
}
