//! One encoding of every message a peer may meet, byte for byte.
//!
//! Guests and hosts are upgraded at different times, so the bytes are the contract, more than the `.proto` text: a
//! changed field number or type breaks an old peer though everything compiles. Each file in `golden/` is the
//! hexadecimal encoding of one message in which every field is set. A deliberate change is made with `VDVS_BLESS=golden`
//! and gets its line in `proto/COMPAT.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::{Debug, Write};
use std::fs;
use std::path::PathBuf;

use prost::Message;
use vdvs_api::listing::ListVolumesReply;
use vdvs_api::v1;

#[path = "messages/admin.rs"]
mod admin;

const A: &str = "0192aaaa-bbbb-7ccc-8ddd-eeee12345678";
const B: &str = "7d1c3a7e-1111-4222-8333-444455556666";

/// Checks every message against its file, and that each file has its message.
struct Golden {
    bless: bool,
    seen: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Golden {
    fn check<M: Message + Default + PartialEq + Debug>(&mut self, name: &str, message: &M) {
        let bytes = message.encode_to_vec();
        let decoded = M::decode(bytes.as_slice()).expect("our own bytes decode");
        assert_eq!(&decoded, message, "{name}");
        assert_ne!(message, &M::default(), "{name} sets no field");
        self.compare(name, &bytes);
    }

    /// A message without fields is no bytes, now and for every later version that adds some.
    fn empty<M: Message + Default>(&mut self, name: &str) {
        self.compare(name, &M::default().encode_to_vec());
    }

    fn compare(&mut self, name: &str, bytes: &[u8]) {
        self.seen.insert(format!("{name}.hex"));
        let path = dir().join(format!("{name}.hex"));
        let hex = hex(bytes);
        if self.bless {
            fs::create_dir_all(dir()).expect("the folder can be made");
            fs::write(&path, &hex).expect("the file can be written");
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        if committed != hex {
            self.wrong.push(format!(
                "{name}\n  committed: {committed}  now:       {hex}"
            ));
        }
    }
}

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Lines of 32 bytes, so that a difference is found by eye.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(out, "{byte:02x}").expect("a string takes everything");
        }
        out.push('\n');
    }
    out
}

#[test]
fn every_message_has_the_bytes_it_always_had() {
    let mut golden = Golden {
        bless: env::var_os("VDVS_BLESS").is_some_and(|v| v == "golden"),
        seen: BTreeSet::new(),
        wrong: Vec::new(),
    };
    guest_messages(&mut golden);
    attachment_messages(&mut golden);
    admin_messages(&mut golden);
    admin::all(&mut golden);
    let files: BTreeSet<String> = fs::read_dir(dir())
        .expect("the folder golden/ is committed")
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, golden.seen, "one file for each message");
    assert!(
        golden.wrong.is_empty(),
        "the encoding changed, which breaks peers that are not upgraded yet:\n{}",
        golden.wrong.join("\n")
    );
}

fn guest_messages(golden: &mut Golden) {
    golden.check(
        "hello_request",
        &v1::HelloRequest {
            versions: Some(v1::VersionRange { min: 1, max: 2 }),
            program: "vdvs-plugin 0.1.0".into(),
            features: vec!["watch".into()],
        },
    );
    golden.check(
        "hello_reply",
        &v1::HelloReply {
            version: 1,
            versions: Some(v1::VersionRange { min: 1, max: 1 }),
            program: "vdvsd 0.1.0".into(),
            features: vec!["watch".into()],
            vm_name: "swarm01".into(),
            vm_uuid: B.into(),
            host_name: "esx01".into(),
            clock_unix_ms: 1_700_000_000_008,
        },
    );
    golden.check(
        "create_volume_request",
        &v1::CreateVolumeRequest {
            head: head(),
            name: "postgres_vol@vsanDatastore".into(),
            options: options(),
        },
    );
    golden.check(
        "create_volume_reply",
        &v1::CreateVolumeReply {
            volume: Some(volume()),
            created: true,
        },
    );
    golden.check(
        "delete_volume_request",
        &v1::DeleteVolumeRequest {
            head: head(),
            name: "postgres_vol".into(),
            volume_id: A.into(),
        },
    );
    // As guests ask that know no field `volume_id`.
    golden.check(
        "delete_volume_request_by_name",
        &v1::DeleteVolumeRequest {
            head: head(),
            name: "postgres_vol".into(),
            volume_id: String::new(),
        },
    );
    golden.check(
        "delete_volume_reply",
        &v1::DeleteVolumeReply { id: A.into() },
    );
    golden.check(
        "get_volume_request",
        &v1::GetVolumeRequest {
            name: "postgres_vol".into(),
        },
    );
    golden.check(
        "get_volume_reply",
        &v1::GetVolumeReply {
            volume: Some(volume()),
        },
    );
    golden.empty::<v1::ListVolumesRequest>("list_volumes_request");
    golden.check(
        "list_volumes_reply",
        &ListVolumesReply::of(&[volume(), v1::Volume::default()], vec!["nfs01".into()]),
    );
}

fn attachment_messages(golden: &mut Golden) {
    golden.check(
        "attach_volume_request",
        &v1::AttachVolumeRequest {
            head: head(),
            name: "postgres_vol".into(),
            read_only: true,
            wait_budget_ms: 100_000,
        },
    );
    golden.check(
        "attach_volume_reply",
        &v1::AttachVolumeReply {
            volume: Some(volume()),
            epoch: 7,
            locator: Some(v1::Locator {
                kind: Some(v1::locator::Kind::Path("/dev/loop3".into())),
            }),
            disk_uuid: "6000c29".into(),
            waited_ms: 250,
        },
    );
    golden.check(
        "detach_volume_request",
        &v1::DetachVolumeRequest {
            head: head(),
            volume_id: A.into(),
            epoch: 7,
        },
    );
    golden.check(
        "detach_volume_reply",
        &v1::DetachVolumeReply { changed: true },
    );
    golden.check(
        "begin_format_request",
        &v1::BeginFormatRequest {
            head: head(),
            volume_id: A.into(),
            epoch: 7,
        },
    );
    golden.check(
        "begin_format_reply",
        &v1::BeginFormatReply {
            filesystem_uuid: B.into(),
        },
    );
    golden.check(
        "finish_format_request",
        &v1::FinishFormatRequest {
            head: head(),
            volume_id: A.into(),
            epoch: 7,
            filesystem_uuid: B.into(),
        },
    );
    golden.empty::<v1::FinishFormatReply>("finish_format_reply");
    golden.check(
        "report_inventory_request",
        &v1::ReportInventoryRequest {
            items: vec![v1::InventoryItem {
                volume_id: A.into(),
                epoch: 7,
                mounted: true,
            }],
        },
    );
    golden.check(
        "report_inventory_reply",
        &v1::ReportInventoryReply {
            attached: vec![volume()],
            superseded_ids: vec![A.into()],
            wanted_ids: vec![B.into()],
        },
    );
    golden.empty::<v1::WatchRequest>("watch_request");
    golden.check(
        "notice_wanted",
        &v1::Notice {
            kind: Some(v1::notice::Kind::Wanted(v1::Wanted {
                volume_id: A.into(),
                by_vm: "swarm03".into(),
            })),
        },
    );
    golden.check(
        "notice_superseded",
        &v1::Notice {
            kind: Some(v1::notice::Kind::Superseded(v1::Superseded {
                volume_id: A.into(),
                epoch: 7,
            })),
        },
    );
}

fn admin_messages(golden: &mut Golden) {
    golden.empty::<v1::StatusRequest>("status_request");
    golden.check(
        "status_reply",
        &v1::StatusReply {
            program: "vdvsd 0.1.0".into(),
            host_name: "esx01".into(),
            host_id: B.into(),
            host_kind: "lab".into(),
            uptime_ms: 1,
            protocol_min: 1,
            protocol_max: 2,
            guests_connected: 3,
            vms: 4,
            volumes: 5,
            attached: 6,
            unresolved_operations: 7,
            open_to_all: true,
            warnings: vec!["look".into()],
            datastores: vec![datastore()],
            lock_hint: "vdvs vmgroup rm --name=_DEFAULT".into(),
            config_mode: "MultiNode".into(),
            pid: 8,
            log_file: "/var/log/vdvsd.log".into(),
            log_level: "info".into(),
            port: 1019,
            hosts: 9,
        },
    );
    golden.empty::<v1::ListAllVolumesRequest>("list_all_volumes_request");
    golden.check(
        "list_all_volumes_reply",
        &v1::ListAllVolumesReply {
            volumes: vec![admin_volume()],
            unreadable_datastores: vec!["nfs01".into()],
        },
    );
    golden.check(
        "inspect_volume_request",
        &v1::InspectVolumeRequest {
            address: "_DEFAULT/postgres_vol@vsanDatastore".into(),
        },
    );
    golden.check(
        "inspect_volume_reply",
        &v1::InspectVolumeReply {
            volume: Some(admin_volume()),
            record_json: "{}".into(),
        },
    );
    golden.check(
        "remove_volume_request",
        &v1::RemoveVolumeRequest {
            head: head(),
            address: "postgres_vol".into(),
        },
    );
    golden.check(
        "remove_volume_reply",
        &v1::RemoveVolumeReply {
            id: A.into(),
            full_name: "postgres_vol@vsanDatastore".into(),
        },
    );
    golden.empty::<v1::ListVmsRequest>("list_vms_request");
    golden.check(
        "list_vms_reply",
        &v1::ListVmsReply {
            vms: vec![v1::AdminVm {
                name: "swarm01".into(),
                uuid: B.into(),
                config_path: "[vsanDatastore] swarm01/swarm01.vmx".into(),
                power: "on".into(),
                connected: true,
                plugin: "vdvs-plugin 0.1.0".into(),
                group: "_DEFAULT".into(),
                volumes: vec!["postgres_vol@vsanDatastore".into()],
                host: "esx01".into(),
                told_at_unix_ms: 1_700_000_000_007,
            }],
        },
    );
    golden.empty::<v1::ListDatastoresRequest>("list_datastores_request");
    golden.check(
        "list_datastores_reply",
        &v1::ListDatastoresReply {
            datastores: vec![datastore()],
        },
    );
}

fn head() -> Option<v1::RequestHead> {
    Some(v1::RequestHead {
        request_id: A.into(),
    })
}

fn options() -> BTreeMap<String, String> {
    [
        ("size", "10gb"),
        ("fstype", "ext4"),
        ("access", "read-write"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

fn volume() -> v1::Volume {
    v1::Volume {
        id: A.into(),
        name: "postgres_vol".into(),
        datastore: "vsanDatastore".into(),
        group: "_DEFAULT".into(),
        capacity_bytes: 10 << 30,
        allocated_bytes: 4096,
        fstype: "ext4".into(),
        filesystem: v1::FilesystemState::Ready.into(),
        filesystem_uuid: B.into(),
        layout: v1::Layout::Data.into(),
        options: options(),
        created_unix_ms: 1_700_000_000_000,
        created_by: "swarm01".into(),
        state: "attached".into(),
        attachment: Some(v1::Attachment {
            vm_name: "swarm02".into(),
            vm_uuid: B.into(),
            host_name: "esx01".into(),
            since_unix_ms: 1_700_000_000_001,
            read_only: true,
            locator: Some(v1::Locator {
                kind: Some(v1::locator::Kind::Scsi(v1::ScsiLocator {
                    controller_pci_slot: 160,
                    target: 3,
                })),
            }),
        }),
        epoch: 7,
        waiting: "swarm03 waits".into(),
    }
}

fn admin_volume() -> v1::AdminVolume {
    v1::AdminVolume {
        volume: Some(volume()),
        operation: "attach".into(),
        operation_since_unix_ms: 1_700_000_000_002,
        attention: "look".into(),
        disk_path: "[vsanDatastore] dockvols/x/postgres_vol.12345678.vmdk".into(),
        policy: "gold".into(),
        protected: true,
        orphan: true,
        told_by: "esx02".into(),
        told_at_unix_ms: 1_700_000_000_008,
    }
}

fn datastore() -> v1::Datastore {
    v1::Datastore {
        name: "vsanDatastore".into(),
        r#type: "vsan".into(),
        accessible: true,
        capacity_bytes: 1 << 40,
        free_bytes: 1 << 39,
        provisioned_bytes: 1 << 38,
        used_bytes: 1 << 37,
        volumes: 5,
        problem: "none".into(),
    }
}
