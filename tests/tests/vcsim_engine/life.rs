//! The life of volumes, step by step, with the witness's word after each.

use std::time::Duration;

use serde_json::json;
use vdvs_domain::{Error, Ownership, VolumeAddress};
use vdvs_testkit::vcsim::Mode;

use crate::rig::{LONG, Rig, disk, fresh, until};

async fn a_life(mode: Mode) {
    let Some(mut rig) = Rig::new(mode).await else {
        return;
    };
    let one = rig.agent.create(0, "one", &[("size", "20mb")]).await;
    assert_eq!(rig.files(&disk(&one)), (true, true));
    assert_eq!(
        rig.agent.get(0, "one").await.unwrap().capacity.bytes(),
        20 * 1024 * 1024
    );
    assert_eq!(rig.agent.list(1).await, ["one"]);

    let attached = rig.agent.attach(0, "one").await;
    let device = rig.device(0, &one);
    assert_eq!(device["mode"], json!("independent_persistent"), "{device}");
    assert_eq!(
        device["controller"],
        json!("ParaVirtualSCSIController"),
        "{device}"
    );
    let uuid = attached
        .disk_uuid
        .clone()
        .expect("the host knows the disk's UUID");
    assert!(
        uuid.to_lowercase().ends_with(&one.id.id8().to_string()),
        "{uuid}"
    );

    let held = rig
        .agent
        .try_attach(1, fresh(), "one", Duration::ZERO)
        .await
        .unwrap_err();
    assert!(
        held.to_string().contains(&rig.vm(0)),
        "names the holder: {held}"
    );
    assert!(!rig.is_attached(1, &one));
    let busy = rig.agent.try_delete(0, fresh(), "one").await.unwrap_err();
    assert!(matches!(busy, Error::InUse { .. }), "{busy:?}");
    assert!(rig.is_attached(0, &one));

    rig.agent.detach(0, &attached).await;
    assert!(!rig.is_attached(0, &one));
    assert_eq!(
        rig.files(&disk(&one)),
        (true, true),
        "a detach keeps the files"
    );

    let two = rig.agent.create(0, "two", &[("clone-from", "one")]).await;
    assert_eq!(two.capacity, one.capacity);
    assert_eq!(rig.files(&disk(&two)), (true, true));
    assert_eq!(rig.agent.list(0).await, ["one", "two"]);

    let again = rig.agent.attach(1, "one").await;
    assert!(rig.is_attached(1, &one));
    rig.agent.detach(1, &again).await;
    for (name, view) in [("one", &one), ("two", &two)] {
        rig.agent.try_delete(0, fresh(), name).await.unwrap();
        assert_eq!(rig.files(&disk(view)), (false, false), "{name}");
    }
    assert_eq!(rig.agent.list(0).await, [""; 0]);
    let gone = rig.agent.get(0, "one").await.unwrap_err();
    assert!(matches!(gone, Error::VolumeNotFound { .. }), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_created_attached_cloned_and_deleted_on_a_host() {
    a_life(Mode::Esx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_created_attached_cloned_and_deleted_through_a_vcenter() {
    a_life(Mode::Vcenter).await;
}

async fn power_off(mode: Mode) {
    let Some(mut rig) = Rig::new(mode).await else {
        return;
    };
    let view = rig.agent.create(0, "data", &[]).await;
    rig.agent.attach(0, "data").await;
    let vm = rig.vm(0);
    rig.witness.power(&vm, "off").unwrap();
    // Nobody asks for it: the power event is heard, and the disk taken before the VM can boot with it.
    let engine = rig.agent.engine.clone();
    let free = async || {
        let view = engine
            .get(&rig.agent.caller(1), &VolumeAddress::parse("data").unwrap())
            .await
            .unwrap();
        view.ownership == Ownership::Free
    };
    until("the release after a power-off", free).await;
    assert!(!rig.is_attached(0, &view));
    rig.agent.attach(1, "data").await;
    assert!(rig.is_attached(1, &view));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_that_is_powered_off_lets_go_of_its_volumes_on_a_host() {
    power_off(Mode::Esx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_that_is_powered_off_lets_go_of_its_volumes_through_a_vcenter() {
    power_off(Mode::Vcenter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_vm_keeps_its_volumes() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    let view = rig.agent.create(0, "data", &[]).await;
    rig.agent.attach(0, "data").await;
    let vm = rig.vm(0);
    rig.witness.power(&vm, "suspend").unwrap();
    let refused = rig
        .agent
        .try_attach(1, fresh(), "data", Duration::from_secs(2))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("suspended"), "{refused}");
    assert!(rig.is_attached(0, &view) && !rig.is_attached(1, &view));
    rig.witness.power(&vm, "off").unwrap();
    rig.agent
        .try_attach(1, fresh(), "data", LONG)
        .await
        .unwrap();
    assert!(!rig.is_attached(0, &view) && rig.is_attached(1, &view));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_starts_again_finds_what_is_attached() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    let view = rig.agent.create(0, "data", &[]).await;
    let attached = rig.agent.attach(0, "data").await;
    rig.restart_agent().await;
    let again = rig.agent.attach(0, "data").await;
    assert_eq!(
        (again.locator, again.disk_uuid),
        (attached.locator, attached.disk_uuid)
    );
    rig.device(0, &view);
    let attached = rig.agent.attach(0, "data").await;
    rig.agent.detach(0, &attached).await;
    assert!(!rig.is_attached(0, &view));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_attached_in_the_mode_it_was_created_with() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    for (name, options, mode) in [
        ("plain", &[][..], "independent_persistent"),
        (
            "snapshots",
            &[("attach-as", "persistent")][..],
            "persistent",
        ),
        (
            "reads",
            &[("access", "read-only")][..],
            "independent_nonpersistent",
        ),
    ] {
        let view = rig.agent.create(0, name, options).await;
        let read_only = name == "reads";
        let attached = rig.agent.attach_in(0, name, read_only).await;
        assert_eq!(rig.device(0, &view)["mode"], json!(mode), "{name}");
        let again = rig.agent.attach_in(0, name, read_only).await;
        assert_eq!(again.locator, attached.locator);
    }
}
