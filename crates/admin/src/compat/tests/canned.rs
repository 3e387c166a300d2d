//! What the agent of these tests answers.

use std::collections::BTreeMap;

use vdvs_api::v1;

/// A reply from a table.
pub(super) trait Canned {
    /// The reply to this request, as its debug text shows it.
    fn canned(request: &str) -> Self;
}

macro_rules! canned {
    ($($reply:ident($request:ident) $body:expr;)+) => {
        $(impl Canned for v1::$reply {
            fn canned($request: &str) -> Self {
                $body
            }
        })+
    };
}

const ID: &str = "0192aaaa-bbbb-7ccc-8ddd-eeee12345678";
/// Mon Aug 21 04:36:08 2017
const THEN: i64 = 1_503_290_168_000;

canned! {
    StatusReply(_request) status();
    ListAllVolumesReply(_request) volumes();
    InspectVolumeReply(_request) v1::InspectVolumeReply {
        volume: Some(volume("vol1", "sharedVmfs-0", "_DEFAULT")),
        record_json: "{\"format\":1}".to_owned(),
    };
    RemoveVolumeReply(_request) v1::RemoveVolumeReply {
        id: ID.to_owned(),
        full_name: "vol1@sharedVmfs-0".to_owned(),
    };
    ListVmsReply(_request) v1::ListVmsReply {
        vms: vec![v1::AdminVm {
            name: "a<b> \"c\" & d".to_owned(),
            uuid: "564d0000-0000-0000-0000-000000000001".to_owned(),
            power: "on".to_owned(),
            group: "dev".to_owned(),
            host: "esx01".to_owned(),
            ..v1::AdminVm::default()
        }],
    };
    ListDatastoresReply(_request) v1::ListDatastoresReply { datastores: datastores() };
    ListGroupsReply(request) groups(request);
    ListPoliciesReply(_request) policies();
    ShowConfigReply(_request) v1::ShowConfigReply {
        mode: "MultiNode".to_owned(),
        local_path: "/etc/vdvs/config.db".to_owned(),
        shared_location: "sharedVmfs-0".to_owned(),
        ..v1::ShowConfigReply::default()
    };
    ConfigHistoryReply(_request) v1::ConfigHistoryReply {
        changes: vec![v1::ConfigChange {
            version: 7,
            at_unix_ms: THEN,
            who: "root".to_owned(),
            host: "esx01".to_owned(),
            what: "vmgroup dev was created".to_owned(),
        }],
    };
    BackupConfigReply(_request) v1::BackupConfigReply { json: "{\"format\": 1}\n".to_owned() };
    WhyVolumeReply(_request) v1::WhyVolumeReply {
        volume: Some(volume("vol1", "sharedVmfs-0", "_DEFAULT")),
        headline: "vol1 waits for VM swarm02".to_owned(),
        command: "vdvs volume detach vol1 --force".to_owned(),
        ..v1::WhyVolumeReply::default()
    };
    ListHostsReply(_request) v1::ListHostsReply {
        hosts: vec![v1::AdminHost {
            name: "esx01".to_owned(),
            local: true,
            ..v1::AdminHost::default()
        }],
    };
    ListAuditReply(_request) v1::ListAuditReply {
        entries: vec![v1::AuditEntry {
            number: 1,
            at_unix_ms: THEN,
            who: "root".to_owned(),
            verb: "vmgroup create".to_owned(),
            object: "dev".to_owned(),
            outcome: "done".to_owned(),
            ..v1::AuditEntry::default()
        }],
        ..v1::ListAuditReply::default()
    };
    ShowWorkReply(request) v1::ShowWorkReply {
        work: Some(work(if request.contains("w-failed") { "failed" } else { "done" })),
    };
    ListWorksReply(_request) v1::ListWorksReply { works: vec![work("running")] };
    DoctorReply(_request) v1::DoctorReply {
        findings: vec![v1::Finding {
            name: "stale-name".to_owned(),
            object: "old@sharedVmfs-0".to_owned(),
            text: "nobody has it".to_owned(),
            risk: "warning".to_owned(),
            since_unix_ms: THEN,
            command: "vdvs doctor --fix=stale-name old@sharedVmfs-0".to_owned(),
            ..v1::Finding::default()
        }],
        host: "esx01".to_owned(),
        ..v1::DoctorReply::default()
    };
    RepairReply(_request) v1::RepairReply {
        repaired: vec![v1::Repaired {
            name: "stale-name".to_owned(),
            object: "old@sharedVmfs-0".to_owned(),
            outcome: "repaired".to_owned(),
            text: "nobody has it".to_owned(),
            risk: "warning".to_owned(),
            ..v1::Repaired::default()
        }],
    };
    FsckReply(_request) v1::FsckReply {
        findings: vec![v1::FsckFinding {
            datastore: "sharedVmfs-0".to_owned(),
            name: "lost-record".to_owned(),
            path: "dockvols/11111111-1111-1111-1111-111111111111/db.0a1b2c3d.vmdk".to_owned(),
            volume: "db@sharedVmfs-0".to_owned(),
            what: "the disk has no record".to_owned(),
            action: "a record would be made".to_owned(),
            state: "repairable".to_owned(),
        }],
        ..v1::FsckReply::default()
    };
    ChangeReply(request) change(request);
}

fn volume(name: &str, datastore: &str, group: &str) -> v1::AdminVolume {
    let options = [
        ("diskformat", "thin"),
        ("access", "read-write"),
        ("fstype", "ext4"),
    ];
    v1::AdminVolume {
        volume: Some(v1::Volume {
            id: ID.to_owned(),
            name: name.to_owned(),
            datastore: datastore.to_owned(),
            group: group.to_owned(),
            capacity_bytes: 100 << 20,
            allocated_bytes: 13 << 20,
            fstype: "ext4".to_owned(),
            filesystem: v1::FilesystemState::Never.into(),
            layout: v1::Layout::Data.into(),
            options: options.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            created_unix_ms: THEN,
            created_by: "ubuntu-VM0.0".to_owned(),
            state: "free".to_owned(),
            ..v1::Volume::default()
        }),
        ..v1::AdminVolume::default()
    }
}

fn volumes() -> v1::ListAllVolumesReply {
    let mut attached = volume("db", "vsanDatastore", "dev");
    if let Some(v) = &mut attached.volume {
        v.state = "attached".to_owned();
        v.capacity_bytes = 3 << 29;
        v.options = BTreeMap::from([("attach-as".to_owned(), "persistent".to_owned())]);
        v.created_by = String::new();
        v.attachment = Some(v1::Attachment {
            vm_name: "swarm\u{1b}[31m01\nx".to_owned(),
            vm_uuid: "564d0000-0000-0000-0000-000000000001".to_owned(),
            host_name: "esx01".to_owned(),
            ..v1::Attachment::default()
        });
    }
    let mut gold = volume("gold", "vsanDatastore", "dev");
    gold.policy = "gold".to_owned();
    let mut orphan = volume(
        "lost",
        "sharedVmfs-0",
        "564d0000-0000-0000-0000-00000000aaaa",
    );
    orphan.orphan = true;
    v1::ListAllVolumesReply {
        volumes: vec![
            gold,
            attached,
            orphan,
            volume("vol1", "sharedVmfs-0", "_DEFAULT"),
        ],
        unreadable_datastores: vec!["nfs".to_owned()],
    }
}

fn datastores() -> Vec<v1::Datastore> {
    let datastore = |name: &str, kind: &str| v1::Datastore {
        name: name.to_owned(),
        r#type: kind.to_owned(),
        accessible: true,
        ..v1::Datastore::default()
    };
    vec![
        datastore("sharedVmfs-0", "vmfs"),
        datastore("vsanDatastore", "vsan"),
    ]
}

fn status() -> v1::StatusReply {
    v1::StatusReply {
        program: "vdvsd 0.1.0".to_owned(),
        host_name: "esx01".to_owned(),
        pid: 4711,
        port: 1019,
        log_file: "/var/log/vdvsd.log".to_owned(),
        log_level: "info".to_owned(),
        config_mode: "MultiNode".to_owned(),
        ..v1::StatusReply::default()
    }
}

fn groups(request: &str) -> v1::ListGroupsReply {
    let member = |uuid: &str, name: &str| v1::GroupMember {
        uuid: uuid.to_owned(),
        name: name.to_owned(),
        ..v1::GroupMember::default()
    };
    let privilege =
        |datastore: &str, allow_create, max_volume_bytes, total_bytes| v1::GroupPrivilege {
            datastore: datastore.to_owned(),
            allow_create,
            max_volume_bytes,
            total_bytes,
        };
    let dev = v1::Group {
        id: "8f6f2b5c-0000-4000-8000-000000000001".to_owned(),
        name: "dev".to_owned(),
        description: "The developers' VMs".to_owned(),
        default_datastore: "vsanDatastore".to_owned(),
        members: vec![
            member("564d0000-0000-0000-0000-000000000001", "swarm01"),
            member("564d0000-0000-0000-0000-000000000002", ""),
        ],
        privileges: vec![
            privilege("vsanDatastore", true, 0, 0),
            privilege("ds2", false, 500 << 20, 1 << 30),
        ],
        ..v1::Group::default()
    };
    let default = v1::Group {
        id: "11111111-1111-1111-1111-111111111111".to_owned(),
        name: "_DEFAULT".to_owned(),
        description: "This is a default vmgroup".to_owned(),
        default_datastore: "_VM_DS".to_owned(),
        everybody_else: true,
        ..v1::Group::default()
    };
    let mut groups = vec![default, dev];
    groups
        .retain(|g| request.contains("name: \"\"") || request.contains(&format!("\"{}\"", g.name)));
    v1::ListGroupsReply {
        groups,
        ..v1::ListGroupsReply::default()
    }
}

fn policies() -> v1::ListPoliciesReply {
    let policy = |name: &str, content: &str, volumes| v1::Policy {
        name: name.to_owned(),
        content: content.to_owned(),
        volumes,
        ..v1::Policy::default()
    };
    let gold = policy("gold", "((\"hostFailuresToTolerate\" i1))", 2);
    v1::ListPoliciesReply {
        policies: vec![gold, policy("new", "((\"stripeWidth\" i2))", 0)],
    }
}

fn work(state: &str) -> v1::Work {
    v1::Work {
        id: "w-1".to_owned(),
        what: "policy gold is applied".to_owned(),
        done: 2,
        total: 2,
        state: state.to_owned(),
        lines: vec!["2 volumes have the new content".to_owned()],
        error: if state == "failed" {
            "one volume failed".to_owned()
        } else {
            String::new()
        },
        started_unix_ms: THEN,
        ..v1::Work::default()
    }
}

fn change(request: &str) -> v1::ChangeReply {
    if request.contains("change: Some(Init(") {
        return v1::ChangeReply {
            lines: vec!["Creating a new configuration on datastore ds2".to_owned()],
            warnings: vec!["esx02 does not see it".to_owned()],
            work: None,
        };
    }
    // An update of a policy takes a while; one of this content fails in the end.
    let updates = request.contains("how: Update");
    let mut begun = work("running");
    if request.contains("unsatisfiable") {
        begun.id = "w-failed".to_owned();
    }
    v1::ChangeReply {
        work: updates.then_some(begun),
        ..v1::ChangeReply::default()
    }
}
