//! A guest that runs the original's plugin: its frames over the VM's socket, request by request, against a real agent.

use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};
use vdvs_api::{model, v1};

use crate::process::{LONG, Vdvsd, attach, create, head, reason};

const MAGIC: [u8; 4] = [0xef, 0xbe, 0xad, 0x0b];

/// Sends these bytes on a connection of its own and returns what comes back until its end.
async fn send(socket: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut reply = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut reply)).await;
    read.expect("the connection ends").unwrap();
    reply
}

/// The text in one whole frame.
fn unframed(reply: &[u8]) -> String {
    let (header, body) = reply.split_at_checked(8).expect("a frame has a header");
    assert_eq!(header[..4], MAGIC);
    let length = u32::from_le_bytes(header[4..].try_into().unwrap());
    assert_eq!(
        usize::try_from(length).unwrap(),
        body.len(),
        "length with NUL"
    );
    assert_eq!(body.last(), Some(&0));
    String::from_utf8(body[..body.len() - 1].to_vec()).unwrap()
}

fn framed(text: &str) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let length = u32::try_from(text.len() + 1).unwrap();
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// One request, as the original's plugin makes it.
async fn ask(socket: &Path, cmd: &str, name: &str, options: Option<Value>) -> Value {
    let mut details = json!({ "Name": name });
    if let Some(options) = options {
        details["Opts"] = options;
    }
    let request = json!({ "cmd": cmd, "details": details, "version": "2" });
    let reply = send(socket, &framed(&request.to_string())).await;
    serde_json::from_str(&unframed(&reply)).unwrap()
}

/// What the plugin takes for a failure; anything else is a success.
fn failure(reply: &Value) -> Option<&str> {
    reply.get("Error")?.as_str().filter(|text| !text.is_empty())
}

#[tokio::test]
async fn a_volume_of_the_originals_plugin_lives_from_create_to_remove() {
    let agent = Vdvsd::start(&["a", "b"]);
    let (a, b) = (agent.socket("a"), agent.socket("b"));
    assert_eq!(ask(&a, "list", "", None).await, json!([]));
    let options = || Some(json!({"fstype": "ext4"}));
    assert_eq!(ask(&a, "create", "db1", options()).await, Value::Null);
    // It would format what is attached now.
    let device = ask(&a, "attach", "db1", None).await;
    let expected = json!({
        "Unit": "0", "ControllerPciSlotNumber": "192", "ControllerPciBusNumber": "16.0",
    });
    assert_eq!(device, expected);
    assert_eq!(ask(&a, "attach", "db1", None).await, expected, "once more");
    let got = ask(&a, "get", "db1", None).await;
    let created = got["created"].as_str().unwrap().to_owned();
    assert_eq!(created.len(), "Wed Mar  1 20:06:02 2017".len(), "{created}");
    let whole = json!({
        "created by VM": "a", "created": created, "status": "attached",
        "capacity": {"size": "100MB", "allocated": "0MB"}, "datastore": "vsanDatastore",
        "attached to VM": "a", "attachedVMDevice": expected, "fstype": "ext4", "diskformat": "thin",
        "attach-as": "independent_persistent", "access": "read-write", "clone-from": "None",
    });
    assert_eq!(got, whole);
    let busy = ask(&b, "remove", "db1@vsanDatastore", None).await;
    let busy = failure(&busy).unwrap();
    assert!(busy.starts_with("Failed to remove volume db1"), "{busy}");
    assert!(busy.contains("in use by VM = a"), "{busy}");
    assert_eq!(
        ask(&a, "detach", "db1@vsanDatastore", None).await,
        Value::Null
    );
    assert_eq!(
        ask(&a, "detach", "db1", None).await,
        Value::Null,
        "once more"
    );
    assert_eq!(ask(&a, "detach", "never", None).await, Value::Null);
    let got = ask(&b, "get", "db1", None).await;
    assert_eq!(
        (&got["status"], got.get("attached to VM")),
        (&json!("detached"), None)
    );

    let again = ask(&b, "create", "db1", options()).await;
    assert!(
        failure(&again).unwrap().contains("already exists"),
        "{again}"
    );
    let other = ask(&b, "create", "db1", Some(json!({"size": "2gb"}))).await;
    assert!(
        failure(&other).unwrap().contains("already exists"),
        "{other}"
    );
    let copy = ask(&b, "create", "copy", Some(json!({"clone-from": "db1"}))).await;
    assert_eq!(copy, Value::Null);
    assert_eq!(ask(&b, "get", "copy", None).await["clone-from"], "db1");
    let listed = ask(&b, "list", "", None).await;
    let named = |name: &str| json!({"Name": format!("{name}@vsanDatastore"), "Attributes": {}});
    assert_eq!(listed, json!([named("copy"), named("db1")]));
    assert_eq!(ask(&b, "remove", "db1", None).await, Value::Null);
    assert_eq!(
        ask(&b, "remove", "db1", None).await,
        Value::Null,
        "once more"
    );
    let gone = ask(&b, "get", "db1", None).await;
    assert!(
        failure(&gone).unwrap().starts_with("Volume db1 not found"),
        "{gone}"
    );
    let version = ask(&a, "version", "", None).await;
    assert_eq!(version, json!({"version": env!("CARGO_PKG_VERSION")}));
    let unknown = ask(&a, "fly", "x", None).await;
    assert_eq!(failure(&unknown), Some("Unknown command:fly"));
    agent.assert_quiet();
}

#[tokio::test]
async fn only_who_was_told_that_a_volume_is_new_formats_it() {
    let agent = Vdvsd::start(&["a", "b"]);
    let (a, b) = (agent.socket("a"), agent.socket("b"));
    assert_eq!(ask(&a, "create", "v", None).await, Value::Null);
    // Its answer was lost, and it asks again: nobody ever had it.
    assert_eq!(ask(&a, "create", "v", None).await, Value::Null);
    let twin = ask(&b, "create", "v", None).await;
    assert!(failure(&twin).unwrap().contains("already exists"), "{twin}");
    assert_eq!(failure(&ask(&a, "attach", "v", None).await), None);
    assert_eq!(ask(&a, "detach", "v", None).await, Value::Null);
    let late = ask(&a, "create", "v", None).await;
    assert!(
        failure(&late).unwrap().contains("already exists"),
        "it may hold data: {late}"
    );

    // Our plugin never formats it, since the other one did.
    let mut guest = agent.guest("b");
    let got = guest
        .attach_volume(attach("v", 0))
        .await
        .unwrap()
        .into_inner();
    let attached = model::Attached::try_from(got).unwrap();
    let begun = guest.begin_format(v1::BeginFormatRequest {
        head: head(),
        volume_id: attached.volume.id.to_string(),
        epoch: attached.epoch.number(),
    });
    assert_eq!(reason(begun.await), "FORMAT_REFUSED");
    agent.assert_quiet();
}

#[tokio::test]
async fn a_volume_whose_data_the_old_plugin_would_not_see_is_not_attached_by_it() {
    let agent = Vdvsd::start(&["a", "b"]);
    let (a, mut guest) = (agent.socket("a"), agent.guest("b"));
    guest.create_volume(create("ours")).await.unwrap();
    let got = guest
        .attach_volume(attach("ours", 0))
        .await
        .unwrap()
        .into_inner();
    let attached = model::Attached::try_from(got).unwrap();
    let (volume_id, epoch) = (attached.volume.id.to_string(), attached.epoch.number());
    let begun = guest.begin_format(v1::BeginFormatRequest {
        head: head(),
        volume_id: volume_id.clone(),
        epoch,
    });
    let filesystem_uuid = begun.await.unwrap().into_inner().filesystem_uuid;
    let finished = guest.finish_format(v1::FinishFormatRequest {
        head: head(),
        volume_id: volume_id.clone(),
        epoch,
        filesystem_uuid,
    });
    finished.await.unwrap();
    let detach = guest.detach_volume(v1::DetachVolumeRequest {
        head: head(),
        volume_id,
        epoch,
    });
    detach.await.unwrap();
    let refused = ask(&a, "attach", "ours", None).await;
    let refused = failure(&refused).unwrap();
    assert!(
        refused.contains("too old for volume ours@vsanDatastore"),
        "{refused}"
    );
    assert_eq!(ask(&a, "get", "ours", None).await["status"], "detached");
    agent.assert_quiet();
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_hurts_nobody_else() {
    let agent = Vdvsd::start(&["a", "b"]);
    let a = agent.socket("a");
    let said = async |bytes: &[u8]| {
        let reply: Value = serde_json::from_str(&unframed(&send(&a, bytes).await)).unwrap();
        failure(&reply).expect("it is an error").to_owned()
    };
    let large =
        json!({"cmd": "create", "details": {"Name": "v", "Opts": {"size": "x".repeat(200_000)}}});
    let large = said(&framed(&large.to_string())).await;
    assert!(large.contains("at most 65536 are read"), "{large}");
    // The original read 4096 bytes, and closed the connection without a word.
    let options = json!({"fstype": "x".repeat(5000)});
    let long = ask(&a, "create", "v", Some(options)).await;
    assert!(failure(&long).is_some(), "{long}");
    assert!(
        said(&framed("not json"))
            .await
            .starts_with("Failed to parse json 'not json'")
    );
    let no_nul = [&MAGIC[..], &[4, 0, 0, 0], b"null"].concat();
    assert!(said(&no_nul).await.contains("does not end with a NUL"));
    let other = said(&framed(
        r#"{"cmd":"list","details":{"Name":""},"version":"1"}"#,
    ))
    .await;
    assert!(
        other.starts_with("There is a mismatch between VDVS client"),
        "{other}"
    );
    // Sixteen of these ended the original's service.
    for _ in 0..20 {
        said(&framed("{}")).await;
    }
    // One that never finishes keeps nobody waiting.
    let mut silent = UnixStream::connect(&a).await.unwrap();
    silent.write_all(&framed("{}")[..6]).await.unwrap();
    let began = Instant::now();
    assert_eq!(ask(&a, "create", "v", None).await, Value::Null);
    assert_eq!(
        ask(&agent.socket("b"), "create", "w", None).await,
        Value::Null
    );
    assert!(began.elapsed() < LONG);
    drop(silent);
    agent.assert_quiet();
}

#[tokio::test]
async fn a_plugin_that_goes_away_while_it_waits_for_a_volume_does_not_get_it() {
    let agent = Vdvsd::start(&["a", "b"]);
    let (a, b) = (agent.socket("a"), agent.socket("b"));
    assert_eq!(ask(&a, "create", "v", None).await, Value::Null);
    assert_eq!(failure(&ask(&a, "attach", "v", None).await), None);
    let mut gone = UnixStream::connect(&b).await.unwrap();
    let request = json!({"cmd": "attach", "details": {"Name": "v"}, "version": "2"});
    gone.write_all(&framed(&request.to_string())).await.unwrap();
    let waits = async |expected: bool| {
        let end = Instant::now() + LONG;
        loop {
            let name = "v".to_owned();
            let got = agent
                .guest("a")
                .get_volume(v1::GetVolumeRequest { name })
                .await;
            let volume = got.unwrap().into_inner().volume.unwrap();
            if volume.waiting.is_empty() != expected {
                return;
            }
            assert!(Instant::now() < end, "waiting: {expected}");
        }
    };
    waits(true).await;
    drop(gone);
    waits(false).await;
    assert_eq!(ask(&a, "detach", "v", None).await, Value::Null);
    let got = ask(&b, "get", "v", None).await;
    assert_eq!(got["status"], "detached");
    agent.assert_quiet();
}
