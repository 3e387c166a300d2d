//! Snapshots of every table at the widths of a small and a wide terminal, and without one.

use std::collections::BTreeMap;

use insta::assert_snapshot;
use serde_json::json;

use super::*;
use crate::view::{Attached, Filesystem, Operation};

fn volume(name: &str, vm: Option<&str>) -> Volume {
    Volume {
        id: "0192aaaa-bbbb-7ccc-8ddd-eeee12345678".into(),
        name: name.into(),
        datastore: "vsanDatastore".into(),
        group: "_DEFAULT".into(),
        size_bytes: 1 << 30,
        used_bytes: 47 << 20,
        state: vm.map_or("free", |_| "attached").into(),
        attachment: vm.map(|vm| Attached {
            vm: vm.into(),
            vm_uuid: "564d0000-0000-0000-0000-000000000001".into(),
            host: "esx01".into(),
            since: "2026-11-21T05:00:00Z".into(),
            read_only: false,
            device: Some("/dev/loop3".into()),
        }),
        epoch: 4,
        filesystem: Filesystem {
            fstype: "ext4".into(),
            state: "ready",
            uuid: Some("0f0f0f0f-0000-4000-8000-000000000001".into()),
        },
        layout: "data",
        options: BTreeMap::from([
            ("diskformat".into(), "thin".into()),
            ("size".into(), "1GB".into()),
        ]),
        created_at: "2026-11-20T10:11:12Z".into(),
        created_by: Some("swarm02".into()),
        disk_path: "dockvols/11111111-1111-1111-1111-111111111111/v.12345678.vmdk".into(),
        operation: None,
        waiting: None,
        attention: None,
    }
}

fn list() -> VolumeList {
    let stuck = Volume {
        state: "detaching".into(),
        operation: Some(Operation {
            kind: "detach".into(),
            since: "2026-11-21T05:00:00Z".into(),
        }),
        attention: Some("detach unfinished since 41 s".into()),
        ..volume("wiki_uploads", Some("swarm03"))
    };
    let mut reader = volume("reports", Some("swarm01"));
    reader.attachment.as_mut().unwrap().read_only = true;
    VolumeList {
        volumes: vec![
            volume("postgres_postgres_vol", Some("swarm02")),
            reader,
            volume(
                "a-volume-with-a-name-that-is-long-because-somebody-liked-it-so",
                None,
            ),
            volume("größe-Ж-雪", None),
            stuck,
        ],
        unreadable_datastores: vec!["nfs-archive".into()],
    }
}

fn datastore(name: &str) -> Datastore {
    Datastore {
        name: name.into(),
        r#type: "vsan".into(),
        accessible: true,
        capacity_bytes: 4 << 40,
        free_bytes: 3 << 40,
        provisioned_bytes: 5 << 30,
        used_bytes: 235 << 20,
        volumes: 5,
        problem: None,
    }
}

fn both_datastores() -> Vec<Datastore> {
    let lost = Datastore {
        r#type: "nfs".into(),
        accessible: false,
        problem: Some("no answer within 5 s; its volumes cannot be used until it is back".into()),
        ..datastore("nfs-archive")
    };
    vec![datastore("vsanDatastore"), lost]
}

#[test]
fn volume_list() {
    assert_snapshot!("volumes_80", volumes(&list(), Some(80)));
    assert_snapshot!("volumes_200", volumes(&list(), Some(200)));
    assert_snapshot!("volumes_no_terminal", volumes(&list(), None));
}

#[test]
fn datastore_list() {
    assert_snapshot!("datastores_80", datastores(&both_datastores(), Some(80)));
    assert_snapshot!("datastores_200", datastores(&both_datastores(), Some(200)));
}

#[test]
fn vm_list() {
    let vm = |name: &str, connected: bool, volumes: &[&str]| Vm {
        name: name.into(),
        uuid: "564d0000-0000-0000-0000-000000000001".into(),
        config_path: format!("[vsanDatastore] {name}/{name}.vmx"),
        power: if connected { "on" } else { "off" }.into(),
        connected,
        plugin: Some("vdvs-plugin 0.1.0".into()),
        group: Some("_DEFAULT".into()),
        volumes: volumes.iter().map(|v| (*v).to_owned()).collect(),
    };
    let list = [
        vm("swarm01", true, &[]),
        vm(
            "swarm02",
            true,
            &[
                "postgres_postgres_vol@vsanDatastore",
                "reports@vsanDatastore",
            ],
        ),
        vm("swarm03", false, &["wiki_uploads@vsanDatastore"]),
    ];
    assert_snapshot!("vms_80", vms(&list, Some(80)));
    assert_snapshot!("vms_200", vms(&list, Some(200)));
}

#[test]
fn agent_status() {
    let s = Status {
        program: "vdvsd 0.1.0".into(),
        host_name: "esx01".into(),
        host_id: "0192aaaa-0000-7000-8000-000000000001".into(),
        host_kind: "lab".into(),
        uptime_ms: 7_384_000,
        protocol_min: 1,
        protocol_max: 1,
        guests_connected: 2,
        vms: 3,
        volumes: 5,
        attached: 3,
        unresolved_operations: 1,
        open_to_all: true,
        datastores: both_datastores(),
        warnings: vec!["one operation is unresolved: see vdvs volume ls".into()],
    };
    assert_snapshot!("status_80", status(&s, Some(80)));
    assert_snapshot!("status_200", status(&s, Some(200)));
}

#[test]
fn one_volume() {
    let stuck = list().volumes.pop().unwrap();
    let inspection = Inspection {
        volume: Volume {
            waiting: Some("VM swarm01 waits for it".into()),
            ..stuck
        },
        record: json!({ "format": 1 }),
    };
    assert_snapshot!("inspection", super::inspection(&inspection));
    let json = serde_json::to_string_pretty(&inspection).unwrap();
    assert_snapshot!("inspection_json", json);
}

#[test]
fn nothing_is_said_in_words() {
    let none = VolumeList {
        volumes: vec![],
        unreadable_datastores: vec![],
    };
    assert_eq!(volumes(&none, Some(80)), "no volumes\n");
    assert_eq!(vms(&[], None), "no virtual machines\n");
    assert_eq!(datastores(&[], None), "no datastores\n");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [80, 100, 200] {
        let table = volumes(
            &VolumeList {
                unreadable_datastores: vec![],
                ..list()
            },
            Some(width),
        );
        for line in table.lines().filter(|l| !l.starts_with(MARK)) {
            assert!(
                line.chars().count() <= usize::from(width),
                "{width}: {line}"
            );
        }
    }
}

#[test]
fn a_volume_is_one_line_when_there_is_no_terminal() {
    let quiet = VolumeList {
        unreadable_datastores: vec![],
        volumes: vec![list().volumes.swap_remove(2)],
    };
    assert_eq!(volumes(&quiet, None).lines().count(), 2);
}

#[test]
fn a_name_from_elsewhere_cannot_steer_the_terminal() {
    let evil = VolumeList {
        volumes: vec![volume("v", Some("vm\u{1b}]0;x\u{7}\nfake row"))],
        unreadable_datastores: vec![],
    };
    let shown = volumes(&evil, None);
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'));
    assert_eq!(shown.lines().count(), 2);
}

#[test]
fn durations_show_their_two_largest_units() {
    for (ms, text) in [
        (0, "0 s"),
        (59_999, "59 s"),
        (61_000, "1 min 1 s"),
        (7_384_000, "2 h 3 min"),
        (90_000_000, "1 d 1 h"),
    ] {
        assert_eq!(duration(ms), text);
    }
}
