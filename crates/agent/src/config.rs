//! What the agent is told: flags, and a file with the same names. A flag beats the file, the file beats the default.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::de::Error as TomlError;
use vdvs_store::Limits;

use crate::hosts::PORT;

/// hostd on the host itself.
const ESXI_URL: &str = "https://localhost:443/sdk";
/// What it shows there.
const ESXI_CERTIFICATE: &str = "/etc/vmware/ssl/rui.crt";
/// Where the agent keeps its own unless it is told: in memory, gone with the host's next boot.
const ESXI_STATE: &str = "/var/run/vdvsd/state";

/// What `--help` prints.
pub const USAGE: &str = "\
vdvsd, the vDVS agent: serves the volumes of this host's datastores to the VMs that run here.

Usage:
  vdvsd --host lab --lab-dir DIR      a Linux machine as a host: DIR holds host.json, labhv.sock and vms/
  vdvsd --host sim --sim-dir DIR --sim-vm NAME [--sim-vm NAME ...]
                                      a host in memory; VM NAME dials DIR/NAME/1019
  vdvsd --host esxi [options below]   the ESXi host this runs on
  vdvsd --probe[=json] [DIR]          what this host offers: one line for each capability; DIR is a folder to try files in

Options:
  --listen vsock  all VMs dial vSocket port 1019, and the hypervisor says who each is (esxi: default)
  --listen unix:DIR
                  instead: DIR/NUMBER/1019 is what the VM of process group NUMBER dials (esxi; sim, where 1001 is the
                  first VM)
  --any-port      serve guests' programs that are not root, too: source ports of 1024 and above
  --esxi-url URL  hostd (default: https://localhost:443/sdk)
  --esxi-user USER, --esxi-password-file FILE
                  who logs in; without a file: by a ticket that only programs of this host get
  --esxi-cert FILE
                  the certificate hostd must show (default: /etc/vmware/ssl/rui.crt)
  --esxi-host NAME
                  which host, where the address is a vCenter's
  --admin-socket PATH
                  the administrator's socket (default: admin.sock in the state's folder)
  --quiet         lines go to the log file only
  --state DIR     store, log and admin.sock (default: the folder agent/ in the host's folder)
  --log FILTER    what is logged: error, warn, info, debug, trace, also by module (default: info)
  --status-every SECONDS
                  other hosts are told what changed here at most so often (default: 30)
  --audit-rows N, --audit-bytes N
                  the audit's oldest rows go beyond either (default: 100000 rows, 33554432 bytes)
  --config FILE   TOML with the same names, without the dashes before them
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

/// An ESXi host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EsxiSettings {
    /// hostd's address.
    pub url: String,
    /// Who logs in; without a password file by a ticket.
    pub user: Option<String>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// The certificate hostd must show.
    pub certificate: Option<PathBuf>,
    /// The host's name, where the address is a vCenter's.
    pub host: Option<String>,
}

/// Where virtual machines are heard that all come through one door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A vSocket.
    Vsock {
        /// Its port.
        port: u32,
        /// Only guests' root may come.
        privileged_only: bool,
    },
    /// `DIR/<process group>/1019`.
    Folders(PathBuf),
}

/// Which hypervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostConfig {
    /// The ESXi host this runs on.
    Esxi(EsxiSettings),
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
    /// One door for all VMs; none: each has a socket.
    pub listen: Option<Listen>,
    /// Where the agent keeps its own.
    pub state: PathBuf,
    /// The administrator's socket.
    pub admin_socket: PathBuf,
    /// Nothing on stderr.
    pub quiet: bool,
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

/// How to say what this host offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeConfig {
    /// As JSON.
    pub json: bool,
    /// A folder to try files in.
    pub dir: Option<PathBuf>,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run(Box<Config>),
    /// Say what this host offers.
    Probe(ProbeConfig),
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
    #[error("host '{0}' is not known: choose esxi, lab or sim")]
    Host(String),
    /// A number that is none, or not a useful one.
    #[error("{0} needs a number of at least 1, not '{1}'")]
    Number(&'static str, String),
    /// A place to listen that is none.
    #[error(
        "--listen takes vsock or unix:/absolute/folder, and this kind of host takes it: not '{0}'"
    )]
    Listen(String),
    /// Options that exclude each other.
    #[error("{0}")]
    Together(&'static str),
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
    listen: Option<String>,
    any_port: Option<bool>,
    esxi_url: Option<String>,
    esxi_user: Option<String>,
    esxi_password_file: Option<PathBuf>,
    esxi_cert: Option<PathBuf>,
    esxi_host: Option<String>,
    admin_socket: Option<PathBuf>,
    quiet: Option<bool>,
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
            ("--probe", how) => return probe(how.as_deref(), args),
            ("--any-port", None) => {
                once(&mut flags.any_port, true, "--any-port")?;
                continue;
            }
            ("--quiet", None) => {
                once(&mut flags.quiet, true, "--quiet")?;
                continue;
            }
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
            "--listen" => once(&mut flags.listen, value()?, "--listen")?,
            "--esxi-url" => once(&mut flags.esxi_url, value()?, "--esxi-url")?,
            "--esxi-user" => once(&mut flags.esxi_user, value()?, "--esxi-user")?,
            "--esxi-password-file" => {
                let file = value()?.into();
                once(&mut flags.esxi_password_file, file, "--esxi-password-file")?;
            }
            "--esxi-cert" => once(&mut flags.esxi_cert, value()?.into(), "--esxi-cert")?,
            "--esxi-host" => once(&mut flags.esxi_host, value()?, "--esxi-host")?,
            "--admin-socket" => once(&mut flags.admin_socket, value()?.into(), "--admin-socket")?,
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
    merge(flags, file).map(Box::new).map(Command::Run)
}

/// What follows `--probe`.
fn probe(how: Option<&str>, rest: impl Iterator<Item = OsString>) -> Result<Command, ConfigError> {
    let mut probe = ProbeConfig::default();
    match how {
        None | Some("text") => {}
        Some("json") => probe.json = true,
        Some(other) => return Err(ConfigError::Unknown(format!("--probe={other}"))),
    }
    for arg in rest {
        match arg.to_str() {
            Some(flag) if flag.starts_with('-') => {
                return Err(ConfigError::Unknown(flag.to_owned()));
            }
            _ => once(&mut probe.dir, arg.into(), "DIR")?,
        }
    }
    Ok(Command::Probe(probe))
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

fn merge(mut flags: Given, file: Given) -> Result<Config, ConfigError> {
    let store = limits(&flags, &file)?;
    let status_every = match flags.status_every.or(file.status_every) {
        Some(seconds) => Some(Duration::from_secs(at_least_1("status-every", seconds)?)),
        None => None,
    };
    flags.fill(file);
    let kind = flags.host.take();
    let kind = kind.ok_or(ConfigError::Missing(
        "which host: --host esxi, --host lab or --host sim",
    ))?;
    let listen = flags.listen(&kind)?;
    let (host, dir) = match kind.as_str() {
        "esxi" => (HostConfig::Esxi(flags.esxi()?), PathBuf::from(ESXI_STATE)),
        "lab" => {
            let dir = flags.lab_dir.take();
            let dir = dir.ok_or(ConfigError::Missing("--host lab needs --lab-dir"))?;
            (HostConfig::Lab(dir.clone()), dir.join("agent"))
        }
        "sim" => {
            let sim = flags.sim()?;
            let dir = sim.dir.join("agent");
            (HostConfig::Sim(sim), dir)
        }
        _ => return Err(ConfigError::Host(kind)),
    };
    let state = flags.state.unwrap_or(dir);
    Ok(Config {
        host,
        listen,
        admin_socket: (flags.admin_socket).unwrap_or_else(|| state.join("admin.sock")),
        state,
        log: flags.log.unwrap_or_else(|| "info".to_owned()),
        quiet: flags.quiet.unwrap_or_default(),
        status_every,
        store,
    })
}

impl Given {
    /// What is not given stands in the file.
    fn fill(&mut self, file: Self) {
        fn other<T>(place: &mut Option<T>, file: Option<T>) {
            if place.is_none() {
                *place = file;
            }
        }
        other(&mut self.host, file.host);
        other(&mut self.lab_dir, file.lab_dir);
        other(&mut self.sim_dir, file.sim_dir);
        if self.sim_vm.is_empty() {
            self.sim_vm = file.sim_vm;
        }
        other(&mut self.listen, file.listen);
        other(&mut self.any_port, file.any_port);
        other(&mut self.esxi_url, file.esxi_url);
        other(&mut self.esxi_user, file.esxi_user);
        other(&mut self.esxi_password_file, file.esxi_password_file);
        other(&mut self.esxi_cert, file.esxi_cert);
        other(&mut self.esxi_host, file.esxi_host);
        other(&mut self.admin_socket, file.admin_socket);
        other(&mut self.quiet, file.quiet);
        other(&mut self.state, file.state);
        other(&mut self.log, file.log);
    }

    /// Where VMs are heard; a lab's VMs have a socket each.
    fn listen(&mut self, kind: &str) -> Result<Option<Listen>, ConfigError> {
        let given = self.listen.take();
        let folder = |text: &str| {
            let dir = PathBuf::from(text.strip_prefix("unix:")?);
            dir.is_absolute().then_some(Listen::Folders(dir))
        };
        let vsock = Listen::Vsock {
            port: PORT,
            privileged_only: !self.any_port.unwrap_or_default(),
        };
        match (kind, given.as_deref()) {
            ("esxi", None | Some("vsock")) => Ok(Some(vsock)),
            ("esxi" | "sim", Some(text)) => match folder(text) {
                Some(folders) => Ok(Some(folders)),
                None => Err(ConfigError::Listen(text.to_owned())),
            },
            (_, None) => Ok(None),
            (_, Some(text)) => Err(ConfigError::Listen(text.to_owned())),
        }
    }

    fn esxi(&mut self) -> Result<EsxiSettings, ConfigError> {
        if self.esxi_password_file.is_some() && self.esxi_user.is_none() {
            return Err(ConfigError::Together(
                "--esxi-password-file needs --esxi-user",
            ));
        }
        let url = self.esxi_url.take();
        let local = url.is_none();
        let ours = || Some(PathBuf::from(ESXI_CERTIFICATE)).filter(|file| local && file.exists());
        Ok(EsxiSettings {
            url: url.unwrap_or_else(|| ESXI_URL.to_owned()),
            user: self.esxi_user.take(),
            password_file: self.esxi_password_file.take(),
            certificate: self.esxi_cert.take().or_else(ours),
            host: self.esxi_host.take(),
        })
    }

    fn sim(&mut self) -> Result<SimConfig, ConfigError> {
        let dir = self.sim_dir.take();
        let dir = dir.ok_or(ConfigError::Missing("--host sim needs --sim-dir"))?;
        let vms = mem::take(&mut self.sim_vm);
        let bad = |name: &&String| {
            name.is_empty()
                || !(name.bytes()).all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        match vms.iter().find(bad) {
            Some(name) => Err(ConfigError::VmName(name.clone())),
            None => Ok(SimConfig { dir, vms }),
        }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
