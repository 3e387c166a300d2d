//! Settings, from four places with one precedence: **flag, environment, file, default**. Empty texts count as not
//! given.
//!
//! The original had a different order for each setting, and its managed plugin always defined `VDVS_LOG_LEVEL` and
//! `VDVS_SOCKET_GID`, so that its file was never honoured. Here the nearest to the person who starts the program
//! wins, always.
//!
//! | flag | environment | key in the file | default |
//! |---|---|---|---|
//! | `--config` | `VDVS_CONFIG` | | `/etc/vsphere-storage-for-docker.conf` |
//! | `--driver` | `VDVS_DRIVER` | `Driver` | `vsphere` |
//! | `--agent` | `VDVS_AGENT` | `Agent` | `vsock:2:1019` |
//! | `--group` | `VDVS_SOCKET_GID` | `GroupID` | `root` |
//! | `--socket` | `VDVS_SOCKET` | `Socket` | `/run/docker/plugins/<driver>.sock` |
//! | `--state` | `VDVS_STATE` | `StateDir` | `/var/lib/vdvs` |
//! | `--mount-root` | `VDVS_MOUNT_ROOT` | `MountRoot` | `/mnt/vdvs` |
//! | `--docker` | `VDVS_DOCKER` | `Docker` | `unix:/run/docker.sock`; `none`: leave dockerd alone |
//! | `--mount-budget` | `VDVS_MOUNT_BUDGET` | `MountBudgetSeconds` | `110` |
//! | `--doubt-after` | `VDVS_DOUBT_AFTER` | `DoubtAfterSeconds` | `120` |
//! | `--log-level` | `VDVS_LOG_LEVEL` | `LogLevel` | `info` |
//! | `--log-file` | `VDVS_LOG_FILE` | `LogPath` | standard error |
//! | | | `MaxLogSizeMb`, `MaxLogAgeDays`, `MaxLogFiles` | 10, 28, 10 (with a log file) |
//!
//! | | `VDVS_MANAGED` | | not set; set by the managed plugin's `config.json` |
//!
//! A **managed plugin** (one that Docker itself runs) has other defaults: its journal is on the only folder that
//! survives an upgrade, its Mounts end before Docker's default time-out for managed plugins, it leaves dockerd alone,
//! it logs to standard output (Docker keeps what is on standard error as errors), and the file is looked for in the
//! machine's `/etc`, which is mounted at `/host/etc`.
//!
//! Keys match without regard to case; keys of other programs are ignored. A file that is not there is fine, unless it
//! was named. One that cannot be understood ends the start: guessing could open the socket to the wrong group (P7).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tracing::level_filters::LevelFilter;

/// The original's file, still read.
pub const DEFAULT_FILE: &str = "/etc/vsphere-storage-for-docker.conf";

/// The same file as a managed plugin sees it.
pub const MANAGED_FILE: &str = "/host/etc/vsphere-storage-for-docker.conf";

/// Set, and not empty: Docker itself runs this program.
pub const MANAGED: &str = "VDVS_MANAGED";

/// The defaults of a managed plugin, where they differ: the last place of all.
#[must_use]
pub fn managed_defaults() -> Given {
    [
        // A plugin enabled with Docker's default time-out is cut off at 30 s.
        ("MountBudgetSeconds", "25"),
        // Docker lists managed plugins without being asked.
        ("Docker", "none"),
        // Below `propagatedMount`: what else lies in the plugin's root is replaced by an upgrade.
        ("StateDir", "/mnt/vdvs/.state"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// Where dockerd listens.
const DOCKER: &str = "unix:/run/docker.sock";

/// Settings given by name in one place.
pub type Given = BTreeMap<&'static str, String>;

/// Every setting: flag and file key, environment variable.
pub const NAMES: [(&str, &str); 11] = [
    ("Driver", "VDVS_DRIVER"),
    ("Agent", "VDVS_AGENT"),
    ("GroupID", "VDVS_SOCKET_GID"),
    ("Socket", "VDVS_SOCKET"),
    ("StateDir", "VDVS_STATE"),
    ("MountRoot", "VDVS_MOUNT_ROOT"),
    ("Docker", "VDVS_DOCKER"),
    ("MountBudgetSeconds", "VDVS_MOUNT_BUDGET"),
    ("DoubtAfterSeconds", "VDVS_DOUBT_AFTER"),
    ("LogLevel", "VDVS_LOG_LEVEL"),
    ("LogPath", "VDVS_LOG_FILE"),
];

/// Keys that only the file has.
const FILE_ONLY: [&str; 3] = ["MaxLogSizeMb", "MaxLogAgeDays", "MaxLogFiles"];

/// Settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name Docker knows us by.
    pub driver: String,
    /// Where the agent listens, unparsed.
    pub agent: String,
    /// Group that may use the socket.
    pub group: String,
    /// Our socket.
    pub socket: PathBuf,
    /// The journal's folder.
    pub state: PathBuf,
    /// Volumes are mounted below it.
    pub mount_root: PathBuf,
    /// dockerd's socket; none: do not talk to it.
    pub docker: Option<PathBuf>,
    /// How long a Mount may take.
    pub mount_budget: Duration,
    /// Counts that have not changed for so long are compared with reality.
    pub doubt_after: Duration,
    /// What is logged.
    pub level: LevelFilter,
    /// Where to; none: standard error.
    pub log_file: Option<LogFile>,
}

/// A log file and when it is turned over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The file.
    pub path: PathBuf,
    /// Turned over beyond this size.
    pub max_bytes: u64,
    /// Older ones are removed after so many days.
    pub max_days: u64,
    /// At most so many older ones are kept.
    pub max_files: u64,
}

/// Why the program does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not JSON, or not an object.
    #[error("the configuration file is not a JSON object of settings: {0}")]
    File(String),
    /// A value that means nothing.
    #[error("{setting} = '{value}' {problem}")]
    Value {
        /// Which.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        problem: String,
    },
}

/// Reads the file's text.
///
/// # Errors
/// [`SettingsError::File`].
pub fn parse_file(text: &str) -> Result<Given, SettingsError> {
    let value: Value =
        serde_json::from_str(text).map_err(|e| SettingsError::File(e.to_string()))?;
    let Value::Object(object) = value else {
        return Err(SettingsError::File(
            "the outermost value is no object".into(),
        ));
    };
    let mut given = Given::new();
    for (key, value) in object {
        let known = NAMES
            .iter()
            .map(|(name, _)| *name)
            .chain(FILE_ONLY)
            .find(|name| name.eq_ignore_ascii_case(&key));
        let Some(known) = known else {
            continue;
        };
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Null => continue,
            other => {
                return Err(SettingsError::File(format!(
                    "{known} has to be a text or a number, not {other}"
                )));
            }
        };
        given.insert(known, text);
    }
    Ok(given)
}

impl Settings {
    /// The first place that gives a setting wins; places in order of precedence.
    ///
    /// # Errors
    /// [`SettingsError::Value`] for the first value that means nothing.
    pub fn resolve(places: &[&Given]) -> Result<Self, SettingsError> {
        let find = |name: &str| {
            places
                .iter()
                .filter_map(|given| given.get(name))
                .find(|text| !text.is_empty())
                .cloned()
        };
        let driver = driver(find("Driver"))?;
        let absolute = |setting: &'static str, default: &str| {
            let text = find(setting).unwrap_or_else(|| default.to_owned());
            if text.starts_with('/') {
                Ok(PathBuf::from(text))
            } else {
                Err(bad(setting, &text, "has to be an absolute path"))
            }
        };
        let docker = match find("Docker").as_deref() {
            None => DOCKER.strip_prefix("unix:").map(PathBuf::from),
            Some("none") => None,
            Some(text) => match text.trim_start_matches("unix:").trim_start_matches("//") {
                path if path.starts_with('/') => Some(PathBuf::from(path)),
                _ => return Err(bad("Docker", text, "has to be unix:/path or none")),
            },
        };
        let budget = number("MountBudgetSeconds", find("MountBudgetSeconds"), 110)?;
        if !(5..=118).contains(&budget) {
            let text = budget.to_string();
            return Err(bad(
                "MountBudgetSeconds",
                &text,
                "has to be between 5 and 118: dockerd gives up after 120 s",
            ));
        }
        let doubt = number("DoubtAfterSeconds", find("DoubtAfterSeconds"), 120)?;
        if !(5..=3600).contains(&doubt) {
            let text = doubt.to_string();
            return Err(bad(
                "DoubtAfterSeconds",
                &text,
                "has to be between 5 and 3600: dockerd needs seconds from a Mount's answer to its use",
            ));
        }
        let log_file = match find("LogPath") {
            None => None,
            Some(_) => Some(LogFile {
                path: absolute("LogPath", "")?,
                max_bytes: number("MaxLogSizeMb", find("MaxLogSizeMb"), 10)?
                    .saturating_mul(1024 * 1024),
                max_days: number("MaxLogAgeDays", find("MaxLogAgeDays"), 28)?,
                max_files: number("MaxLogFiles", find("MaxLogFiles"), 10)?,
            }),
        };
        Ok(Self {
            socket: absolute("Socket", &format!("/run/docker/plugins/{driver}.sock"))?,
            agent: find("Agent").unwrap_or_else(|| "vsock:2:1019".into()),
            group: find("GroupID").unwrap_or_else(|| "root".into()),
            state: absolute("StateDir", "/var/lib/vdvs")?,
            mount_root: absolute("MountRoot", "/mnt/vdvs")?,
            docker,
            mount_budget: Duration::from_secs(budget),
            doubt_after: Duration::from_secs(doubt),
            level: level(find("LogLevel"))?,
            log_file,
            driver,
        })
    }
}

fn bad(setting: &'static str, value: &str, problem: &str) -> SettingsError {
    SettingsError::Value {
        setting,
        value: value.to_owned(),
        problem: problem.to_owned(),
    }
}

/// Zero means "default", as with the original.
fn number(setting: &'static str, text: Option<String>, default: u64) -> Result<u64, SettingsError> {
    match text {
        None => Ok(default),
        Some(text) => match text.trim().parse() {
            Ok(0) => Ok(default),
            Ok(number) => Ok(number),
            Err(_) => Err(bad(setting, &text, "has to be a whole number")),
        },
    }
}

/// `vmdk` is the original's old name for `vsphere`.
fn driver(given: Option<String>) -> Result<String, SettingsError> {
    let name = given.unwrap_or_else(|| "vsphere".into());
    match name.as_str() {
        "vmdk" => Ok("vsphere".into()),
        "photon" | "vfile" => Err(bad(
            "Driver",
            &name,
            "is a driver of the original that this plugin does not have; vsphere is the one there is",
        )),
        _ if name.len() <= 64
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
            && !name.starts_with('.') =>
        {
            Ok(name)
        }
        _ => Err(bad(
            "Driver",
            &name,
            "becomes a file name: use letters, digits, '-', '_' and '.'",
        )),
    }
}

/// The original's words too.
fn level(given: Option<String>) -> Result<LevelFilter, SettingsError> {
    let text = given.unwrap_or_else(|| "info".into());
    match text.to_ascii_lowercase().as_str() {
        "trace" => Ok(LevelFilter::TRACE),
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warn" | "warning" => Ok(LevelFilter::WARN),
        "error" | "fatal" | "panic" => Ok(LevelFilter::ERROR),
        _ => Err(bad(
            "LogLevel",
            &text,
            "has to be trace, debug, info, warning or error",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&'static str, &str)]) -> Given {
        pairs.iter().map(|(k, v)| (*k, (*v).to_owned())).collect()
    }

    #[test]
    fn nothing_given_is_the_service_beside_docker() {
        let settings = Settings::resolve(&[]).unwrap();
        assert_eq!(
            settings.socket,
            PathBuf::from("/run/docker/plugins/vsphere.sock")
        );
        assert_eq!(settings.docker, Some(PathBuf::from("/run/docker.sock")));
        assert_eq!(settings.mount_budget, Duration::from_secs(110));
        assert_eq!((settings.group.as_str(), settings.log_file), ("root", None));
    }

    #[test]
    fn flag_beats_environment_beats_file_and_empty_is_not_given() {
        let file = parse_file(r#"{"loglevel": "debug", "GROUPID": "docker", "Target": "x"}"#);
        let file = file.unwrap();
        let env = given(&[("LogLevel", ""), ("GroupID", "0")]);
        let flags = given(&[("GroupID", "vdvs")]);
        let settings = Settings::resolve(&[&flags, &env, &file]).unwrap();
        assert_eq!(settings.level, LevelFilter::DEBUG);
        assert_eq!(settings.group, "vdvs");
        assert_eq!(Settings::resolve(&[&env, &file]).unwrap().group, "0");
    }

    #[test]
    fn a_managed_plugin_answers_before_docker_gives_up_and_may_be_told_otherwise() {
        let defaults = managed_defaults();
        let settings = Settings::resolve(&[&defaults]).unwrap();
        assert_eq!(settings.mount_budget, Duration::from_secs(25));
        assert_eq!(settings.docker, None);
        assert!(settings.state.starts_with(&settings.mount_root));
        let file = parse_file(r#"{"MountBudgetSeconds": 110}"#).unwrap();
        let settings = Settings::resolve(&[&file, &defaults]).unwrap();
        assert_eq!(settings.mount_budget, Duration::from_secs(110));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_a_guess() {
        for text in ["", "{", "[]", "null", r#"{"GroupID": ["root"]}"#, "\u{0}"] {
            assert!(
                matches!(parse_file(text), Err(SettingsError::File(_))),
                "{text}"
            );
        }
        for pair in [
            ("LogLevel", "loud"),
            ("Driver", "../x"),
            ("Driver", "photon"),
            ("MountRoot", "mnt"),
            ("Docker", "tcp:1"),
            ("MountBudgetSeconds", "600"),
            ("MountBudgetSeconds", "soon"),
            ("DoubtAfterSeconds", "1"),
        ] {
            let settings = Settings::resolve(&[&given(&[pair])]);
            assert!(
                matches!(settings, Err(SettingsError::Value { .. })),
                "{pair:?}"
            );
        }
    }

    #[test]
    fn the_originals_log_settings_are_honoured() {
        let file = parse_file(
            r#"{"Driver":"vmdk","LogPath":"/var/log/v.log","MaxLogSizeMb":1,"MaxLogFiles":0}"#,
        );
        let settings = Settings::resolve(&[&file.unwrap()]).unwrap();
        assert_eq!(settings.driver, "vsphere");
        let log = settings.log_file.unwrap();
        assert_eq!(
            (log.max_bytes, log.max_days, log.max_files),
            (1 << 20, 28, 10)
        );
    }
}
