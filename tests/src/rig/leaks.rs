//! What may be left when every volume has been removed: the markers, configurations, empty folders of vmgroups and
//! empty ledgers. Nothing else, at none of the places where something of a volume can be.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use uuid::Uuid;
use vdvs_testkit::lab::Node;

use super::Rig;
use super::volumes::vdvs_json;

/// Everything that is left, one line each.
pub(super) fn of(rig: &Rig) -> Result<Vec<String>> {
    let mut left = Vec::new();
    loops(rig, &mut left)?;
    configured_disks(rig, &mut left)?;
    for node in rig.lab.nodes()? {
        if node.is_on()? {
            in_node(&node, &mut left)?;
        }
    }
    let nodes = rig.lab.nodes()?;
    let vms: Vec<String> = nodes.iter().map(|node| node.name().to_owned()).collect();
    for datastore in list(&rig.lab.layout().root().join("datastores"))? {
        on_datastore(&datastore, &vms, &mut left)?;
    }
    agents(rig, &mut left)?;
    Ok(left)
}

/// Loop devices on files of this lab.
fn loops(rig: &Rig, left: &mut Vec<String>) -> Result<()> {
    for device in list(Path::new("/sys/block"))? {
        let Ok(file) = fs::read_to_string(device.join("loop/backing_file")) else {
            continue;
        };
        if Path::new(file.trim()).starts_with(rig.lab.layout().root()) {
            left.push(format!("{} on {}", device.display(), file.trim()));
        }
    }
    Ok(())
}

/// Disks in a VM's configuration, also of a VM that is off.
fn configured_disks(rig: &Rig, left: &mut Vec<String>) -> Result<()> {
    for host in rig.lab.hosts()? {
        configured_disks_of(&rig.lab.layout().host_dir(host.name()), left)?;
    }
    Ok(())
}

fn configured_disks_of(host: &Path, left: &mut Vec<String>) -> Result<()> {
    for vm in list(&host.join("vms"))? {
        let file = vm.join("devices.json");
        let Some(text) = read(&file)? else { continue };
        let json: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} holds {text}", file.display()))?;
        let devices = json.get("devices").and_then(Value::as_array);
        if devices.is_none_or(|devices| !devices.is_empty()) {
            left.push(format!("{} holds {json}", file.display()));
        }
    }
    Ok(())
}

fn in_node(node: &Node, left: &mut Vec<String>) -> Result<()> {
    for mount in node.volume_mounts()? {
        left.push(format!(
            "{} has {} mounted",
            node.name(),
            mount.path.display()
        ));
    }
    if node.has_engine() {
        let format = "{{.Driver}} {{.Name}}";
        let volumes = node.docker().run(&["volume", "ls", "--format", format])?;
        for volume in volumes.lines() {
            left.push(format!("the engine of {} lists {volume}", node.name()));
        }
    }
    for disk in node.sh("ls /dev | grep ^loop || true")?.lines() {
        left.push(format!("{} has /dev/{disk}", node.name()));
    }
    Ok(())
}

fn on_datastore(datastore: &Path, vms: &[String], left: &mut Vec<String>) -> Result<()> {
    for entry in list(datastore)? {
        match name_of(&entry) {
            "dockvols" => {}
            // The hypervisors' own: a lease of each living host, and no disk locked.
            ".labhv" => {
                let locks = list(&entry.join("locks"))?;
                left.extend(locks.iter().map(|lock| lock.display().to_string()));
            }
            // A VM's own folder; what it holds is the VM's.
            name if vms.iter().any(|vm| vm == name) => {}
            _ => left.push(entry.display().to_string()),
        }
    }
    for entry in list(&datastore.join("dockvols"))? {
        match name_of(&entry) {
            ".vdvs" => own_folder(&entry, left)?,
            name if Uuid::try_parse(name).is_ok() => {
                let files = list(&entry)?;
                left.extend(files.iter().map(|file| file.display().to_string()));
            }
            _ => left.push(entry.display().to_string()),
        }
    }
    Ok(())
}

/// `datastore.json`, `config.<seq>`, `host.<id>.<seq>`, `ledger.<vmgroup>.<seq>`, of which the newest is empty.
fn own_folder(folder: &Path, left: &mut Vec<String>) -> Result<()> {
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for entry in list(folder)? {
        let name = name_of(&entry);
        let slot = name
            .rsplit_once('.')
            .and_then(|(stem, seq)| Some((stem, seq.parse::<u64>().ok()?)));
        match slot {
            _ if name == "datastore.json" => {}
            Some(("config", _)) => {}
            Some((stem, _)) if stem.starts_with("host.") => {}
            Some((stem, seq)) if stem.starts_with("ledger.") => {
                let known = newest.entry(stem.to_owned()).or_insert(seq);
                *known = seq.max(*known);
            }
            _ => left.push(entry.display().to_string()),
        }
    }
    for (stem, seq) in newest {
        let file = folder.join(format!("{stem}.{seq}"));
        // Pruned since: a newer one is there, the next look sees it.
        let text = read(&file)?.unwrap_or_default();
        let body = text.split_once('\n').map_or("", |(_, body)| body);
        let entries = serde_json::from_str::<Value>(body)
            .ok()
            .and_then(|json| Some(json.get("entries")?.as_object()?.len()));
        if entries != Some(0) {
            left.push(format!("{} holds {text}", file.display()));
        }
    }
    Ok(())
}

/// What the agents themselves know of.
fn agents(rig: &Rig, left: &mut Vec<String>) -> Result<()> {
    for host in rig.lab.hosts()? {
        let agent = host.name();
        match vdvs_json(&host, &["status"]) {
            Ok(status) => {
                for count in ["volumes", "attached", "unresolved_operations"] {
                    if status.get(count).and_then(Value::as_u64) != Some(0) {
                        left.push(format!("{count} of the agent of {agent}: {status}"));
                    }
                }
            }
            Err(error) => left.push(format!("the agent of {agent} cannot tell: {error:#}")),
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("list {}", folder.display())),
    }
}
