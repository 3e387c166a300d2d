//! What dockerd holds of ours, and what containers keep beside it.
//!
//! * A container that runs with a volume of ours which is not mounted here writes into the machine's own disk.
//! * A volume that is mounted and that no container uses was left behind by an Unmount that dockerd lost; the plugin
//!   lets it go by itself after a while.
//! * A container with a volume of ours *and* an anonymous local one keeps data where nobody expects it: the image names a
//!   `VOLUME` that no mount covers.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use vdvs_domain::VolumeAddress;

use super::{Finding, Level};
use crate::checks;
use crate::settings::Settings;

/// A container that starts or ends, and the plugin's answer to it, take less than this between two looks.
const BETWEEN: Duration = Duration::from_secs(1);
/// Length of the names that dockerd gives to volumes that nobody named.
const ANONYMOUS: usize = 64;

/// A container, as far as volumes go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Container {
    name: String,
    image: String,
    runs: bool,
    /// Names of its volumes of ours.
    ours: Vec<String>,
    /// Where its anonymous local volumes are.
    anonymous: Vec<String>,
}

/// What two looks agree on.
pub(super) fn containers(settings: &Settings) -> Vec<Finding> {
    let Some(docker) = &settings.docker else {
        return Vec::new();
    };
    let first = look(docker, settings);
    let Ok(first) = first else {
        // dockerd or plugin do not answer: said of them.
        return Vec::new();
    };
    if first.is_empty() {
        return vec![Finding::fine("used", "containers and mounts agree")];
    }
    sleep(BETWEEN);
    let second = look(docker, settings).unwrap_or_default();
    let stand: Vec<_> = first.into_iter().filter(|f| second.contains(f)).collect();
    match stand.is_empty() {
        true => vec![Finding::fine("used", "containers and mounts agree")],
        false => stand,
    }
}

fn look(docker: &Path, settings: &Settings) -> io::Result<Vec<Finding>> {
    let listed = checks::ask(docker, "GET", "/containers/json?all=1", "")?;
    let containers = read(&listed, &settings.driver);
    let volumes = checks::plugin_volumes(&settings.socket)?;
    let mounted: Vec<String> = volumes
        .into_iter()
        .filter_map(|(name, at)| at.map(|_| name))
        .collect();
    Ok(judge(&containers, &mounted))
}

fn read(listed: &Value, driver: &str) -> Vec<Container> {
    let text = |value: &Value, key: &str| {
        let found = value.get(key).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let is_ours = |mount: &Value| {
        let name = text(mount, "Driver");
        // A managed plugin has its tag.
        name.split(':').next() == Some(driver)
    };
    let container = |c: &Value| {
        let mounts = c.get("Mounts").and_then(Value::as_array);
        let mounts: Vec<&Value> = mounts.into_iter().flatten().collect();
        let names = c.get("Names").and_then(Value::as_array);
        let name = names.and_then(|n| n.first()).and_then(Value::as_str);
        let is_anonymous = |m: &&&Value| {
            let name = text(m, "Name");
            text(m, "Driver") == "local"
                && name.len() == ANONYMOUS
                && name.bytes().all(|b| b.is_ascii_hexdigit())
        };
        Container {
            name: name.unwrap_or("?").trim_start_matches('/').to_owned(),
            image: text(c, "Image"),
            runs: text(c, "State") == "running",
            ours: mounts
                .iter()
                .filter(|m| is_ours(m))
                .map(|m| text(m, "Name"))
                .collect(),
            anonymous: mounts
                .iter()
                .filter(is_anonymous)
                .map(|m| text(m, "Destination"))
                .collect(),
        }
    };
    listed
        .as_array()
        .into_iter()
        .flatten()
        .map(container)
        .collect()
}

/// Whether a name that Docker has means the volume of this full name.
fn means(docker: &str, full: &str) -> bool {
    let (Ok(docker), Ok(full)) = (VolumeAddress::parse(docker), VolumeAddress::parse(full)) else {
        return docker == full;
    };
    docker.name == full.name && (docker.datastore.is_none() || docker.datastore == full.datastore)
}

fn judge(containers: &[Container], mounted: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for container in containers.iter().filter(|c| c.runs) {
        for volume in &container.ours {
            let at = mounted.iter().find(|full| means(volume, full));
            match at {
                Some(full) => drop(used.insert(full)),
                None => {
                    let text = format!(
                        "container {} runs with volume {volume}, which is not mounted here",
                        container.name
                    );
                    let act = format!("docker restart {}", container.name);
                    found.push(Finding::bad("used", Level::Broken, text, act));
                }
            }
        }
    }
    for full in mounted.iter().filter(|full| !used.contains(full)) {
        let text = format!("{full} is mounted, and no container that runs uses it");
        let act =
            "the plugin lets it go within some minutes; if it stays: systemctl restart vdvs-plugin";
        found.push(Finding::bad("used", Level::Attention, text, act));
    }
    let beside = containers
        .iter()
        .filter(|c| !c.ours.is_empty() && !c.anonymous.is_empty());
    for container in beside {
        let first = container.anonymous.first().map_or("", String::as_str);
        let text = format!(
            "container {} keeps {} in anonymous volumes of this machine: its image {} names them in VOLUME, and no mount covers them",
            container.name,
            container.anonymous.join(", "),
            container.image
        );
        let act = format!("run it with a volume there too: -v NAME:{first}");
        found.push(Finding::bad("images", Level::Attention, text, act));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed() -> Value {
        let anonymous = "0123456789abcdef".repeat(4);
        json!([
            {"Names": ["/db"], "Image": "pg:15", "State": "running", "Mounts": [
                {"Type": "volume", "Name": "data", "Driver": "vsphere:latest", "Destination": "/data"},
                {"Type": "volume", "Name": anonymous, "Driver": "local", "Destination": "/var/lib/postgresql/data"},
                {"Type": "bind", "Source": "/etc", "Destination": "/etc"},
            ]},
            {"Names": ["/old"], "Image": "bb:1", "State": "exited", "Mounts": [
                {"Type": "volume", "Name": "web@nfs", "Driver": "vsphere", "Destination": "/web"},
            ]},
            {"Names": ["/plain"], "State": "running", "Mounts": [
                {"Type": "volume", "Name": anonymous, "Driver": "local", "Destination": "/cache"},
            ]},
        ])
    }

    #[test]
    fn what_containers_use_and_what_is_mounted_are_compared() {
        let containers = read(&listed(), "vsphere");
        assert_eq!(containers[0].ours, ["data"]);
        let abouts = |mounted: &[&str]| -> Vec<(&'static str, Level)> {
            let mounted: Vec<_> = mounted.iter().map(|&m| m.to_owned()).collect();
            let found = judge(&containers, &mounted);
            found.iter().map(|f| (f.about, f.level)).collect()
        };
        let image = ("images", Level::Attention);
        assert_eq!(abouts(&["data@vsan"]), [image]);
        assert_eq!(abouts(&[]), [("used", Level::Broken), image]);
        let left = abouts(&["data@vsan", "web@nfs"]);
        assert_eq!(
            left,
            [("used", Level::Attention), image],
            "its container ended"
        );
        let found = judge(&containers, &["data@vsan".to_owned()]);
        assert!(
            found[0].text.contains("/var/lib/postgresql/data"),
            "{found:?}"
        );
        assert!(found[0].text.contains("pg:15"), "{found:?}");
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert_eq!(judge(&read(&json!([]), "vsphere"), &[]), []);
        assert_eq!(judge(&read(&json!({"message": "no"}), "vsphere"), &[]), []);
    }
}
