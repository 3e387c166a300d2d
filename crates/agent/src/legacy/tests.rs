#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on may panic"
)]

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec as many;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::time::advance;
use uuid::Uuid;
use vdvs_domain::access::{AccessConfig, Group, Member, Members};
use vdvs_domain::ownership::Locator;
use vdvs_domain::{DatastoreName, GroupId, GroupName, Timestamp, VmId};
use vdvs_engine::Engine;
use vdvs_engine::ports::{DatastoreKind, DiskPath, DsPath};
use vdvs_host_sim::{Session, World};

use super::request::{NotUnderstood, Request};
use super::{From, LegacyFront, shapes};
use crate::calls::Calls;
use crate::guests::engine_settings;

#[test]
fn the_place_of_a_disk_is_that_of_the_bridge_above_its_controller() {
    for (slot, target, said) in [
        (192, 0, ("0", "192", "16.0")),
        (1216, 3, ("3", "1216", "16.1")),
        (160, 15, ("15", "160", "15.0")),
        (16, 8, ("8", "16", "10.0")),
    ] {
        let place = shapes::place(&Locator::Scsi {
            controller_pci_slot: slot,
            target,
        });
        let expected = json!({
            "Unit": said.0, "ControllerPciSlotNumber": said.1, "ControllerPciBusNumber": said.2,
        });
        assert_eq!(place, expected);
    }
}

#[test]
fn sizes_and_times_are_written_as_the_original_wrote_them() {
    let of = |mib: u64| shapes::human(mib << 20);
    assert_eq!([of(100), of(2048), of(1536)], ["100MB", "2GB", "1536MB"]);
    assert_eq!(
        [of(3 << 20), shapes::human(700), of(0)],
        ["3TB", "1KB", "0MB"]
    );
    let at = |millis| shapes::ctime(Timestamp::from_millis(millis));
    assert_eq!(at(1_488_398_762_000), "Wed Mar  1 20:06:02 2017");
    assert_eq!(at(1_491_833_348_000), "Mon Apr 10 14:09:08 2017");
}

#[test]
fn a_request_is_read_as_the_original_read_it() {
    let read = |text: &str| Request::parse(text);
    assert_eq!(
        read(r#"{"cmd":"list","details":{"Name":""},"version":"2"}"#),
        Ok(Request::List)
    );
    assert_eq!(
        read(r#"{"cmd":"version","version":2}"#),
        Ok(Request::Version)
    );
    let Ok(Request::Get(address)) = read(r#"{"cmd":"get","details":{"Name":"x@"}}"#) else {
        panic!("a name with nothing behind its '@' is short");
    };
    assert_eq!(address.to_string(), "x");
    for (text, said) in [
        ("nonsense", "Failed to parse json 'nonsense'."),
        (
            r#"{"details":{"Name":"x"}}"#,
            "Server returned an error: cmd is missing",
        ),
        (
            r#"{"cmd":"get","details":{}}"#,
            "Server returned an error: details.Name is missing",
        ),
        (
            r#"{"cmd":"fly","details":{"Name":"x"}}"#,
            "Unknown command:fly",
        ),
        (
            r#"{"cmd":"get","details":{"Name":7}}"#,
            "Server returned an error: ",
        ),
        (
            r#"{"cmd":"create","details":{"Name":"x","Opts":{"sizes":"1gb"}}}"#,
            "Invalid options: ",
        ),
    ] {
        let refused = read(text).unwrap_err().to_string();
        assert!(refused.starts_with(said), "{text}: {refused}");
    }
    let other = read(r#"{"cmd":"list","details":{"Name":""},"version":"1"}"#).unwrap_err();
    assert_eq!(other, NotUnderstood::Version("1".to_owned()));
    let text = other.to_string();
    assert!(
        text.starts_with("There is a mismatch between VDVS client (Docker plugin) protocol version\n                                    (1) and server (ESXi) protocol version (2)"),
        "{text}"
    );
}

/// A host with two vmgroups: `vm1` is the victim's, `vm2` the other's.
struct Host {
    world: World,
    session: Arc<Session>,
    front: LegacyFront,
    vms: [VmId; 2],
}

fn ds() -> DatastoreName {
    DatastoreName::new("ds").unwrap()
}

const GROUPS: [u128; 2] = [0xd0d0, 0xe0e0];
const SECRET: u64 = 4711;

impl Host {
    async fn new() -> Self {
        let world = World::new();
        world.add_datastore(&ds(), DatastoreKind::Vmfs);
        let host = world.add_host("esx01");
        let vms = ["vm1", "vm2"].map(|name| world.add_vm(host, name, &ds()));
        let session = world.session(host);
        let engine = Engine::new(session.ports(), engine_settings());
        let front = LegacyFront::new(engine, Arc::default(), Calls::default());
        let lab = Self {
            world,
            session,
            front,
            vms,
        };
        let made = lab
            .ask(0, &json!({"cmd": "create", "details": {"Name": "first"}}))
            .await;
        assert_eq!(made, Value::Null);
        lab.two_groups().await;
        lab
    }

    async fn two_groups(&self) {
        let mut access = AccessConfig::open_to_all();
        let all = access.groups.remove(0);
        for (n, vm) in self.vms.iter().enumerate() {
            access.groups.push(Group {
                id: GroupId::new(Uuid::from_u128(GROUPS[n])),
                name: GroupName::new(["dev", "test"][n]).unwrap(),
                members: Members::Vms(vec![Member {
                    uuid: vm.instance_uuid,
                    name: format!("vm{}", n + 1),
                }]),
                ..all.clone()
            });
        }
        let text = String::from_utf8(self.world.file(&ds(), "dockvols/.vdvs/config.1").unwrap());
        let text = text.unwrap();
        let mut document: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
        document["access"] = serde_json::to_value(access).unwrap();
        document["version"] = json!(2);
        let body = document.to_string();
        let crc = crc32fast::hash(body.as_bytes());
        let framed = format!("vdvs config 1 {} {crc:08x}\n{body}", body.len());
        self.world
            .put_file(&ds(), "dockvols/.vdvs/config.2", framed.as_bytes());
        advance(Duration::from_secs(3)).await;
    }

    async fn ask(&self, vm: usize, request: &Value) -> Value {
        let from = From {
            vm: self.vms[vm].clone(),
            name: format!("vm{}", vm + 1),
        };
        let said = match Request::parse(&request.to_string()) {
            Ok(request) => self
                .front
                .carry_out(&from, request, pending())
                .await
                .unwrap(),
            Err(why) => shapes::error(&why),
        };
        serde_json::from_str(&said).unwrap()
    }

    /// The disk of the victim's volume, as it lies on the datastore.
    fn secret(&self) -> DiskPath {
        let folder = format!("dockvols/{}/secret.", Uuid::from_u128(GROUPS[0]));
        let files = self.world.files(&ds());
        let is =
            |f: &&String| f.starts_with(&folder) && f.ends_with(".vmdk") && !f.contains("-flat");
        DiskPath {
            datastore: ds(),
            path: DsPath::new(files.iter().find(is).unwrap()).unwrap(),
        }
    }
}

/// Names of another's volume as somebody writes them who wants it, and pieces of such names put together.
fn hostile() -> impl Strategy<Value = String> {
    let dev = Uuid::from_u128(GROUPS[0]);
    let whole = vec![
        "secret".to_owned(),
        "secret@ds".to_owned(),
        "secret@DS".to_owned(),
        "dev/secret".to_owned(),
        "dev/secret@ds".to_owned(),
        format!("{dev}/secret"),
        format!("../{dev}/secret"),
        format!("..\\{dev}\\secret"),
        format!("secret@../{dev}"),
        format!("secret@ds/dockvols/{dev}"),
        "[ds] dockvols/dev/secret.vmdk".to_owned(),
        "secre?".to_owned(),
        "*".to_owned(),
        "secret.vmdk".to_owned(),
        "secret-flat".to_owned(),
        "secret-000001".to_owned(),
        "secret\0".to_owned(),
        "secret ".to_owned(),
        "SECRET".to_owned(),
        "secret@@ds".to_owned(),
        "secret@_VM_DS".to_owned(),
        "019b0000".to_owned(),
        String::new(),
    ];
    let pieces = vec![
        "secret",
        "dev",
        "/",
        "..",
        "\\",
        "@",
        "ds",
        "*",
        "?",
        "[s]ecret",
        ".vmdk",
        ".vdvs",
        "\n",
        "%2e%2e%2f",
        "\u{202e}",
        "$(id)",
        "'",
        "11111111-1111-1111-1111-111111111111",
        "~",
        ".",
    ];
    let joined = many(select(pieces), 1..7).prop_map(|p| p.concat());
    prop_oneof![2 => select(whole), 3 => joined, 1 => ".{0,40}"]
}

fn verbs() -> impl Strategy<Value = Vec<(u8, String)>> {
    many((0u8..6, hostile()), 1..10)
}

async fn attack(verbs: Vec<(u8, String)>) {
    let host = Host::new().await;
    let create = json!({"cmd": "create", "details": {"Name": "secret"}, "version": "2"});
    assert_eq!(host.ask(0, &create).await, Value::Null);
    let secret = host.secret();
    host.world.write_disk(&secret, SECRET);
    let get = json!({"cmd": "get", "details": {"Name": "secret"}});
    let before = host.ask(0, &get).await;
    let of_victim = host
        .ask(0, &json!({"cmd": "list", "details": {"Name": ""}}))
        .await;
    assert_eq!(of_victim, json!([{"Name": "secret@ds", "Attributes": {}}]));
    for (n, (verb, name)) in verbs.into_iter().enumerate() {
        let cmd = ["get", "attach", "detach", "remove", "create", "create"][usize::from(verb)];
        let own = format!("copy{n}");
        let request = match verb {
            5 => json!({"cmd": cmd, "details": {"Name": own, "Opts": {"clone-from": name}}}),
            _ => json!({"cmd": cmd, "details": {"Name": name}}),
        };
        let said = host.ask(1, &request).await;
        if cmd == "get" && said.get("Error").is_none() {
            assert_eq!(said["created by VM"], "vm2", "{request}: {said}");
        }
        let devices = host.world.devices(&host.vms[1]);
        assert!(
            devices.iter().all(|d| d.disk != secret),
            "{request} attached it"
        );
        assert_eq!(
            host.world.read_disk(&secret),
            Some(SECRET),
            "{request} touched it"
        );
        let mine = host.world.files(&ds());
        let folder = format!("dockvols/{}/", Uuid::from_u128(GROUPS[1]));
        for file in mine
            .iter()
            .filter(|f| f.starts_with(&folder) && f.ends_with(".vmdk"))
        {
            let path = DsPath::new(file).unwrap();
            let copy = host.world.read_disk(&DiskPath {
                datastore: ds(),
                path,
            });
            assert_ne!(copy, Some(SECRET), "{request} copied it");
        }
    }
    let listed = host
        .ask(1, &json!({"cmd": "list", "details": {"Name": ""}}))
        .await;
    for volume in listed.as_array().unwrap() {
        let name = volume["Name"].as_str().unwrap();
        let said = host
            .ask(1, &json!({"cmd": "get", "details": {"Name": name}}))
            .await;
        assert_eq!(said["created by VM"], "vm2", "{name} was listed");
    }
    assert_eq!(
        host.ask(0, &get).await,
        before,
        "the victim's volume is as it was"
    );
    assert!(!host.session.is_dead());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_name_reaches_another_vmgroups_volume(verbs in verbs()) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(attack(verbs));
    }
}
