//! Looking at this machine from outside the running plugin: what `install`, `status` and whoever looks for a fault ask.
//!
//! Every look has a time limit and changes nothing. dockerd and the plugin are asked over their sockets in HTTP/1.0,
//! one question per connection; the agent is said *Hello* to and nothing else, so a running plugin is not disturbed.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Builder;
use tokio::time::timeout;
use tonic::Request;
use vdvs_api::model::HelloAnswer;
use vdvs_api::{RemoteError, v1, version, volume_client};
use vdvs_blockdev::MountEntry;
use vdvs_blockdev::mountinfo::parse;
use vdvs_transport::{Address, channel};

use crate::agent::unreachable;

/// Where programs are looked for, as for making file systems.
const PROGRAM_DIRS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// More than dockerd has to say about itself.
const ANSWER_MAX: u64 = 4 * 1024 * 1024;
/// A dockerd that is up answers in milliseconds.
const SOCKET_TIME: Duration = Duration::from_secs(5);

/// A program in one of the fixed folders below `root`.
#[must_use]
pub fn program(root: &Path, name: &str) -> Option<PathBuf> {
    PROGRAM_DIRS
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| below(root, path).is_file())
}

/// File systems that can be made here, of those people ask for.
#[must_use]
pub fn file_systems(root: &Path) -> Vec<&'static str> {
    ["ext4", "xfs", "btrfs"]
        .into_iter()
        .filter(|kind| program(root, &format!("mkfs.{kind}")).is_some())
        .collect()
}

/// Why the agent's address cannot work on this machine, if that can be seen without calling.
#[must_use]
pub fn no_way_to_agent(address: &str) -> Option<String> {
    match address.strip_prefix("unix:") {
        Some(path) if !Path::new(path).exists() => Some(format!("{path} is not there")),
        Some(_) => None,
        None if Path::new("/dev/vsock").exists() => None,
        None => Some(
            "/dev/vsock is not there: load the module vmw_vsock_vmci_transport, which open-vm-tools or the kernel's package brings"
                .to_owned(),
        ),
    }
}

/// Says Hello to the agent.
///
/// # Errors
/// Why there is no answer, in words.
pub fn hello(address: &Address, limit: Duration) -> Result<HelloAnswer, String> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let request = v1::HelloRequest {
        versions: Some(version::SUPPORTED.into()),
        program: format!("vdvs-plugin {} (status)", env!("CARGO_PKG_VERSION")),
        features: Vec::new(),
    };
    let asked = async {
        let mut request = Request::new(request);
        request.set_timeout(limit);
        volume_client(channel(address.clone())).hello(request).await
    };
    let answer = runtime.block_on(async { timeout(limit, asked).await });
    match answer {
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
        Ok(Err(status)) => {
            let refused = unreachable(&status, address);
            Err(refused.unwrap_or_else(|| RemoteError::from(status).text))
        }
        Ok(Ok(reply)) => HelloAnswer::try_from(reply.into_inner()).map_err(|e| e.to_string()),
    }
}

/// What dockerd says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Its version.
    pub version: String,
    /// Volume drivers it knows.
    pub drivers: Vec<String>,
    /// Managed plugins that are enabled. Engines do not list them as drivers.
    pub managed: Vec<String>,
}

/// Asks dockerd.
///
/// # Errors
/// It does not answer, or something else answers there.
pub fn engine(socket: &Path) -> io::Result<Engine> {
    let info = ask(socket, "GET", "/info", "")?;
    let drivers = info.pointer("/Plugins/Volume").and_then(Value::as_array);
    let drivers = drivers.ok_or_else(|| io::Error::other("no answer of a dockerd"))?;
    let texts = |list: &[Value]| -> Vec<String> {
        list.iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let plugins = ask(socket, "GET", "/plugins", "")?;
    let enabled = plugins.as_array().into_iter().flatten();
    let enabled = enabled.filter(|plugin| plugin.get("Enabled") == Some(&Value::Bool(true)));
    Ok(Engine {
        version: info
            .get("ServerVersion")
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned(),
        drivers: texts(drivers),
        managed: enabled
            .filter_map(|plugin| plugin.get("Name")?.as_str().map(str::to_owned))
            .collect(),
    })
}

/// Asks the running plugin for its volumes: name and where it shows Docker the data, for those that are mounted.
///
/// # Errors
/// No plugin answers there.
pub fn plugin_volumes(socket: &Path) -> io::Result<Vec<(String, Option<PathBuf>)>> {
    let answer = ask(socket, "POST", "/VolumeDriver.List", "{}")?;
    let volumes = answer.get("Volumes").and_then(Value::as_array);
    Ok(volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| {
            let name = volume.get("Name")?.as_str()?.to_owned();
            let at = volume.get("Mountpoint").and_then(Value::as_str);
            Some((name, at.filter(|at| !at.is_empty()).map(PathBuf::from)))
        })
        .collect())
}

/// Names of the volumes that dockerd keeps on this machine by itself.
///
/// # Errors
/// dockerd does not answer.
pub fn local_volumes(docker: &Path) -> io::Result<Vec<String>> {
    let filter = "%7B%22driver%22%3A%5B%22local%22%5D%7D";
    let answer = ask(docker, "GET", &format!("/volumes?filters={filter}"), "")?;
    let volumes = answer.get("Volumes").and_then(Value::as_array);
    Ok(volumes
        .into_iter()
        .flatten()
        .filter(|volume| volume.get("Driver").and_then(Value::as_str) == Some("local"))
        .filter_map(|volume| Some(volume.get("Name")?.as_str()?.to_owned()))
        .collect())
}

/// Whether a plugin answers on its socket.
#[must_use]
pub fn plugin_answers(socket: &Path) -> bool {
    ask(socket, "POST", "/Plugin.Activate", "").is_ok()
}

/// File systems mounted directly below the folder for volumes.
///
/// # Errors
/// The kernel's table cannot be read or understood: then nobody may say that nothing is mounted.
pub fn mounted(mount_root: &Path) -> io::Result<Vec<MountEntry>> {
    let root = fs::canonicalize(mount_root).unwrap_or_else(|_| mount_root.to_owned());
    let table = parse(&fs::read("/proc/self/mountinfo")?).map_err(io::Error::other)?;
    Ok(table
        .into_iter()
        .filter(|entry| entry.at.parent() == Some(root.as_path()))
        .collect())
}

/// A path of the machine whose root is at `root`.
#[must_use]
pub fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

pub(crate) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SOCKET_TIME))?;
    stream.set_write_timeout(Some(SOCKET_TIME))?;
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    body_of(&answer)
}

fn body_of(answer: &[u8]) -> io::Result<Value> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer
        .split_at_checked(end.unwrap_or(answer.len()))
        .unwrap_or_default();
    let status = String::from_utf8_lossy(head);
    let status = status.lines().next().unwrap_or_default().to_owned();
    if !status.contains(" 200 ") {
        return Err(io::Error::other(format!("it answers '{status}'")));
    }
    serde_json::from_slice(body.trim_ascii()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_body_and_a_refusal_is_an_error() {
        let said = body_of(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"x\": 1}\n").unwrap();
        assert_eq!(said["x"], 1);
        for bad in [
            &b"HTTP/1.0 500 Internal Server Error\r\n\r\n{}"[..],
            b"",
            b"HTTP/1.0 200 OK\r\n\r\n{",
            b"HTTP/1.0 200 OK",
        ] {
            assert!(body_of(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn an_agent_nobody_can_reach_is_named_before_anybody_calls() {
        let why = no_way_to_agent("unix:/nonexistent/1019").unwrap();
        assert!(why.contains("/nonexistent/1019"), "{why}");
        let address: Address = "unix:/nonexistent/1019".parse().unwrap();
        assert!(hello(&address, Duration::from_secs(5)).is_err());
    }
}
