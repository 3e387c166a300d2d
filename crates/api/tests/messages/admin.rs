//! The administrator's messages about vmgroups, policies, the configuration, one volume, hosts, the audit and long work.

use std::collections::BTreeMap;

use vdvs_api::v1;
use vdvs_api::v1::change_config_request::Change as ConfigChange;
use vdvs_api::v1::change_group_request::Change;

use super::{A, B, Golden, admin_volume, head};

pub(crate) fn all(golden: &mut Golden) {
    groups(golden);
    policies(golden);
    config(golden);
    one_volume(golden);
    hosts_and_audit(golden);
    works(golden);
    doctor(golden);
    fsck(golden);
}

fn groups(golden: &mut Golden) {
    golden.check(
        "list_groups_request",
        &v1::ListGroupsRequest { name: "Dev".into() },
    );
    let group = v1::Group {
        id: A.into(),
        name: "Dev".into(),
        description: "developers".into(),
        default_datastore: "_VM_DS".into(),
        default_size_bytes: 1 << 30,
        everybody_else: true,
        members: vec![v1::GroupMember {
            uuid: B.into(),
            name: "swarm01".into(),
            host: "esx01".into(),
            found: true,
        }],
        privileges: vec![v1::GroupPrivilege {
            datastore: "_ALL_DS".into(),
            allow_create: true,
            max_volume_bytes: 500 << 20,
            total_bytes: 1 << 30,
        }],
        usage: vec![v1::GroupUsage {
            datastore: "vsanDatastore".into(),
            volumes: 2,
            used_bytes: 200 << 20,
            total_bytes: 1 << 30,
            problem: "none".into(),
        }],
        home: "vsanDatastore".into(),
    };
    golden.check(
        "list_groups_reply",
        &v1::ListGroupsReply {
            groups: vec![group],
            not_configured: true,
        },
    );
    let changes = [
        (
            "change_group_create",
            Change::Create(v1::CreateGroup {
                name: "Dev".into(),
                description: "developers".into(),
                default_datastore: "_VM_DS".into(),
                default_size: "1gb".into(),
                vms: vec!["swarm01".into()],
                volumes: v1::Volumes::Move.into(),
            }),
        ),
        (
            "change_group_update",
            Change::Update(v1::UpdateGroup {
                name: "Dev".into(),
                new_name: Some("Test".into()),
                description: Some(String::new()),
                default_datastore: Some("vsanDatastore".into()),
                default_size: Some("2gb".into()),
            }),
        ),
        (
            "change_group_remove",
            Change::Remove(v1::RemoveGroup {
                name: "Dev".into(),
                remove_volumes: true,
                force: true,
            }),
        ),
        (
            "change_group_members",
            Change::Members(v1::ChangeMembers {
                how: v1::change_members::How::Replace.into(),
                group: "Dev".into(),
                vms: vec![B.into()],
                volumes: v1::Volumes::Leave.into(),
                volume_names: vec!["postgres_vol".into()],
            }),
        ),
        (
            "change_group_privilege",
            Change::Privilege(v1::ChangePrivilege {
                how: v1::change_privilege::How::Set.into(),
                group: "Dev".into(),
                datastore: "vsanDatastore".into(),
                allow_create: Some("True".into()),
                max_size: Some("500MB".into()),
                total_size: Some("unlimited".into()),
            }),
        ),
    ];
    for (name, change) in changes {
        let message = v1::ChangeGroupRequest {
            head: head(),
            change: Some(change),
        };
        golden.check(name, &message);
    }
    golden.check(
        "change_reply",
        &v1::ChangeReply {
            lines: vec!["done".into()],
            warnings: vec!["look".into()],
            work: Some(work()),
        },
    );
}

fn policies(golden: &mut Golden) {
    golden.empty::<v1::ListPoliciesRequest>("list_policies_request");
    golden.check(
        "list_policies_reply",
        &v1::ListPoliciesReply {
            policies: vec![v1::Policy {
                name: "gold".into(),
                content: "((\"hostFailuresToTolerate\" i1))".into(),
                volumes: 3,
                outdated: 1,
            }],
        },
    );
    golden.check(
        "change_policy_request",
        &v1::ChangePolicyRequest {
            head: head(),
            how: v1::change_policy_request::How::Update.into(),
            name: "gold".into(),
            content: "((\"hostFailuresToTolerate\" i1))".into(),
        },
    );
}

fn config(golden: &mut Golden) {
    golden.empty::<v1::ShowConfigRequest>("show_config_request");
    golden.check(
        "show_config_reply",
        &v1::ShowConfigReply {
            mode: "MultiNode".into(),
            local_path: "/etc/vmware/vmdkops".into(),
            shared_location: "vsanDatastore".into(),
            datastores: vec![v1::ConfigDatastore {
                datastore: "vsanDatastore".into(),
                datastore_id: A.into(),
                config_id: B.into(),
                home: "vsanDatastore".into(),
                state: "governed".into(),
                problem: "none".into(),
            }],
            documents: vec![v1::ConfigDocument {
                id: B.into(),
                home: "vsanDatastore".into(),
                version: 4,
                changed_unix_ms: 1_700_000_000_003,
                changed_by: "user root (uid 0)".into(),
                groups: 2,
                policies: 1,
                kept: true,
            }],
        },
    );
    golden.empty::<v1::ConfigHistoryRequest>("config_history_request");
    golden.check(
        "config_history_reply",
        &v1::ConfigHistoryReply {
            changes: vec![v1::ConfigChange {
                version: 4,
                at_unix_ms: 1_700_000_000_003,
                who: "user root (uid 0)".into(),
                host: "esx01".into(),
                what: "vmgroup create Dev".into(),
            }],
        },
    );
    let changes = [
        (
            "change_config_init",
            ConfigChange::Init(v1::InitConfig {
                datastore: "vsanDatastore".into(),
                local: true,
                force: true,
            }),
        ),
        (
            "change_config_remove",
            ConfigChange::Remove(v1::RemoveConfig {
                local: true,
                unlink: true,
                confirm: true,
                no_backup: true,
            }),
        ),
        (
            "change_config_move",
            ConfigChange::Move(v1::MoveConfig {
                to: "vsanDatastore".into(),
                force: true,
            }),
        ),
        (
            "change_config_restore",
            ConfigChange::Restore(v1::RestoreConfig { json: "{}".into() }),
        ),
        (
            "change_config_import",
            ConfigChange::Import(v1::ImportConfig {
                database: b"SQLite format 3\0".to_vec(),
                datastore: "vsanDatastore".into(),
            }),
        ),
    ];
    for (name, change) in changes {
        let message = v1::ChangeConfigRequest {
            head: head(),
            dry_run: true,
            change: Some(change),
        };
        golden.check(name, &message);
    }
    golden.empty::<v1::BackupConfigRequest>("backup_config_request");
    golden.check(
        "backup_config_reply",
        &v1::BackupConfigReply { json: "{}".into() },
    );
}

fn one_volume(golden: &mut Golden) {
    golden.check(
        "set_volume_request",
        &v1::SetVolumeRequest {
            head: head(),
            address: "postgres_vol".into(),
            group: "Dev".into(),
            options: BTreeMap::from([("access".into(), "read-only".into())]),
            protect: Some(false),
        },
    );
    golden.check(
        "move_volume_request",
        &v1::MoveVolumeRequest {
            head: head(),
            address: "postgres_vol".into(),
            to_group: "Dev".into(),
            force: true,
        },
    );
    golden.check(
        "take_volume_request",
        &v1::TakeVolumeRequest {
            head: head(),
            address: "postgres_vol".into(),
            force: true,
        },
    );
    golden.check(
        "prepare_vms_request",
        &v1::PrepareVmsRequest {
            head: head(),
            vms: vec!["swarm01".into(), "swarm02".into()],
            controllers: 4,
        },
    );
    golden.check(
        "why_volume_request",
        &v1::WhyVolumeRequest {
            address: "postgres_vol".into(),
        },
    );
    golden.check(
        "why_volume_reply",
        &v1::WhyVolumeReply {
            volume: Some(admin_volume()),
            headline: "swarm03 waits".into(),
            events: vec![v1::VolumeEvent {
                at_unix_ms: 1_700_000_000_004,
                host: "esx01".into(),
                kind: "attached".into(),
                who: "VM swarm01".into(),
                epoch: 7,
                text: "attached".into(),
                count: 2,
            }],
            proof: "not needed".into(),
            resolves: "never".into(),
            command: "vdvs volume detach".into(),
            missing: vec!["esx02".into()],
        },
    );
}

fn hosts_and_audit(golden: &mut Golden) {
    golden.empty::<v1::ListHostsRequest>("list_hosts_request");
    golden.check(
        "list_hosts_reply",
        &v1::ListHostsReply {
            hosts: vec![v1::AdminHost {
                name: "esx01".into(),
                id: B.into(),
                kind: "lab".into(),
                program: "vdvsd 0.1.0".into(),
                local: true,
                told_at_unix_ms: 1_700_000_000_005,
                vms: 3,
                guests_connected: 2,
                volumes_held: 1,
                datastores: vec!["vsanDatastore".into()],
                warnings: vec!["look".into()],
                config_id: A.into(),
                config_version: 4,
            }],
        },
    );
    golden.check(
        "list_audit_request",
        &v1::ListAuditRequest {
            since_unix_ms: 1,
            until_unix_ms: 2,
            who: "root".into(),
            verb: "delete".into(),
            object: "postgres_vol".into(),
            denials_only: true,
            before: 9,
            limit: 10,
        },
    );
    golden.check(
        "list_audit_reply",
        &v1::ListAuditReply {
            entries: vec![v1::AuditEntry {
                number: 8,
                at_unix_ms: 1,
                last_unix_ms: 2,
                count: 3,
                who: "user root (uid 0)".into(),
                verb: "delete".into(),
                object: "postgres_vol@vsanDatastore".into(),
                volume_id: A.into(),
                outcome: "done".into(),
                detail: "none".into(),
            }],
            more: true,
            host: "esx01".into(),
        },
    );
}

fn work() -> v1::Work {
    v1::Work {
        id: A.into(),
        what: "policy update gold".into(),
        done: 1,
        total: 2,
        state: "failed".into(),
        lines: vec!["v@vsanDatastore: refused".into()],
        error: "refused".into(),
        reason: "HOST_FAILED".into(),
        started_unix_ms: 1_700_000_000_006,
    }
}

fn doctor(golden: &mut Golden) {
    golden.check(
        "doctor_request",
        &v1::DoctorRequest {
            name: "stale-claim".into(),
        },
    );
    let finding = v1::Finding {
        name: "powered-off-owner".into(),
        object: "v@ds".into(),
        text: "VM vm1 is off".into(),
        explanation: "a VM that is off still has the volume".into(),
        risk: "data".into(),
        danger: "deleting the VM deletes the volume".into(),
        since_unix_ms: 1_700_000_000_007,
        since_seen: true,
        repair: "takes the disk out".into(),
        command: "vdvs doctor --fix=powered-off-owner v@ds".into(),
        volume_id: A.into(),
    };
    golden.check(
        "doctor_reply",
        &v1::DoctorReply {
            findings: vec![finding],
            host: "esx01".into(),
            volumes: 1,
            vms: 2,
            hosts: 3,
        },
    );
    golden.check(
        "repair_request",
        &v1::RepairRequest {
            head: head(),
            name: "powered-off-owner".into(),
            object: "v@ds".into(),
            dry_run: true,
        },
    );
    let repaired = v1::Repaired {
        name: "powered-off-owner".into(),
        object: "v@ds".into(),
        outcome: "refused".into(),
        text: "it stands".into(),
        risk: "data".into(),
        command: "power it on".into(),
    };
    golden.check(
        "repair_reply",
        &v1::RepairReply {
            repaired: vec![repaired],
        },
    );
}

fn fsck(golden: &mut Golden) {
    golden.check(
        "fsck_request",
        &v1::FsckRequest {
            head: head(),
            datastores: vec!["ds".into()],
            repair: true,
            nobody_has: vec!["v@ds".into()],
            report_of: "w".into(),
        },
    );
    let finding = v1::FsckFinding {
        datastore: "ds".into(),
        name: "lost-record".into(),
        path: "dockvols/g/v.00000001.vmdk".into(),
        volume: "v@ds".into(),
        what: "the disk has no record".into(),
        action: "a record would be made".into(),
        state: "repairable".into(),
    };
    let looked = v1::FsckLooked {
        datastore: "ds".into(),
        records: 1,
        claims: 2,
        disks: 3,
        unread: "no answer".into(),
    };
    golden.check(
        "fsck_reply",
        &v1::FsckReply {
            findings: vec![finding],
            looked: vec![looked],
            work: Some(work()),
        },
    );
}

fn works(golden: &mut Golden) {
    golden.check(
        "show_work_request",
        &v1::ShowWorkRequest {
            id: A.into(),
            wait_ms: 1000,
        },
    );
    golden.check("show_work_reply", &v1::ShowWorkReply { work: Some(work()) });
    golden.empty::<v1::ListWorksRequest>("list_works_request");
    golden.check(
        "list_works_reply",
        &v1::ListWorksReply {
            works: vec![work()],
        },
    );
}
