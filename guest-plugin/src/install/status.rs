//! One screen: is the service well?

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use vdvs_transport::Address;

use super::files::Machine;
use super::service::{self, Service};
use super::{Say, settings_of};
use crate::checks;
use crate::settings::Settings;

/// An agent that is there answers from memory.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The agent, if the running plugin was given another one than its settings file says
    #[arg(long, value_name = "ADDRESS")]
    agent: Option<String>,
}

/// How it is: also the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Everything works.
    Well = 0,
    /// It works, and something asks for attention.
    Attention = 1,
    /// Volumes cannot be used.
    Broken = 2,
}

/// Says how the service is. Changes nothing.
pub fn status(args: &StatusArgs, say: Say<'_>) -> Health {
    say("version", env!("CARGO_PKG_VERSION"));
    let mut settings = match settings_of(Path::new("/")) {
        Ok(settings) => settings,
        Err(error) => {
            say("settings", &format!("BROKEN: {error:#}"));
            return Health::Broken;
        }
    };
    if let Some(agent) = &args.agent {
        settings.agent.clone_from(agent);
    }
    let all = [
        service(&settings),
        agent(&settings.agent),
        docker(&settings),
        volumes(&settings),
        formats(),
    ];
    for part in &all {
        let mark = match part.health {
            Health::Well => "",
            Health::Attention => "WARNING: ",
            Health::Broken => "BROKEN: ",
        };
        say(part.name, &format!("{mark}{}", part.text));
    }
    all.iter()
        .map(|part| part.health)
        .max()
        .unwrap_or(Health::Broken)
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    health: Health,
    text: String,
}

impl Part {
    fn new(name: &'static str, health: Health, text: impl Into<String>) -> Self {
        Self {
            name,
            health,
            text: text.into(),
        }
    }
}

fn service(settings: &Settings) -> Part {
    let part = |health, text: String| Part::new("service", health, text);
    let answers = checks::plugin_answers(&settings.socket);
    let at = settings.socket.display();
    let systemd = match Service::of(Path::new("/")) {
        Service::Systemd => service::state().unwrap_or_else(|error| format!("{error:#}")),
        _ => "systemd does not run here".to_owned(),
    };
    if !answers {
        return part(
            Health::Broken,
            format!("nothing answers at {at} ({systemd})"),
        );
    }
    let other = Machine::open(Path::new("/"), true)
        .map(|machine| machine.receipt.version)
        .unwrap_or_default();
    if !other.is_empty() && other != env!("CARGO_PKG_VERSION") {
        let text = format!("answers at {at} ({systemd}); installed is version {other}");
        return part(Health::Attention, text);
    }
    part(Health::Well, format!("answers at {at} ({systemd})"))
}

fn agent(address: &str) -> Part {
    let part = |health, text: String| Part::new("agent", health, text);
    let parsed: Address = match address.parse() {
        Ok(parsed) => parsed,
        Err(error) => return part(Health::Broken, format!("{address}: {error}")),
    };
    if let Some(why) = checks::no_way_to_agent(address) {
        return part(
            Health::Broken,
            format!("{address} cannot be reached: {why}"),
        );
    }
    match checks::hello(&parsed, HELLO_TIME) {
        Ok(answer) => part(
            Health::Well,
            format!(
                "{} on {}, where this VM is {}",
                answer.program, answer.host_name, answer.vm_name
            ),
        ),
        Err(why) => part(Health::Broken, format!("no answer at {address}: {why}")),
    }
}

fn docker(settings: &Settings) -> Part {
    let part = |health, text: String| Part::new("docker", health, text);
    let Some(socket) = &settings.docker else {
        return part(Health::Well, "not asked (setting Docker = none)".to_owned());
    };
    let engine = match checks::engine(socket) {
        Ok(engine) => engine,
        Err(error) => {
            return part(
                Health::Attention,
                format!("no answer at {}: {error}", socket.display()),
            );
        }
    };
    let driver = &settings.driver;
    let same = format!("{driver}:");
    let mut managed = engine.managed.iter().filter(|name| name.starts_with(&same));
    if let Some(name) = managed.next() {
        let text = format!(
            "{}: the managed plugin {name} is enabled beside this service",
            engine.version
        );
        return part(Health::Attention, text);
    }
    if engine.drivers.contains(driver) {
        return part(
            Health::Well,
            format!("{} knows the driver {driver}", engine.version),
        );
    }
    let text = format!(
        "{} has not met the driver {driver} yet: run 'docker volume ls'",
        engine.version
    );
    part(Health::Attention, text)
}

fn volumes(settings: &Settings) -> Part {
    let part = |health, text: String| Part::new("volumes", health, text);
    let mounts = match checks::mounted(&settings.mount_root) {
        Ok(mounts) => mounts,
        Err(error) => return part(Health::Attention, format!("the mount table: {error}")),
    };
    let known = checks::plugin_volumes(&settings.socket).unwrap_or_default();
    let names: Vec<String> = mounts
        .iter()
        .map(|mount| {
            let name = known.iter().find(|(_, at)| {
                at.as_ref()
                    .is_some_and(|at: &PathBuf| at.starts_with(&mount.at))
            });
            let name =
                name.map_or_else(|| mount.at.display().to_string(), |(name, _)| name.clone());
            format!("{name} ({})", mount.fstype)
        })
        .collect();
    let read_only: Vec<String> = mounts
        .iter()
        .filter(|mount| mount.super_read_only() && !mount.read_only())
        .map(|mount| mount.at.display().to_string())
        .collect();
    if !read_only.is_empty() {
        let text = format!(
            "made read-only by the kernel after an error: {}",
            read_only.join(", ")
        );
        return part(Health::Attention, text);
    }
    if names.is_empty() {
        return part(Health::Well, format!("none mounted, {} known", known.len()));
    }
    part(
        Health::Well,
        format!(
            "{} mounted: {}; {} known",
            names.len(),
            names.join(", "),
            known.len()
        ),
    )
}

fn formats() -> Part {
    let kinds = checks::file_systems(Path::new("/"));
    if kinds.contains(&"ext4") {
        return Part::new("formats", Health::Well, kinds.join(", "));
    }
    let text = "mkfs.ext4 is not installed (e2fsprogs): new volumes cannot be used";
    Part::new("formats", Health::Attention, text)
}
