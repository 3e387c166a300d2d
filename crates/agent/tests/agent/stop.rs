//! How an agent ends, and what the next one finds.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use vdvs_api::{RemoteError, v1};
use vdvs_domain::ErrorKind;

use crate::process::{LONG, Vdvsd, attach, create};

/// Who stops an agent kills one that takes longer (`esx-vib/payload/init.sh`).
const STOP_WAIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_stop_tells_waiting_guests_and_ends_in_time() {
    let mut agent = Vdvsd::start(&["a", "b"]);
    let (mut a, mut b) = (agent.guest("a"), agent.guest("b"));
    a.create_volume(create("v")).await.unwrap();
    a.attach_volume(attach("v", 0)).await.unwrap();
    let mut notices = a.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { b.attach_volume(attach("v", 100_000)).await });
    let wanted = timeout(LONG, notices.message()).await.unwrap();
    assert!(wanted.unwrap().is_some(), "b waits");

    let began = Instant::now();
    agent.terminate();
    let told = timeout(LONG, waiting.join_next()).await.unwrap();
    let told = told.unwrap().unwrap();
    let told = RemoteError::from(told.unwrap_err());
    assert!(told.kind.row().retry, "{told:?}");
    let end = timeout(LONG, notices.message()).await.unwrap();
    assert!(matches!(end, Ok(None) | Err(_)), "{end:?}");
    assert!(agent.ended().success());
    assert!(began.elapsed() < STOP_WAIT, "{:?}", began.elapsed());
    assert!(!agent.socket("a").exists() && !agent.admin_socket().exists());
    agent.assert_quiet();
}

#[tokio::test]
async fn an_agent_does_not_wait_for_a_guest_that_does_not_read_its_goodbye() {
    let mut agent = Vdvsd::start(&["a"]);
    let mut guest = agent.guest("a");
    guest.list_volumes(v1::ListVolumesRequest {}).await.unwrap();
    let began = Instant::now();
    agent.terminate();
    assert!(agent.ended().success());
    assert!(began.elapsed() < STOP_WAIT, "{:?}", began.elapsed());
    agent.assert_quiet();
}

#[tokio::test]
async fn a_killed_agents_sockets_are_taken_over_and_clients_come_back_by_themselves() {
    let agent = Vdvsd::start(&["a"]);
    let mut guest = agent.guest("a");
    guest.create_volume(create("v")).await.unwrap();
    let dir = agent.kill();
    let lost = guest.list_volumes(v1::ListVolumesRequest {}).await;
    let lost = RemoteError::from(lost.unwrap_err());
    assert!(lost.transport, "nobody answered: {lost:?}");

    let agent = Vdvsd::start_in(dir, &["a"]);
    let back = timeout(LONG, async {
        while let Err(why) = guest.list_volumes(v1::ListVolumesRequest {}).await {
            // Its datastores were in memory: what was governed has come back empty, which is not to be open to all.
            if RemoteError::from(why).kind == ErrorKind::NotConfigured {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(back.await.is_ok());
    agent.assert_quiet();
}

#[test]
fn a_second_agent_on_the_same_state_is_refused() {
    let agent = Vdvsd::start(&["a"]);
    let (status, said) = agent.second();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("vdvsd: "), "{said}");
    assert!(agent.socket("a").exists(), "the first is unharmed");
}
