//! A guest whose root is hostile: it says its requests again, forges epochs, sends more metadata than anybody needs, and
//! never reads what it is answered. `docs/threat-model.md` names these tests.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request};
use uuid::Uuid;
use vdvs_api::v1::volume_service_client::VolumeServiceClient;
use vdvs_api::{RemoteError, model, v1};
use vdvs_domain::ErrorKind;

use crate::process::{LONG, Vdvsd, attach, create, head};

type Guest = VolumeServiceClient<Channel>;

async fn volumes_of(guest: &mut Guest) -> BTreeMap<String, model::Volume> {
    let listed = guest.list_volumes(v1::ListVolumesRequest {}).await.unwrap();
    let volumes = listed.into_inner().volumes().unwrap().into_iter();
    let volumes = volumes.map(|v| model::Volume::try_from(v).unwrap());
    volumes.map(|v| (v.full_name().to_string(), v)).collect()
}

fn detach(volume: &str, epoch: u64) -> v1::DetachVolumeRequest {
    v1::DetachVolumeRequest {
        head: head(),
        volume_id: volume.to_owned(),
        epoch,
    }
}

#[tokio::test]
async fn a_forged_epoch_moves_nothing_neither_of_ones_own_nor_of_anothers() {
    let agent = Vdvsd::start(&["a", "b"]);
    let (mut owner, mut thief) = (agent.guest("a"), agent.guest("b"));
    owner.create_volume(create("v")).await.unwrap();
    let got = owner.attach_volume(attach("v", 0)).await.unwrap();
    let got = model::Attached::try_from(got.into_inner()).unwrap();
    let (id, epoch) = (got.volume.id.to_string(), got.epoch.number());
    let before = volumes_of(&mut owner).await;
    for forged in [0, epoch - 1, epoch + 1, epoch + 1000, u64::MAX] {
        for guest in [&mut owner, &mut thief] {
            if let Ok(answer) = guest.detach_volume(detach(&id, forged)).await {
                assert!(!answer.into_inner().changed, "epoch {forged} detached it");
            }
            let format = v1::BeginFormatRequest {
                head: head(),
                volume_id: id.clone(),
                epoch: forged,
            };
            assert!(guest.begin_format(format).await.is_err(), "epoch {forged}");
            let done = v1::FinishFormatRequest {
                head: head(),
                volume_id: id.clone(),
                epoch: forged,
                filesystem_uuid: Uuid::from_u128(7).to_string(),
            };
            assert!(guest.finish_format(done).await.is_err(), "epoch {forged}");
        }
    }
    assert_eq!(volumes_of(&mut owner).await, before);
    let right = owner.detach_volume(detach(&id, epoch)).await.unwrap();
    assert!(right.into_inner().changed, "the true one still counts");
    agent.assert_quiet();
}

#[tokio::test]
async fn a_replayed_request_gets_the_first_answer_or_none_and_never_another_vm() {
    let agent = Vdvsd::start(&["a", "b"]);
    let (mut owner, mut other) = (agent.guest("a"), agent.guest("b"));
    let (made, taken) = (create("v"), attach("v", 0));
    owner.create_volume(made.clone()).await.unwrap();
    let first = owner.attach_volume(taken.clone()).await.unwrap();
    let first = model::Attached::try_from(first.into_inner()).unwrap();
    let again = owner.attach_volume(taken.clone()).await.unwrap();
    let again = model::Attached::try_from(again.into_inner()).unwrap();
    assert_eq!(
        again.epoch, first.epoch,
        "the same request, the same answer"
    );
    let id = first.volume.id.to_string();
    // Heard on the wire and said by another VM, word for word.
    let stolen = other.attach_volume(taken.clone()).await.unwrap_err();
    assert!(!RemoteError::from(stolen).transport);
    let gone = detach(&id, first.epoch.number());
    owner.detach_volume(gone.clone()).await.unwrap();
    let next = other.attach_volume(attach("v", 0)).await.unwrap();
    let next = model::Attached::try_from(next.into_inner()).unwrap();
    // What the former owner said before comes again, late.
    let late = owner.detach_volume(gone).await.unwrap();
    assert!(!late.into_inner().changed);
    let late = owner.attach_volume(taken).await;
    let late = RemoteError::from(late.unwrap_err());
    assert!(
        matches!(late.kind, ErrorKind::Superseded | ErrorKind::InUse),
        "{late:?}"
    );
    let mut changed = made;
    changed.name = "w".to_owned();
    drop(owner.create_volume(changed).await);
    let now = volumes_of(&mut other).await;
    let volume = now.values().find(|v| v.id == next.volume.id).unwrap();
    assert_eq!(volume.epoch, next.epoch, "the next owner keeps it");
    agent.assert_quiet();
}

#[tokio::test]
async fn giant_metadata_is_refused_and_hurts_nobody() {
    let agent = Vdvsd::start(&["a", "b"]);
    agent.guest("b").create_volume(create("w")).await.unwrap();
    let long = "x".repeat(512 * 1024);
    for (count, value) in [(1, long.as_str()), (4000, "0123456789abcdef")] {
        let mut request = Request::new(v1::ListVolumesRequest {});
        for n in 0..count {
            let key = MetadataKey::from_bytes(format!("x-{n}").as_bytes()).unwrap();
            let value = MetadataValue::try_from(value).unwrap();
            request.metadata_mut().insert(key, value);
        }
        let refused = timeout(LONG, agent.guest("a").list_volumes(request)).await;
        let refused = refused.unwrap().unwrap_err();
        assert!(RemoteError::from(refused).transport, "a use case saw it");
    }
    for vm in ["a", "b"] {
        let name = format!("after-{vm}");
        let mut guest = agent.guest(vm);
        let made = timeout(LONG, guest.create_volume(create(&name)));
        made.await.unwrap().unwrap();
    }
    agent.assert_quiet();
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Requests for the whole list, one after the other, on a connection whose owner takes no byte of an answer.
fn endless_questions(count: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS: the window of each stream is 0.
    bytes.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let mut headers = vec![0x83, 0x86];
    for (name, value) in [
        (":path", "/vdvs.v1.VolumeService/ListVolumes"),
        (":authority", "agent"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).unwrap());
            headers.extend(text.as_bytes());
        }
    }
    for number in 0..count {
        let stream = number * 2 + 1;
        bytes.extend(frame(1, 4, stream, &headers));
        bytes.extend(frame(0, 1, stream, &[0; 5]));
    }
    bytes
}

#[tokio::test]
async fn a_guest_that_never_reads_its_answers_costs_nobody_else_anything() {
    let agent = Vdvsd::start(&["a", "b"]);
    for n in 0..50 {
        let name = format!("v{n}");
        agent.guest("a").create_volume(create(&name)).await.unwrap();
    }
    let questions = endless_questions(3000);
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut stream = UnixStream::connect(agent.socket("a")).await.unwrap();
        // It is not read to the end: who is not heard is not listened to either.
        let written = timeout(Duration::from_millis(500), stream.write_all(&questions));
        drop(written.await);
        deaf.push(stream);
    }
    let began = Instant::now();
    let mut neighbour = agent.guest("b");
    for n in 0..20 {
        let name = format!("w{n}");
        let made = timeout(LONG, neighbour.create_volume(create(&name)));
        made.await.unwrap().unwrap();
    }
    assert!(began.elapsed() < LONG, "the neighbour was kept waiting");
    drop(deaf);
    let own = timeout(LONG, async {
        loop {
            match agent
                .guest("a")
                .list_volumes(v1::ListVolumesRequest {})
                .await
            {
                Ok(_) => return,
                // Its own places are taken until the agent notices.
                Err(e) => assert_ne!(e.code(), Code::Internal, "{e}"),
            }
        }
    });
    own.await
        .expect("its places are free again when it lets go");
    agent.assert_quiet();
}
