//! What the fake agent knows.

use vdvs_api::v1;

pub(crate) const ID: &str = "0192aaaa-bbbb-7ccc-8ddd-eeee12345678";
const VM: &str = "564d0000-0000-0000-0000-00000000000";

/// 2023-11-14T22:13:20Z
const THEN: i64 = 1_700_000_000_000;

/// So long ago that what is shown of it does not change while a test runs.
#[expect(
    clippy::disallowed_methods,
    reason = "the fake agent has no clock port"
)]
pub(crate) fn days_ago() -> i64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap() - (3 * 86_400 + 5_400) * 1000
}

fn volume(id: u8, name: &str, group: &str) -> v1::AdminVolume {
    v1::AdminVolume {
        volume: Some(v1::Volume {
            id: format!("0192aaaa-bbbb-7ccc-8ddd-eeee123456{id:02}"),
            name: name.into(),
            datastore: "vsanDatastore".into(),
            group: group.into(),
            capacity_bytes: 1 << 30,
            allocated_bytes: 47 << 20,
            fstype: "ext4".into(),
            filesystem: v1::FilesystemState::Ready.into(),
            filesystem_uuid: "0f0f0f0f-0000-4000-8000-000000000001".into(),
            layout: v1::Layout::Data.into(),
            created_unix_ms: THEN,
            created_by: "swarm02".into(),
            state: "free".into(),
            options: [
                ("access", "read-write"),
                ("attach-as", "independent_persistent"),
                ("diskformat", "thin"),
                ("fstype", "ext4"),
                ("size", "1gb"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
            ..v1::Volume::default()
        }),
        disk_path: format!("dockvols/x/{name}.12345678.vmdk"),
        ..v1::AdminVolume::default()
    }
}

fn attached(mut volume: v1::AdminVolume, vm: &str, read_only: bool) -> v1::AdminVolume {
    let v = volume.volume.as_mut().unwrap();
    v.state = "attached".into();
    v.epoch = 4;
    v.attachment = Some(v1::Attachment {
        vm_name: vm.into(),
        vm_uuid: format!("{VM}1"),
        host_name: "esx01".into(),
        since_unix_ms: THEN + 60_000,
        read_only,
        locator: Some(v1::Locator {
            kind: Some(v1::locator::Kind::Path("/dev/loop3".into())),
        }),
    });
    volume
}

pub(crate) fn volumes() -> Vec<v1::AdminVolume> {
    let mut stuck = attached(volume(3, "wiki_uploads", "_DEFAULT"), "swarm03", false);
    let inner = stuck.volume.as_mut().unwrap();
    inner.state = "detaching".into();
    inner.waiting = "VM swarm01 waits for it".into();
    stuck.operation = "detach".into();
    stuck.operation_since_unix_ms = THEN + 120_000;
    stuck.attention = "detach unfinished since 41 s".into();
    let mut orphan = volume(5, "old", "");
    orphan.orphan = true;
    let mut elsewhere = volume(6, "elsewhere", "test");
    elsewhere.told_by = "esx02".into();
    elsewhere.told_at_unix_ms = days_ago();
    let mut gold = volume(7, "ledger", "dev");
    gold.policy = "gold".into();
    gold.protected = true;
    gold.volume.as_mut().unwrap().capacity_bytes = 5 << 40;
    vec![
        attached(volume(1, "postgres_vol", "dev"), "swarm02", false),
        attached(volume(2, "reports", "dev"), "swarm01", true),
        stuck,
        volume(
            4,
            "a-volume-with-a-name-that-is-long-because-somebody-liked-it-so",
            "test",
        ),
        orphan,
        elsewhere,
        gold,
        volume(8, "größe-Ж-雪 \u{1b}[31m\u{202e}x", "dev"),
    ]
}

pub(crate) fn vms() -> Vec<v1::AdminVm> {
    let vm = |n: u8, name: &str, volumes: &[&str]| v1::AdminVm {
        name: name.into(),
        uuid: format!("{VM}{n}"),
        config_path: format!("[vsanDatastore] {name}/{name}.vmx"),
        power: "on".into(),
        connected: true,
        plugin: "vdvs-plugin 0.1.0".into(),
        group: "dev".into(),
        volumes: volumes.iter().map(|v| (*v).to_owned()).collect(),
        host: "esx01".into(),
        told_at_unix_ms: 0,
    };
    let mut away = vm(3, "swarm03\n\u{7}", &["wiki_uploads@vsanDatastore"]);
    away.host = "esx02".into();
    away.connected = false;
    away.power = "suspended".into();
    away.group = String::new();
    away.told_at_unix_ms = days_ago();
    let two = ["postgres_vol@vsanDatastore", "reports@vsanDatastore"];
    vec![vm(1, "swarm01", &[]), vm(2, "swarm02", &two), away]
}

pub(crate) fn datastores() -> Vec<v1::Datastore> {
    let vsan = v1::Datastore {
        name: "vsanDatastore".into(),
        r#type: "vsan".into(),
        accessible: true,
        capacity_bytes: 4 << 40,
        free_bytes: 3 << 40,
        provisioned_bytes: 5 << 30,
        used_bytes: 235 << 20,
        volumes: 5,
        problem: String::new(),
    };
    let lost = v1::Datastore {
        name: "nfs".into(),
        r#type: "nfs".into(),
        accessible: false,
        problem: "no answer within 5 s; its volumes cannot be used until it is back".into(),
        ..vsan.clone()
    };
    vec![vsan, lost]
}

pub(crate) fn status(empty: bool) -> v1::StatusReply {
    let mut status = v1::StatusReply {
        program: "vdvsd 0.1.0".into(),
        host_name: "esx01".into(),
        host_id: "0192aaaa-0000-7000-8000-000000000001".into(),
        host_kind: "lab".into(),
        uptime_ms: 7_384_000,
        protocol_min: 1,
        protocol_max: 1,
        pid: 4711,
        port: 1019,
        config_mode: "NotConfigured".into(),
        log_file: "/var/log/vdvsd.log".into(),
        log_level: "INFO".into(),
        ..v1::StatusReply::default()
    };
    if !empty {
        status.guests_connected = 2;
        status.vms = 3;
        status.volumes = 8;
        status.attached = 3;
        status.unresolved_operations = 1;
        status.hosts = 2;
        status.config_mode = "MultiNode".into();
        status.open_to_all = true;
        status.lock_hint = "to close it: vdvs vmgroup rm _DEFAULT".into();
        status.datastores = datastores();
        status.warnings = vec!["one operation is unresolved: see vdvs volume ls".into()];
    }
    status
}

pub(crate) fn groups() -> Vec<v1::Group> {
    let member = |n: u8, name: &str, host: &str, found| v1::GroupMember {
        uuid: format!("{VM}{n}"),
        name: name.into(),
        host: host.into(),
        found,
    };
    let privilege = |datastore: &str, allow_create, max, total| v1::GroupPrivilege {
        datastore: datastore.into(),
        allow_create,
        max_volume_bytes: max,
        total_bytes: total,
    };
    let default = v1::Group {
        id: "11111111-1111-1111-1111-111111111111".into(),
        name: "_DEFAULT".into(),
        description: "This is a default vmgroup".into(),
        default_datastore: "_VM_DS".into(),
        everybody_else: true,
        privileges: vec![privilege("_ALL_DS", true, 0, 0)],
        home: "vsanDatastore".into(),
        ..v1::Group::default()
    };
    let usage = |datastore: &str, used, total, problem: &str| v1::GroupUsage {
        datastore: datastore.into(),
        volumes: 4,
        used_bytes: used,
        total_bytes: total,
        problem: problem.into(),
    };
    let dev = v1::Group {
        id: "0192cccc-0000-7000-8000-000000000001".into(),
        name: "dev".into(),
        description: "Developers, and whoever they let in; ask the storage team before it grows"
            .into(),
        default_datastore: "vsanDatastore".into(),
        default_size_bytes: 10 << 30,
        members: vec![
            member(1, "swarm01", "esx01", true),
            member(3, "swarm03", "esx02", false),
            member(4, "", "", false),
        ],
        privileges: vec![
            privilege("vsanDatastore", true, 0, 1 << 30),
            privilege("ds2", false, 500 << 20, 1 << 30),
        ],
        usage: vec![
            usage("vsanDatastore", 768 << 20, 1 << 30, ""),
            usage("ds2", 0, 0, "cannot be read now: no answer within 5 s"),
        ],
        home: "vsanDatastore".into(),
        ..v1::Group::default()
    };
    vec![default, dev]
}

pub(crate) fn policies() -> Vec<v1::Policy> {
    let policy = |name: &str, content: &str, volumes, outdated| v1::Policy {
        name: name.into(),
        content: content.into(),
        volumes,
        outdated,
    };
    vec![
        policy(
            "gold",
            "((\"hostFailuresToTolerate\" i2) (\"stripeWidth\" i4) (\"forceProvisioning\" i1))",
            3,
            1,
        ),
        policy("bronze", "((\"hostFailuresToTolerate\" i0))", 0, 0),
    ]
}

pub(crate) fn config(empty: bool) -> v1::ShowConfigReply {
    if empty {
        return v1::ShowConfigReply {
            mode: "NotConfigured".into(),
            ..v1::ShowConfigReply::default()
        };
    }
    let datastore = |name: &str, state: &str, problem: &str| v1::ConfigDatastore {
        datastore: name.into(),
        datastore_id: "0192dddd-0000-7000-8000-000000000001".into(),
        config_id: "0192eeee-0000-7000-8000-000000000001".into(),
        home: "vsanDatastore".into(),
        state: state.into(),
        problem: problem.into(),
    };
    v1::ShowConfigReply {
        mode: "MultiNode".into(),
        local_path: "/var/lib/vdvsd/store.db".into(),
        shared_location: "[vsanDatastore] dockvols/.vdvs/config".into(),
        datastores: vec![
            datastore("vsanDatastore", "governed", ""),
            datastore(
                "nfs",
                "closed",
                "its volumes are the original's; take its configuration over with: vdvs config import FILE --datastore=nfs",
            ),
        ],
        documents: vec![v1::ConfigDocument {
            id: "0192eeee-0000-7000-8000-000000000001".into(),
            home: "vsanDatastore".into(),
            version: 17,
            changed_unix_ms: THEN,
            changed_by: "root".into(),
            groups: 2,
            policies: 2,
            kept: true,
        }],
    }
}

pub(crate) fn history() -> Vec<v1::ConfigChange> {
    let change = |version, who: &str, what: &str| v1::ConfigChange {
        version,
        at_unix_ms: THEN,
        who: who.into(),
        host: "esx01".into(),
        what: what.into(),
    };
    vec![
        change(
            17,
            "root",
            "vmgroup access set dev on vsanDatastore: total size 1GB (was unlimited)",
        ),
        change(16, "root", "vmgroup dev created"),
    ]
}

pub(crate) fn hosts() -> Vec<v1::AdminHost> {
    let here = v1::AdminHost {
        name: "esx01".into(),
        id: "0192aaaa-0000-7000-8000-000000000001".into(),
        kind: "lab".into(),
        program: "vdvsd 0.1.0".into(),
        local: true,
        told_at_unix_ms: days_ago(),
        vms: 2,
        guests_connected: 2,
        volumes_held: 3,
        datastores: vec!["vsanDatastore".into(), "nfs".into()],
        warnings: vec![],
        config_id: "0192eeee-0000-7000-8000-000000000001".into(),
        config_version: 17,
    };
    let away = v1::AdminHost {
        name: "esx02".into(),
        id: "0192aaaa-0000-7000-8000-000000000002".into(),
        local: false,
        warnings: vec!["it has not told anything for 3 days: see whether it runs".into()],
        config_version: 12,
        ..here.clone()
    };
    vec![here, away]
}

pub(crate) fn audit() -> Vec<v1::AuditEntry> {
    let entry =
        |number, who: &str, verb: &str, count, outcome: &str, detail: &str| v1::AuditEntry {
            number,
            at_unix_ms: THEN,
            last_unix_ms: THEN + 1000 * i64::from(count - 1),
            count,
            who: who.into(),
            verb: verb.into(),
            object: "postgres_vol@vsanDatastore".into(),
            volume_id: ID.into(),
            outcome: outcome.into(),
            detail: detail.into(),
        };
    vec![
        entry(
            44,
            "VM swarm03",
            "create",
            12,
            "QUOTA_EXCEEDED",
            "The total volume size exceeds the usage quota",
        ),
        entry(43, "root", "volume set", 1, "done", "access=read-only"),
        entry(41, "VM swarm02", "attach", 1, "done", ""),
    ]
}

pub(crate) fn why() -> v1::WhyVolumeReply {
    let event = |after: i64, kind: &str, who: &str, epoch, count, text: &str| v1::VolumeEvent {
        at_unix_ms: THEN + after * 1000,
        host: "esx01".into(),
        kind: kind.into(),
        who: who.into(),
        epoch,
        text: text.into(),
        count,
    };
    v1::WhyVolumeReply {
        volume: volumes().into_iter().nth(2),
        headline:
            "VM swarm01 waits for wiki_uploads@vsanDatastore, which VM swarm03 on host esx02 holds"
                .into(),
        events: vec![
            event(0, "created", "VM swarm02", 0, 1, "1GB, thin"),
            event(60, "attached", "VM swarm03", 4, 1, ""),
            event(
                180,
                "waiting",
                "VM swarm01",
                0,
                5,
                "no proof that swarm03 cannot write",
            ),
        ],
        proof: "missing: host esx02 is silent and the lock on the disk is held".into(),
        resolves: "when esx02 answers, or 5 s after its lock lapses".into(),
        command: "vdvs volume detach --force wiki_uploads@vsanDatastore".into(),
        missing: vec!["host esx02 told 3 days ago".into()],
    }
}

pub(crate) fn work(id: &str, step: u64) -> v1::Work {
    let failing = id == "w-failing";
    let state = match (step, failing) {
        (0..=2, _) => "running",
        (_, true) => "failed",
        (_, false) => "done",
    };
    let ended = state != "running";
    v1::Work {
        id: id.into(),
        what: "move 12 volumes to vmgroup dev".into(),
        done: (step * 4).min(12),
        total: 12,
        state: state.into(),
        lines: if ended {
            vec!["moved postgres_vol".into(), "warning: look".into()]
        } else {
            vec![]
        },
        error: if failing && ended {
            "reports is being detached".into()
        } else {
            String::new()
        },
        reason: if failing && ended {
            "IN_USE".into()
        } else {
            String::new()
        },
        started_unix_ms: THEN,
    }
}

pub(crate) fn damage(repair: bool, empty: bool) -> v1::FsckReply {
    let mut findings = vec![
        v1::FsckFinding {
            datastore: "vsanDatastore".into(),
            name: "damaged-record".into(),
            path: "dockvols/11111111-1111-1111-1111-111111111111/ledger.0a1b2c3d.vdvs".into(),
            volume: "ledger@vsanDatastore".into(),
            what: "no version of it is whole".into(),
            action: "a record would be made: volume of 10GB, attached to VM swarm02; its file system is never formatted"
                .into(),
            state: "repairable".into(),
        },
        v1::FsckFinding {
            datastore: "vsanDatastore".into(),
            name: "lost-record".into(),
            path: "dockvols/11111111-1111-1111-1111-111111111111/wiki.0a1b2c3e.vmdk".into(),
            volume: "wiki@vsanDatastore".into(),
            what: "the disk has no record".into(),
            action: "no VM of this host has it, and it is open by esx02; run fsck on the host of the VM that has it"
                .into(),
            state: "left".into(),
        },
        v1::FsckFinding {
            datastore: "sharedVmfs-0".into(),
            name: "newer-format".into(),
            path: "dockvols/.vdvs/datastore.json".into(),
            volume: String::new(),
            what: "the layout of sharedVmfs-0 was written by a newer version (format 2, this program knows 1)".into(),
            action: "nothing on this datastore was touched; upgrade this host".into(),
            state: "left".into(),
        },
    ];
    for finding in findings
        .iter_mut()
        .filter(|f| repair && f.state == "repairable")
    {
        finding.state = "repaired".into();
        finding.action = finding.action.replace("would be", "was");
    }
    let looked = v1::FsckLooked {
        datastore: "vsanDatastore".into(),
        records: 11,
        claims: 12,
        disks: 12,
        unread: String::new(),
    };
    let unread = v1::FsckLooked {
        datastore: "nfs01".into(),
        unread: "datastore nfs01 is unavailable: no answer within 8s".into(),
        ..v1::FsckLooked::default()
    };
    match empty {
        true => v1::FsckReply {
            looked: vec![looked],
            ..v1::FsckReply::default()
        },
        false => v1::FsckReply {
            findings,
            looked: vec![looked, unread],
            work: None,
        },
    }
}
