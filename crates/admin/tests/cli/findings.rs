//! What the fake agent finds wrong, and what becomes of it.

use vdvs_api::v1;

use crate::table::{ID, days_ago};

pub(crate) fn findings() -> Vec<v1::Finding> {
    vec![
        v1::Finding {
            name: "powered-off-owner".into(),
            object: "ledger@vsanDatastore".into(),
            text: "VM swarm02 is off, and the volume's disk is in its configuration".into(),
            explanation: "a VM that is off still has the volume in its configuration".into(),
            risk: "data".into(),
            danger: "deleting the VM deletes the volume".into(),
            since_unix_ms: days_ago(),
            since_seen: true,
            repair: "takes the disk out of the configuration of the VM, which is off, and the volume is free"
                .into(),
            command: "vdvs doctor --fix=powered-off-owner ledger@vsanDatastore".into(),
            volume_id: ID.into(),
        },
        v1::Finding {
            name: "silent-host".into(),
            object: "esx02".into(),
            text: "silent for 3 days: is its agent running, and does it reach a datastore that is seen here?"
                .into(),
            explanation: "a host has not told anything for long".into(),
            risk: "warning".into(),
            danger: "what its VMs hold stays with them until it is proven that they cannot write".into(),
            since_unix_ms: days_ago(),
            command: "see whether the agent there runs, and reaches a datastore that is seen here".into(),
            ..v1::Finding::default()
        },
    ]
}

pub(crate) fn repaired(name: &str, dry_run: bool) -> Vec<v1::Repaired> {
    let one = |object: &str, outcome: &str, text: &str, risk: &str| v1::Repaired {
        name: name.into(),
        object: object.into(),
        outcome: if dry_run { "would" } else { outcome }.into(),
        text: text.into(),
        risk: risk.into(),
        command: String::new(),
    };
    match name {
        "powered-off-owner" => vec![
            one(
                "ledger@vsanDatastore",
                "repaired",
                "VM swarm02 is off, and the volume's disk is in its configuration",
                "data",
            ),
            one(
                "wiki@vsanDatastore",
                "refused",
                "the device is still in use inside the VM",
                "data",
            ),
        ],
        "stale-claim" => vec![one("db@vsanDatastore", "gone", "it is gone", "warning")],
        _ => Vec::new(),
    }
}
