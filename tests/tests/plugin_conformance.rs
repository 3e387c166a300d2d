//! What real engines send to a volume plugin, replayed byte for byte against ours: no engine, no disks, no root.
//!
//! The sequences were recorded from dockerd 20.10.24, 26.1.5 and 28.5.2 and from podman 4.3.1. Each is a table of
//! short lines ([`script`]), rendered into the exact bytes of each engine ([`wire`]) and sent over a Unix socket to
//! the plugin with an agent and disks in memory.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: a failure here is the report"
)]

#[path = "plugin_conformance/guest.rs"]
mod guest;
#[path = "plugin_conformance/script.rs"]
mod script;
#[path = "plugin_conformance/sequences.rs"]
mod sequences;
#[path = "plugin_conformance/wire.rs"]
mod wire;

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use guest::Guest;
use sequences::{DOCKER, Sequence};
use wire::{Dialect, Got};

/// What is answered at once on an idle machine, and dockerd would wait for longer than this.
const ANSWERS: Duration = Duration::from_secs(10);

async fn replay(sequence: &Sequence, dialect: Dialect) {
    let mut guest = Guest::start().await;
    for (number, line) in sequence.script.lines().map(str::trim).enumerate() {
        if line.is_empty() {
            continue;
        }
        let at = format!("{} ({dialect:?}), line {number}: {line}", sequence.what);
        script::run(&mut guest, dialect, line, &at).await;
    }
    let calls = guest.agent.calls();
    let mut expected: Vec<&str> = sequence.agent.split(", ").collect();
    expected.retain(|call| !call.is_empty());
    assert_eq!(
        calls, expected,
        "{} ({dialect:?}): calls to the agent",
        sequence.what
    );
    guest.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_sequence_of_dockerd_gets_its_answers() {
    for dialect in [Dialect::Docker20, Dialect::Docker26] {
        for sequence in DOCKER {
            replay(sequence, dialect).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_sequence_of_podman_gets_its_answers() {
    for sequence in sequences::PODMAN {
        replay(sequence, Dialect::Podman).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exact_bytes_of_each_engine_get_exact_bytes_back() {
    let guest = Guest::start().await;
    guest.agent.add("vol1", &Default::default());
    for (request, expected) in [
        (
            "POST /Plugin.Activate HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n",
            reply("200 OK", "{\"Implements\":[\"VolumeDriver\"]}\n"),
        ),
        (
            "POST /VolumeDriver.Capabilities HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 3\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n{}\n",
            reply(
                "200 OK",
                "{\"Capabilities\":{\"Scope\":\"global\"},\"Err\":\"\"}\n",
            ),
        ),
        (
            "POST /VolumeDriver.Mount HTTP/1.1\r\nHost: plugin\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 87\r\nContent-Type: application/vnd.docker.plugins.v1.1+json\r\nAccept-Encoding: gzip\r\n\r\n{\"Name\":\"vol1\",\"ID\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}",
            reply(
                "200 OK",
                "{\"Mountpoint\":\"/mnt/vdvs/01920000-0000-7000-8000-000000000001/data\",\"Err\":\"\"}\n",
            ),
        ),
        (
            "POST /VolumeDriver.Unmount HTTP/1.1\r\nHost: plugin\r\nContent-Length: 87\r\n\r\n{\"Name\":\"vol1\",\"ID\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}",
            reply("200 OK", "{\"Err\":\"\"}\n"),
        ),
        (
            "POST /VolumeDriver.Get HTTP/1.1\r\nHost: \r\nContent-Length: 12\r\n\r\n{\"Name\":\"\"}\n",
            reply(
                "500 Internal Server Error",
                "{\"Err\":\" No volume with name as empty string exists\"}\n",
            ),
        ),
    ] {
        let mut wire = guest.connect().await;
        let got = wire.raw(request.as_bytes()).await.unwrap();
        assert_eq!(without_date(&got), expected, "{request}");
    }
    guest.stop().await;
}

fn reply(status: &str, body: &str) -> String {
    let label = "content-type: application/vnd.docker.plugins.v1.1+json";
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{label}\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn without_date(reply: &str) -> String {
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let kept: Vec<&str> = head
        .split("\r\n")
        .filter(|line| !line.starts_with("date:"))
        .collect();
    format!("{}\r\n\r\n{body}", kept.join("\r\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_with_a_spent_body_is_hung_up_on_and_never_answered() {
    let guest = Guest::start().await;
    for call in ["Create", "Remove", "Get", "Path", "Mount", "Unmount"] {
        let request =
            format!("POST /VolumeDriver.{call} HTTP/1.1\r\nHost: \r\nContent-Length: 0\r\n\r\n");
        let mut wire = guest.connect().await;
        assert_eq!(wire.raw(request.as_bytes()).await, None, "{call}");
    }
    assert!(guest.agent.calls().is_empty());
    guest.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_refused_without_harm() {
    let guest = Guest::start().await;
    let large = "x".repeat(70_000);
    for (path, body, status) in [
        ("/VolumeDriver.Create", "{\"Name\":", 400),
        ("/VolumeDriver.Create", "[\"v\"]", 400),
        ("/VolumeDriver.Snapshot", "{}", 404),
        ("/", "", 404),
        ("/VolumeDriver.Create", large.as_str(), 413),
    ] {
        let mut wire = guest.connect().await;
        match wire.post(Dialect::Docker26, path, body).await {
            Some(Got { status: got, .. }) => assert_eq!(got, status, "{path}"),
            None => panic!("{path} {status}: hung up"),
        }
    }
    for garbage in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET\r\n\r\n",
        b"\r\n\r\n\r\n\0\0",
    ] {
        let mut wire = guest.connect().await;
        drop(wire.raw(garbage).await);
    }
    let mut wire = guest.connect().await;
    assert!(
        wire.post(Dialect::Docker26, "/Plugin.Activate", "")
            .await
            .is_some()
    );
    guest.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unanswerable_get_of_an_unknown_name_is_dropped_and_of_a_known_name_answered() {
    let guest = Guest::start().await;
    let mut wire = guest.connect().await;
    let created = wire
        .post(
            Dialect::Docker26,
            "/VolumeDriver.Create",
            "{\"Name\":\"vol1\",\"Opts\":null}\n",
        )
        .await;
    assert_eq!(created.unwrap().body, "{\"Err\":\"\"}\n");
    guest.agent.set_away(true);
    let known = wire
        .post(
            Dialect::Docker26,
            "/VolumeDriver.Get",
            "{\"Name\":\"vol1\"}\n",
        )
        .await
        .unwrap();
    assert!(
        known.status == 200 && known.body.contains("\"answer\":\"stale\""),
        "{known:?}"
    );
    let unknown = wire
        .post(
            Dialect::Docker26,
            "/VolumeDriver.Get",
            "{\"Name\":\"new\"}\n",
        )
        .await;
    assert!(unknown.is_none(), "{unknown:?}");
    guest.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_whose_caller_hung_up_is_rolled_back() {
    let guest = Guest::start().await;
    guest.agent.add("vol1", &Default::default());
    guest.agent.give_to("vol1", "swarm02");
    let mut wire = guest.connect().await;
    let body = "{\"Name\":\"vol1\",\"ID\":\"a\"}\n";
    let asked = wire.post(Dialect::Docker26, "/VolumeDriver.Mount", body);
    assert!(timeout(Duration::from_millis(200), asked).await.is_err());
    drop(wire);
    sleep(Duration::from_millis(100)).await;
    guest.agent.release("vol1");
    sleep(Duration::from_millis(200)).await;
    // On a busy machine the hang-up may be seen only now, with the volume attached: then it is detached.
    let end = Instant::now() + ANSWERS;
    loop {
        let attachment = guest.agent.volume("vol1").unwrap().attachment;
        if attachment.is_none() && guest.mounted().await == 0 {
            break;
        }
        assert!(Instant::now() < end, "{attachment:?}");
        sleep(Duration::from_millis(5)).await;
    }
    guest.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_front_answers_before_the_agent_was_ever_there() {
    let begun = Instant::now();
    let guest = Guest::start_away().await;
    let mut wire = guest.connect().await;
    let activated = wire.post(Dialect::Docker20, "/Plugin.Activate", "").await;
    assert_eq!(activated.unwrap().status, 200);
    let listed = wire
        .post(Dialect::Docker20, "/VolumeDriver.List", "{}\n")
        .await;
    assert_eq!(listed.unwrap().body, "{\"Volumes\":[],\"Err\":\"\"}\n");
    assert!(begun.elapsed() < ANSWERS);
    guest.stop().await;
}
