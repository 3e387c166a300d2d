//! What a guest and an administrator get.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::Code;
use vdvs_api::{model, v1};
use vdvs_transport::{Address, channel};

use crate::process::{LONG, Vdvsd, attach, create, head, reason};

fn hello(min: u32, max: u32) -> v1::HelloRequest {
    v1::HelloRequest {
        versions: Some(v1::VersionRange { min, max }),
        program: "a test".to_owned(),
        features: Vec::new(),
    }
}

#[tokio::test]
async fn a_guest_is_taken_for_the_vm_whose_socket_it_dials() {
    let agent = Vdvsd::start(&["a", "b"]);
    for vm in ["a", "b"] {
        let reply = agent.guest(vm).hello(hello(1, 7)).await.unwrap();
        let answer = model::HelloAnswer::try_from(reply.into_inner()).unwrap();
        assert_eq!((answer.vm_name.as_str(), answer.version), (vm, 1));
        assert_eq!(answer.host_name, "sim01");
    }
    agent.assert_quiet();
}

#[tokio::test]
async fn a_guest_of_another_age_is_told_which_side_to_upgrade() {
    let agent = Vdvsd::start(&["a"]);
    let error = agent.guest("a").hello(hello(8, 9)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.message().contains("upgrade the agent"), "{error}");
    assert_eq!(
        reason(agent.guest("a").hello(hello(8, 9)).await),
        "VERSION_MISMATCH"
    );
}

#[tokio::test]
async fn a_volume_lives_from_create_to_delete() {
    let agent = Vdvsd::start(&["a"]);
    let mut guest = agent.guest("a");
    let made = guest.create_volume(create("v")).await.unwrap().into_inner();
    assert!(made.created);
    let again = guest.create_volume(create("v")).await.unwrap().into_inner();
    assert!(!again.created, "it exists with equal options");

    let name = "v".to_owned();
    let got = guest
        .get_volume(v1::GetVolumeRequest { name: name.clone() })
        .await
        .unwrap();
    let volume = model::Volume::try_from(got.into_inner()).unwrap();
    assert_eq!(volume.full_name().to_string(), "v@vsanDatastore");
    assert_eq!(volume.capacity.bytes(), 64 << 20);
    assert_eq!(volume.created_by.as_deref(), Some("a"));

    let attached = guest.attach_volume(attach("v", 0)).await.unwrap();
    let attached = model::Attached::try_from(attached.into_inner()).unwrap();
    assert!(matches!(attached.volume.state, model::State::Attached(_)));
    let busy = guest
        .delete_volume(v1::DeleteVolumeRequest {
            head: head(),
            name: name.clone(),
            volume_id: String::new(),
        })
        .await;
    assert_eq!(reason(busy), "IN_USE");

    let detach = |epoch| v1::DetachVolumeRequest {
        head: head(),
        volume_id: attached.volume.id.to_string(),
        epoch,
    };
    let epoch = attached.epoch.number();
    let stale = guest.detach_volume(detach(epoch - 1)).await.unwrap();
    assert!(!stale.into_inner().changed);
    let detached = guest.detach_volume(detach(epoch)).await.unwrap();
    assert!(detached.into_inner().changed);

    let list = guest.list_volumes(v1::ListVolumesRequest {}).await.unwrap();
    assert_eq!(list.into_inner().encoded.len(), 1);
    let request = v1::DeleteVolumeRequest {
        head: head(),
        name: name.clone(),
        volume_id: String::new(),
    };
    guest.delete_volume(request).await.unwrap();
    let gone = guest.get_volume(v1::GetVolumeRequest { name }).await;
    assert_eq!(reason(gone), "NOT_FOUND");
    agent.assert_quiet();
}

#[tokio::test]
async fn reads_and_detaches_go_on_while_many_attaches_wait() {
    let agent = Vdvsd::start(&["a", "b"]);
    let (mut a, b) = (agent.guest("a"), agent.guest("b"));
    for name in ["held", "mine"] {
        a.create_volume(create(name)).await.unwrap();
    }
    a.attach_volume(attach("held", 0)).await.unwrap();
    let mut mine = b.clone();
    let got = mine.attach_volume(attach("mine", 0)).await.unwrap();
    let mine_attached = model::Attached::try_from(got.into_inner()).unwrap();

    let mut waiting = JoinSet::new();
    for _ in 0..40 {
        let mut b = b.clone();
        waiting.spawn(async move { b.attach_volume(attach("held", 60_000)).await });
    }
    let mut notices = a.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    let wanted = timeout(LONG, notices.message()).await.unwrap().unwrap();
    let wanted = model::Notice::read(wanted.unwrap()).unwrap();
    assert!(
        matches!(&wanted, Some(model::Notice::Wanted { by_vm, .. }) if by_vm == "b"),
        "{wanted:?}"
    );

    let read = mine.list_volumes(v1::ListVolumesRequest {});
    assert!(timeout(LONG, read).await.unwrap().is_ok());
    let detach = mine.detach_volume(v1::DetachVolumeRequest {
        head: head(),
        volume_id: mine_attached.volume.id.to_string(),
        epoch: mine_attached.epoch.number(),
    });
    assert!(timeout(LONG, detach).await.unwrap().is_ok());
    assert!(waiting.try_join_next().is_none(), "they still wait");
}

#[tokio::test]
async fn an_attach_waits_as_long_as_it_may_and_no_longer() {
    let agent = Vdvsd::start(&["a", "b"]);
    let (mut a, mut b) = (agent.guest("a"), agent.guest("b"));
    a.create_volume(create("v")).await.unwrap();
    a.attach_volume(attach("v", 0)).await.unwrap();
    assert_eq!(reason(b.attach_volume(attach("v", 0)).await), "IN_USE");
    let began = Instant::now();
    assert_eq!(reason(b.attach_volume(attach("v", 300)).await), "TIMEOUT");
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn the_administrator_has_a_socket_of_its_own_that_guests_cannot_use() {
    let agent = Vdvsd::start(&["a"]);
    let mode = agent
        .admin_socket()
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    agent.guest("a").hello(hello(1, 1)).await.unwrap();

    let status = agent.admin().status(v1::StatusRequest {}).await.unwrap();
    let status = status.into_inner();
    assert_eq!((status.host_name.as_str(), status.vms), ("sim01", 1));
    let vms = agent.admin().list_vms(v1::ListVmsRequest {}).await.unwrap();
    let vms = vms.into_inner().vms;
    assert_eq!(
        (vms[0].name.as_str(), vms[0].plugin.as_str()),
        ("a", "a test")
    );

    let address = Address::Unix(agent.socket("a"));
    let mut intruder = vdvs_api::admin_client(channel(address));
    let refused = intruder.status(v1::StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let address = Address::Unix(agent.admin_socket());
    let mut nobody = vdvs_api::volume_client(channel(address));
    let refused = nobody.hello(hello(1, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}
