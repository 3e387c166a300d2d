//! `vdvs-plugin doctor`: what is wrong on this machine, and the one command that helps.
//!
//! It looks from outside, changes nothing, and works while the plugin runs, hangs or is not there. Each look has a time
//! limit. What it can decide it says; a mount that comes or goes while it looks is looked at twice.
//!
//! Exit code: 0 nothing found, 1 something asks for attention, 2 volumes cannot be used.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::runtime::Builder;
use vdvs_blockdev::{Device, Devices, Health, LinuxDevices};
use vdvs_domain::VolumeAddress;
use vdvs_transport::Address;

use crate::checks;
use crate::journal::{Held, Stage, peek};
use crate::service::stale_mounts;
use crate::settings::Settings;

/// For Hello: the agent answers from memory.
const HELLO_TIME: Duration = Duration::from_secs(5);
/// A mount under way takes less; what differs before and after is not that.
const LOOK_TWICE: Duration = Duration::from_secs(1);

/// How bad a finding is; the worst is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine = 0,
    /// It works, and something asks for attention.
    Attention = 1,
    /// Volumes cannot be used.
    Broken = 2,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How it is.
    pub level: Level,
    /// In words.
    pub text: String,
    /// What to do, when something is to be done.
    pub act: Option<String>,
}

impl Finding {
    fn fine(about: &'static str, text: impl Into<String>) -> Self {
        Self {
            about,
            level: Level::Fine,
            text: text.into(),
            act: None,
        }
    }

    fn bad(
        about: &'static str,
        level: Level,
        text: impl Into<String>,
        act: impl Into<String>,
    ) -> Self {
        Self {
            about,
            level,
            text: text.into(),
            act: Some(act.into()),
        }
    }
}

/// Looks at everything, and tells each finding.
pub fn doctor(settings: &Settings, tell: &mut dyn FnMut(&Finding)) -> Level {
    let mut worst = Level::Fine;
    let mut say = |findings: Vec<Finding>| {
        for finding in findings {
            worst = worst.max(finding.level);
            tell(&finding);
        }
    };
    if !geteuid().is_root() {
        let text = "not run by root: sockets and the journal may look absent";
        say(vec![Finding::bad(
            "user",
            Level::Attention,
            text,
            "sudo vdvs-plugin doctor",
        )]);
    }
    say(vec![plugin(&settings.socket)]);
    say(vec![agent(&settings.agent)]);
    say(engine(settings));
    say(programs(Path::new("/")));
    match peek(&settings.state) {
        Ok(held) => {
            say(mounts(settings, &held));
            say(disks(settings, &held));
        }
        Err(error) => {
            let at = settings.state.display();
            let text = format!("the journal in {at} cannot be read: {error}");
            let act = "run as root; a damaged journal is set aside and rebuilt when the plugin starts: systemctl restart vdvs-plugin";
            say(vec![Finding::bad("journal", Level::Attention, text, act)]);
        }
    }
    worst
}

fn plugin(socket: &Path) -> Finding {
    let at = socket.display();
    if checks::plugin_answers(socket) {
        return Finding::fine("plugin", format!("answers at {at}"));
    }
    let text = if socket.exists() {
        format!("nothing answers at {at}, although the socket is there")
    } else {
        format!("{at} is not there: the plugin does not run")
    };
    Finding::bad(
        "plugin",
        Level::Broken,
        text,
        "systemctl restart vdvs-plugin",
    )
}

fn agent(address: &str) -> Finding {
    let broken = |text: String, act: &str| Finding::bad("agent", Level::Broken, text, act);
    let parsed: Address = match address.parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            return broken(
                format!("{address}: {error}"),
                "correct the setting Agent (--agent, VDVS_AGENT)",
            );
        }
    };
    let start = "have vdvsd started on this VM's host (there: vdvs status)";
    if let Some(why) = checks::no_way_to_agent(address) {
        return broken(format!("{address} cannot be reached: {why}"), start);
    }
    match checks::hello(&parsed, HELLO_TIME) {
        Ok(answer) => Finding::fine(
            "agent",
            format!(
                "{} on {}, protocol {}; this VM is {} there",
                answer.program, answer.host_name, answer.version, answer.vm_name
            ),
        ),
        Err(why) if why.contains("upgrade") => broken(why, "upgrade the side that is named"),
        Err(why) => broken(format!("no answer at {address}: {why}"), start),
    }
}

fn engine(settings: &Settings) -> Vec<Finding> {
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

fn programs(root: &Path) -> Vec<Finding> {
    let kinds = checks::file_systems(root);
    let mut all = Vec::new();
    if kinds.contains(&"ext4") {
        all.push(Finding::fine("formats", kinds.join(", ")));
    } else {
        let text = "mkfs.ext4 is not installed: new volumes cannot be used";
        all.push(Finding::bad(
            "formats",
            Level::Broken,
            text,
            "apt-get install e2fsprogs",
        ));
    }
    let helpers = [
        (
            "ext4",
            "e2fsck",
            "e2fsprogs",
            "damaged file systems are not repaired before a mount",
        ),
        (
            "btrfs",
            "btrfstune",
            "btrfs-progs",
            "clones of btrfs volumes cannot be mounted",
        ),
    ];
    for (kind, program, package, what) in helpers {
        if kinds.contains(&kind) && checks::program(root, program).is_none() {
            let text = format!("{program} is not installed: {what}");
            let act = format!("apt-get install {package}");
            all.push(Finding::bad("formats", Level::Attention, text, act));
        }
    }
    all
}

fn mounts(settings: &Settings, held: &[Held]) -> Vec<Finding> {
    let root = fs::canonicalize(&settings.mount_root).unwrap_or(settings.mount_root.clone());
    let look =
        |held: &[Held]| checks::mounted(&root).map(|table| stale_mounts(held, &table, &root));
    let again = |first: Vec<String>| {
        if first.is_empty() {
            return Ok(first);
        }
        sleep(LOOK_TWICE);
        let held = peek(&settings.state)?;
        let second = look(&held)?;
        Ok::<_, io::Error>(
            first
                .into_iter()
                .filter(|one| second.contains(one))
                .collect(),
        )
    };
    match look(held).and_then(again) {
        Ok(stale) if stale.is_empty() => {
            let mounted = held.iter().filter(|h| h.stage == Stage::Mounted).count();
            vec![Finding::fine(
                "mounts",
                format!("{mounted} volumes mounted, as the journal says"),
            )]
        }
        Ok(stale) => {
            let text = format!("mounts and journal differ: {}", stale.join(", "));
            let act = "the running plugin puts this right within a minute; if it stays: systemctl restart vdvs-plugin";
            vec![Finding::bad("mounts", Level::Attention, text, act)]
        }
        Err(error) => {
            let text = format!("mounts were not compared: {error}");
            vec![Finding::bad(
                "mounts",
                Level::Attention,
                text,
                "cat /proc/self/mountinfo",
            )]
        }
    }
}

fn disks(settings: &Settings, held: &[Held]) -> Vec<Finding> {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let text = format!("disks were not asked: {error}");
            return vec![Finding::bad("disks", Level::Attention, text, "try again")];
        }
    };
    let devices = LinuxDevices::new();
    let mut all = Vec::new();
    for one in held {
        let restart = format!("restart the containers that use {}", one.name);
        let bad = |level, text| Finding::bad("disks", level, text, restart.clone());
        if one.stage == Stage::Lost {
            let text = format!(
                "{} was taken away from this VM; its containers see I/O errors",
                one.name
            );
            all.push(bad(Level::Attention, text));
        }
        let device = one.device.as_ref().map(Device::from);
        let Some(device) = device.filter(|_| one.stage == Stage::Mounted) else {
            continue;
        };
        let at = settings.mount_root.join(one.volume.to_string());
        match runtime.block_on(devices.healthy(&at, &device)) {
            Health::Alive => {}
            Health::Lost(why) | Health::Damaged(why) => {
                all.push(bad(Level::Broken, format!("{}: {why}", one.name)));
            }
            Health::Unknown(why) => {
                all.push(bad(Level::Attention, format!("{}: {why}", one.name)));
            }
        }
    }
    // A disk that hangs must not keep this program.
    runtime.shutdown_background();
    if all.is_empty() {
        all.push(Finding::fine("disks", "all mounted disks answer"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_machine_without_tools_is_told_what_to_install() {
        let root = tempfile::tempdir().unwrap();
        let broken = programs(root.path());
        assert_eq!(broken.first().unwrap().level, Level::Broken);
        let bin = root.path().join("usr/sbin");
        fs::create_dir_all(&bin).unwrap();
        for name in ["mkfs.ext4", "mkfs.btrfs", "e2fsck"] {
            fs::write(bin.join(name), "").unwrap();
        }
        let found = programs(root.path());
        assert_eq!(
            found.first().unwrap(),
            &Finding::fine("formats", "ext4, btrfs")
        );
        assert_eq!(found.len(), 2);
        assert!(found[1].text.starts_with("btrfstune"), "{found:?}");
        assert_eq!(found[1].act.as_deref(), Some("apt-get install btrfs-progs"));
    }

    #[test]
    fn everything_absent_is_named_with_a_command_each() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let given = [
            ("Socket", at("vsphere.sock")),
            ("Agent", format!("unix:{}", at("1019"))),
            ("StateDir", at("state")),
            ("MountRoot", at("mnt")),
            ("Docker", format!("unix:{}", at("docker.sock"))),
        ]
        .into_iter()
        .collect();
        let settings = Settings::resolve(&[&given]).unwrap();
        let mut found = Vec::new();
        let level = doctor(&settings, &mut |finding| found.push(finding.clone()));
        assert_eq!(level, Level::Broken);
        for about in ["plugin", "agent", "docker"] {
            let finding = found.iter().find(|f| f.about == about).unwrap();
            assert!(
                finding.level > Level::Fine && finding.act.is_some(),
                "{finding:?}"
            );
        }
        assert!(
            found
                .iter()
                .all(|f| (f.level > Level::Fine) == f.act.is_some())
        );
        assert!(
            fs::read_dir(folder.path()).unwrap().next().is_none(),
            "it made something"
        );
    }
}
