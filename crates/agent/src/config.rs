//! What the agent is told: flags, and a file with the same names. A flag beats the file, the file beats the default.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::de::Error as TomlError;
use vdvs_store::Limits;

/// What `--help` prints.
pub const USAGE: &str = "\
vdvsd, the vDVS agent: serves the volumes of this host's datastores to the VMs that run here.

Usage:
  vdvsd --host lab --lab-dir DIR      a Linux machine as a host: DIR holds host.json, labhv.sock and vms/
  vdvsd --host sim --sim-dir DIR --sim-vm NAME [--sim-vm NAME ...]
                                      a host in memory; VM NAME dials DIR/NAME/1019

Options:
  --state DIR     store, log and admin.sock (default: the folder agent/ in the host's folder)
  --log FILTER    what is logged: error, warn, info, debug, trace, also by module (default: info)
  --status-every SECONDS
                  other hosts are told what changed here at most so often (default: 30)
  --audit-rows N, --audit-bytes N
                  the audit's oldest rows go beyond either (default: 100000 rows, 33554432 bytes)
  --config FILE   TOML with the same names: host, lab-dir, sim-dir, sim-vm, state, log, status-every,
                  audit-rows, audit-bytes
  --version       print the version
  --help          print this
";

/// A host in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimConfig {
    /// Where its sockets are.
    pub dir: PathBuf,
    /// Names of its VMs.
    pub vms: Vec<String>,
}

/// Which hypervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostConfig {
    /// A Linux machine; its folder.
    Lab(PathBuf),
    /// Memory.
    Sim(SimConfig),
}

/// Everything the agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which hypervisor.
    pub host: HostConfig,
    /// Where the agent keeps its own.
    pub state: PathBuf,
    /// What is logged.
    pub log: String,
    /// How often other hosts are told what changed; none: as shipped.
    pub status_every: Option<Duration>,
    /// How much the store keeps.
    pub store: Limits,
}

impl Config {
    /// Where the log is written.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.state.join("vdvsd.log")
    }
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run(Config),
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
}

/// The agent cannot be started like this.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag nobody knows.
    #[error("unknown option '{0}'; see vdvsd --help")]
    Unknown(String),
    /// A flag without its value.
    #[error("option '{0}' needs a value; see vdvsd --help")]
    NoValue(String),
    /// A flag given twice.
    #[error("option '{0}' is given twice")]
    Twice(&'static str),
    /// Text that is not UTF-8.
    #[error("an option is not UTF-8: {0:?}")]
    NotText(OsString),
    /// Something is missing.
    #[error("{0}; see vdvsd --help")]
    Missing(&'static str),
    /// A kind of host nobody knows.
    #[error("host '{0}' is not known: choose lab or sim")]
    Host(String),
    /// A number that is none, or not a useful one.
    #[error("{0} needs a number of at least 1, not '{1}'")]
    Number(&'static str, String),
    /// A VM's name that is no folder's.
    #[error("'{0}' cannot be a simulated VM's name: use letters, digits, '-' and '_'")]
    VmName(String),
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// The file is malformed.
    #[error("{0} is not a configuration of vdvsd")]
    Parse(PathBuf, #[source] TomlError),
}

/// Settings as given, by flags or file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Given {
    host: Option<String>,
    lab_dir: Option<PathBuf>,
    sim_dir: Option<PathBuf>,
    #[serde(default)]
    sim_vm: Vec<String>,
    state: Option<PathBuf>,
    log: Option<String>,
    status_every: Option<u64>,
    audit_rows: Option<u64>,
    audit_bytes: Option<u64>,
    #[serde(skip)]
    config: Option<PathBuf>,
}

/// Reads the command line (without the program's name), and the file it names.
///
/// # Errors
/// [`ConfigError`].
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Command, ConfigError> {
    let mut flags = Given::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = text(arg)?;
        let (flag, inline) = match arg.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        match (flag, &inline) {
            ("--help" | "-h", None) => return Ok(Command::Help),
            ("--version" | "-V", None) => return Ok(Command::Version),
            _ => {}
        }
        let mut value = || match inline.clone() {
            Some(value) => Ok(value),
            None => text(
                args.next()
                    .ok_or_else(|| ConfigError::NoValue(flag.to_owned()))?,
            ),
        };
        match flag {
            "--host" => once(&mut flags.host, value()?, "--host")?,
            "--lab-dir" => once(&mut flags.lab_dir, value()?.into(), "--lab-dir")?,
            "--sim-dir" => once(&mut flags.sim_dir, value()?.into(), "--sim-dir")?,
            "--sim-vm" => flags.sim_vm.push(value()?),
            "--state" => once(&mut flags.state, value()?.into(), "--state")?,
            "--log" => once(&mut flags.log, value()?, "--log")?,
            "--status-every" => {
                let seconds = number("--status-every", value()?)?;
                once(&mut flags.status_every, seconds, "--status-every")?;
            }
            "--audit-rows" => {
                let rows = number("--audit-rows", value()?)?;
                once(&mut flags.audit_rows, rows, "--audit-rows")?;
            }
            "--audit-bytes" => {
                let bytes = number("--audit-bytes", value()?)?;
                once(&mut flags.audit_bytes, bytes, "--audit-bytes")?;
            }
            "--config" => once(&mut flags.config, value()?.into(), "--config")?,
            _ => return Err(ConfigError::Unknown(arg)),
        }
    }
    let file = match &flags.config {
        None => Given::default(),
        Some(path) => read_file(path)?,
    };
    merge(flags, file).map(Command::Run)
}

fn text(arg: OsString) -> Result<String, ConfigError> {
    arg.into_string().map_err(ConfigError::NotText)
}

fn number(flag: &'static str, value: String) -> Result<u64, ConfigError> {
    match value.parse() {
        Ok(number) => at_least_1(flag, number),
        Err(_) => Err(ConfigError::Number(flag, value)),
    }
}

fn at_least_1(flag: &'static str, number: u64) -> Result<u64, ConfigError> {
    match number {
        0 => Err(ConfigError::Number(flag, number.to_string())),
        _ => Ok(number),
    }
}

fn limits(flags: &Given, file: &Given) -> Result<Limits, ConfigError> {
    let mut limits = Limits::default();
    if let Some(rows) = flags.audit_rows.or(file.audit_rows) {
        let rows = at_least_1("audit-rows", rows)?;
        limits.audit_rows = u32::try_from(rows).unwrap_or(u32::MAX);
    }
    if let Some(bytes) = flags.audit_bytes.or(file.audit_bytes) {
        limits.audit_bytes = at_least_1("audit-bytes", bytes)?;
    }
    Ok(limits)
}

fn once<T>(place: &mut Option<T>, value: T, flag: &'static str) -> Result<(), ConfigError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(ConfigError::Twice(flag)),
    }
}

fn read_file(path: &Path) -> Result<Given, ConfigError> {
    let text = fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))?;
    toml::from_str(&text).map_err(|e| ConfigError::Parse(path.to_owned(), e))
}

fn merge(flags: Given, file: Given) -> Result<Config, ConfigError> {
    let store = limits(&flags, &file)?;
    let status_every = match flags.status_every.or(file.status_every) {
        Some(seconds) => Some(Duration::from_secs(at_least_1("status-every", seconds)?)),
        None => None,
    };
    let kind = flags.host.or(file.host);
    let kind = kind.ok_or(ConfigError::Missing("which host: --host lab or --host sim"))?;
    let (host, dir) = match kind.as_str() {
        "lab" => {
            let dir = flags.lab_dir.or(file.lab_dir);
            let dir = dir.ok_or(ConfigError::Missing("--host lab needs --lab-dir"))?;
            (HostConfig::Lab(dir.clone()), dir)
        }
        "sim" => {
            let dir = flags.sim_dir.or(file.sim_dir);
            let dir = dir.ok_or(ConfigError::Missing("--host sim needs --sim-dir"))?;
            let vms = if flags.sim_vm.is_empty() {
                file.sim_vm
            } else {
                flags.sim_vm
            };
            let bad = |name: &&String| {
                name.is_empty()
                    || !(name.bytes()).all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            };
            if let Some(name) = vms.iter().find(bad) {
                return Err(ConfigError::VmName(name.clone()));
            }
            let sim = SimConfig {
                dir: dir.clone(),
                vms,
            };
            (HostConfig::Sim(sim), dir)
        }
        _ => return Err(ConfigError::Host(kind)),
    };
    Ok(Config {
        host,
        state: flags
            .state
            .or(file.state)
            .unwrap_or_else(|| dir.join("agent")),
        log: flags.log.or(file.log).unwrap_or_else(|| "info".to_owned()),
        status_every,
        store,
    })
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    fn args(line: &str) -> Result<Command, ConfigError> {
        read(line.split_whitespace().map(OsString::from))
    }

    fn config(line: &str) -> Config {
        match args(line) {
            Ok(Command::Run(config)) => config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lab_host_needs_its_folder_and_keeps_its_state_there() {
        let got = config("--host lab --lab-dir=/lab/hosts/esx01");
        assert_eq!(got.host, HostConfig::Lab("/lab/hosts/esx01".into()));
        assert_eq!(got.state, Path::new("/lab/hosts/esx01/agent"));
        assert_eq!(got.log, "info");
    }

    #[test]
    fn simulated_vms_are_named_one_by_one() {
        let got = config("--host sim --sim-dir /s --sim-vm a --sim-vm b --log debug");
        let sim = SimConfig {
            dir: "/s".into(),
            vms: vec!["a".into(), "b".into()],
        };
        assert_eq!(got.host, HostConfig::Sim(sim));
        let bad = args("--host sim --sim-dir /s --sim-vm ../x");
        assert!(matches!(bad, Err(ConfigError::VmName(_))), "{bad:?}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_hint() {
        for (line, part) in [
            ("", "which host"),
            ("--host esx", "choose lab or sim"),
            ("--host lab", "needs --lab-dir"),
            ("--host", "needs a value"),
            ("--hots lab", "unknown option '--hots'"),
            ("lab", "unknown option 'lab'"),
            ("--host lab --host sim", "twice"),
            ("--host lab --lab-dir /l --status-every 0", "at least 1"),
            ("--host lab --lab-dir /l --audit-rows many", "not 'many'"),
        ] {
            let err = args(line).unwrap_err().to_string();
            assert!(err.contains(part), "{line}: {err}");
        }
        assert!(matches!(args("--host lab --help"), Ok(Command::Help)));
        assert!(matches!(args("--version"), Ok(Command::Version)));
    }

    #[test]
    fn a_flag_beats_the_file_and_an_unknown_key_is_refused() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("vdvsd.toml");
        fs::write(&path, "host = \"lab\"\nlab-dir = \"/l\"\nlog = \"warn\"\n").unwrap();
        let got = config(&format!("--config {} --log debug", path.display()));
        assert_eq!(got.host, HostConfig::Lab("/l".into()));
        assert_eq!(got.log, "debug");
        assert_eq!((got.status_every, got.store), (None, Limits::default()));
        let text = "host = \"lab\"\nlab-dir = \"/l\"\nstatus-every = 9\naudit-rows = 5\n";
        fs::write(&path, text).unwrap();
        let got = config(&format!("--config {} --status-every=2", path.display()));
        assert_eq!(got.status_every, Some(Duration::from_secs(2)));
        let store = Limits {
            audit_rows: 5,
            ..Limits::default()
        };
        assert_eq!(got.store, store);
        fs::write(&path, "hosts = \"lab\"\n").unwrap();
        let err = args(&format!("--config {}", path.display())).unwrap_err();
        assert!(matches!(err, ConfigError::Parse(..)), "{err}");
    }
}
