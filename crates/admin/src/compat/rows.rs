//! The views as the original's rows and lines. Pure.

use super::argparse::Given;
use super::tree::VOLUME_COLUMNS;
use super::words::{NOT_AVAILABLE, UNSET, or_not, size};
use crate::time::ctime;
use crate::view::{Config, Datastore, Group, Member, Policy, Privilege, Status, Volume};

/// The policy of a volume on vSAN that names none.
const VSAN_DEFAULT: &str = "[VSAN default]";

/// A table's cells.
pub(crate) type Rows = Vec<Vec<String>>;

/// `volume ls`: all 13 columns.
pub(crate) fn volumes(volumes: &[Volume], datastores: &[Datastore]) -> Rows {
    let vsan = |v: &Volume| {
        datastores
            .iter()
            .any(|ds| ds.name == v.datastore && ds.r#type == "vsan")
    };
    volumes.iter().map(|v| volume(v, vsan(v))).collect()
}

fn volume(v: &Volume, vsan: bool) -> Vec<String> {
    let none = if vsan { VSAN_DEFAULT } else { NOT_AVAILABLE };
    let option = |key: &str, none: &str| v.option(key).unwrap_or(none).to_owned();
    vec![
        v.name.clone(),
        v.datastore.clone(),
        or_not(Some(v.group.as_str()).filter(|_| !v.orphan)),
        size(v.size_bytes),
        size(v.used_bytes),
        or_not(Some(&v.filesystem.fstype)),
        v.policy.as_deref().unwrap_or(none).to_owned(),
        option("diskformat", NOT_AVAILABLE),
        v.attached_to().to_owned(),
        option("access", "read-write"),
        option("attach-as", "independent_persistent"),
        or_not(v.created_by.as_deref()),
        or_not(ctime(&v.created_at).as_deref()),
    ]
}

/// The header and rows with the columns that `-c` names, in the table's order.
pub(crate) fn columns(given: &Given, rows: Rows) -> (Vec<&'static str>, Rows) {
    let chosen: Vec<&str> = given
        .get("c")
        .map(|c| c.split(',').collect())
        .unwrap_or_default();
    let keep = VOLUME_COLUMNS.map(|(name, _)| chosen.is_empty() || chosen.contains(&name));
    let header = VOLUME_COLUMNS.iter().zip(keep).filter(|(_, keep)| *keep);
    let kept = |row: Vec<String>| {
        row.into_iter()
            .zip(keep)
            .filter(|(_, keep)| *keep)
            .map(|(c, _)| c)
            .collect()
    };
    (
        header.map(|((_, header), _)| *header).collect(),
        rows.into_iter().map(kept).collect(),
    )
}

/// `policy ls`
pub(crate) fn policies(policies: &[Policy]) -> Rows {
    let row = |p: &Policy| vec![p.name.clone(), p.content.clone(), p.active()];
    policies.iter().map(row).collect()
}

fn member_name(member: &Member) -> String {
    or_not(member.name.as_deref())
}

/// `vmgroup ls`
pub(crate) fn groups(groups: &[Group]) -> Rows {
    let row = |g: &Group| {
        let vms: Vec<String> = g.members.iter().map(member_name).collect();
        vec![
            g.id.clone(),
            g.name.clone(),
            g.description.clone().unwrap_or_default(),
            g.default_datastore.clone(),
            vms.join(","),
        ]
    };
    groups.iter().map(row).collect()
}

/// `vmgroup vm ls`
pub(crate) fn members(members: &[Member]) -> Rows {
    members
        .iter()
        .map(|m| vec![m.uuid.clone(), member_name(m)])
        .collect()
}

/// `vmgroup access ls`, by datastore.
pub(crate) fn privileges(privileges: &[Privilege]) -> Rows {
    let limit = |bytes: Option<u64>| bytes.map_or_else(|| UNSET.to_owned(), size);
    let row = |p: &Privilege| {
        vec![
            p.datastore.clone(),
            if p.allow_create { "True" } else { "False" }.to_owned(),
            limit(p.max_volume_bytes),
            limit(p.total_bytes),
        ]
    };
    let mut rows: Rows = privileges.iter().map(row).collect();
    rows.sort();
    rows
}

/// The mode of the configuration, as the original explains it.
fn mode(word: &str) -> &str {
    match word {
        "" => "Unknown (not checked yet)",
        "NotConfigured" => "NotConfigured (no local DB, no symlink to shared DB)",
        "SingleNode" => "SingleNode (local DB exists)",
        "MultiNode" => "MultiNode (local symlink pointing to shared DB)",
        "BrokenLink" => "BrokenLink (Broken link or corrupted DB file)",
        other => other,
    }
}

/// `config status`; none: nobody could be asked.
pub(crate) fn config(config: Option<&Config>) -> Vec<String> {
    let local = config.and_then(|c| c.local_path.as_deref());
    let shared = config.and_then(|c| c.shared_location.as_deref());
    vec![
        format!("DB_Mode: {}", mode(config.map_or("", |c| &c.mode))),
        format!("DB_LocalPath: {}", or_not(local)),
        format!("DB_SharedLocation: {}", or_not(shared)),
    ]
}

/// `status`; without an agent it is stopped, and what only the agent knows is not available.
pub(crate) fn status(running: Option<(&Status, &Config)>, fast: bool) -> Vec<String> {
    let unless_fast = |text: String| if fast { "?".to_owned() } else { text };
    let status = running.map(|(status, _)| status);
    // `vdvsd 0.1.0`
    let version = status.and_then(|s| s.program.rsplit(' ').next());
    let mut lines = vec![
        "=== Service: ".to_owned(),
        format!("Version: {}", unless_fast(or_not(version))),
        format!(
            "Status: {}",
            if status.is_some() {
                "Running"
            } else {
                "Stopped"
            }
        ),
    ];
    if let Some(s) = status {
        lines.push(format!("Pid: {}", s.pid));
        lines.push(format!("Port: {}", unless_fast(s.port.to_string())));
    }
    // Logging has no file of its own to be configured in.
    lines.push(format!("LogConfigFile: {NOT_AVAILABLE}"));
    lines.push(format!(
        "LogFile: {}",
        or_not(status.and_then(|s| s.log_file.as_deref()))
    ));
    let level = status
        .and_then(|s| s.log_level.as_deref())
        .map(str::to_uppercase);
    lines.push(format!("LogLevel: {}", or_not(level.as_deref())));
    lines.push("=== Authorization Config DB: ".to_owned());
    lines.extend(config(running.map(|(_, config)| config)));
    lines
}
