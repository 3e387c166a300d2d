//! dockerd: whether it knows the driver, whether its swarm does, and what it keeps under names of ours.

use std::io;
use std::path::Path;

use serde_json::Value;
use vdvs_domain::VolumeAddress;

use super::{Finding, Level};
use crate::checks;
use crate::settings::Settings;

pub(super) fn engine(settings: &Settings) -> Vec<Finding> {
    let Some(socket) = &settings.docker else {
        return vec![Finding::fine("docker", "not asked (setting Docker = none)")];
    };
    let engine = match checks::engine(socket) {
        Ok(engine) => engine,
        Err(error) => {
            let text = format!("no answer at {}: {error}", socket.display());
            return vec![Finding::bad(
                "docker",
                Level::Attention,
                text,
                "systemctl start docker",
            )];
        }
    };
    let driver = &settings.driver;
    let mut all = Vec::new();
    let prefix = format!("{driver}:");
    if let Some(name) = engine.managed.iter().find(|name| name.starts_with(&prefix)) {
        let text = format!("the managed plugin {name} is enabled beside this service");
        let act = format!("docker plugin disable -f {name}");
        all.push(Finding::bad("docker", Level::Attention, text, act));
    } else if engine.drivers.contains(driver) {
        let text = format!("{} knows the driver {driver}", engine.version);
        all.push(Finding::fine("docker", text));
    } else {
        let text = format!(
            "{} has not met the driver {driver}, so swarm gives this node no task with a volume",
            engine.version
        );
        all.push(Finding::bad(
            "docker",
            Level::Attention,
            text,
            "docker volume ls",
        ));
    }
    all.extend(swarm(socket, driver));
    all.push(match shadows(socket, &settings.socket) {
        Ok(names) if names.is_empty() => Finding::fine("names", "no local volume hides one of ours"),
        Ok(names) => {
            let text = format!(
                "local volumes with names of ours, used in their place on this node: {}",
                names.join(", ")
            );
            let first = names.first().map_or("", String::as_str);
            let act = format!(
                "look into it (docker run --rm -v {first}:/data busybox ls -l /data), then docker volume rm {first}"
            );
            Finding::bad("names", Level::Attention, text, act)
        }
        Err(error) => Finding::bad(
            "names",
            Level::Attention,
            format!("local volumes were not compared with ours: {error}"),
            "see plugin and docker above",
        ),
    });
    all
}

/// Names of local volumes that are names of ours too.
fn shadows(docker: &Path, plugin: &Path) -> io::Result<Vec<String>> {
    let ours = checks::plugin_volumes(plugin)?;
    let local = checks::local_volumes(docker)?;
    Ok(hidden(ours.iter().map(|(name, _)| name.as_str()), &local))
}

fn hidden<'a>(ours: impl Iterator<Item = &'a str>, local: &[String]) -> Vec<String> {
    let ours: Vec<VolumeAddress> = ours.filter_map(|n| VolumeAddress::parse(n).ok()).collect();
    let meant = |name: &String| {
        VolumeAddress::parse(name).is_ok_and(|local| {
            ours.iter().any(|our| {
                our.name == local.name
                    && (local.datastore.is_none() || local.datastore == our.datastore)
            })
        })
    };
    local.iter().filter(|name| meant(name)).cloned().collect()
}

/// Whether the swarm's manager knows that this node has the driver. Only a manager can be asked.
fn swarm(docker: &Path, driver: &str) -> Option<Finding> {
    let info = checks::ask(docker, "GET", "/info", "").ok()?;
    let node = manager(&info)?;
    let told = checks::ask(docker, "GET", &format!("/nodes/{node}"), "").ok()?;
    match offers(&told, driver) {
        true => Some(Finding::fine(
            "swarm",
            format!("its manager knows {driver} on this node"),
        )),
        false => {
            let text = format!(
                "its manager does not know that this node has {driver}, and gives it no task with such a volume"
            );
            let act = "docker volume ls, and look again after half a minute; then systemctl restart vdvs-plugin";
            Some(Finding::bad("swarm", Level::Attention, text, act))
        }
    }
}

/// This node's id, if it is a manager of a swarm.
fn manager(info: &Value) -> Option<&str> {
    let swarm = info.get("Swarm")?;
    let active = swarm.get("LocalNodeState")?.as_str()? == "active";
    let manages = swarm.get("ControlAvailable")?.as_bool()?;
    let node = swarm.get("NodeID")?.as_str()?;
    let plain = !node.is_empty() && node.bytes().all(|b| b.is_ascii_alphanumeric());
    (active && manages && plain).then_some(node)
}

/// Whether a node tells of a volume driver. A managed plugin tells its tag too.
fn offers(node: &Value, driver: &str) -> bool {
    let plugins = node.pointer("/Description/Engine/Plugins");
    let plugins = plugins.and_then(Value::as_array).into_iter().flatten();
    plugins
        .filter(|p| p.get("Type").and_then(Value::as_str) == Some("Volume"))
        .filter_map(|p| p.get("Name")?.as_str())
        .any(|name| name.split(':').next() == Some(driver))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_manager_is_asked_for_its_node_and_a_node_tells_its_drivers() {
        let info = |state: &str, manages: bool| json!({"Swarm": {"LocalNodeState": state, "ControlAvailable": manages, "NodeID": "abc1"}});
        assert_eq!(manager(&info("active", true)), Some("abc1"));
        assert_eq!(manager(&info("active", false)), None);
        assert_eq!(manager(&info("inactive", true)), None);
        assert_eq!(manager(&json!({})), None);
        let node = json!({"Description": {"Engine": {"Plugins": [
            {"Type": "Volume", "Name": "local"},
            {"Type": "Network", "Name": "vsphere"},
            {"Type": "Volume", "Name": "vsphere:latest"},
        ]}}});
        assert!(offers(&node, "vsphere") && offers(&node, "local"));
        assert!(!offers(&node, "vmdk") && !offers(&json!({}), "local"));
    }

    #[test]
    fn a_local_volume_hides_ours_by_its_short_or_by_its_whole_name() {
        let ours = ["data@vsan", "web@nfs"];
        let local = [
            "data",
            "web@nfs",
            "web@vsan",
            "0123456789abcdef",
            "datas",
            "../x",
        ];
        let local: Vec<String> = local.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(hidden(ours.into_iter(), &local), ["data", "web@nfs"]);
    }
}
