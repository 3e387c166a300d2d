//! `vdvs-plugin install|uninstall|status`: a service of this machine. `vdvs-plugin doctor`: what is wrong here.
//! `vdvs-plugin run`: reads settings, listens, connects later; at SIGTERM finishes or journals within 8 s.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use vdvs_blockdev::LinuxDevices;
use vdvs_plugin::agent::GrpcAgent;
use vdvs_plugin::clock::SystemClock;
use vdvs_plugin::docker::{Server, bind, resolve_group};
use vdvs_plugin::dockerd;
use vdvs_plugin::doctor::{Finding, Level, doctor};
use vdvs_plugin::install::{InstallArgs, StatusArgs, UninstallArgs, install, status, uninstall};
use vdvs_plugin::journal::FileJournal;
use vdvs_plugin::log::{self, Console};
use vdvs_plugin::notify;
use vdvs_plugin::service::{Limits, Ports, Volumes};
use vdvs_plugin::settings::{
    DEFAULT_FILE, Given, MANAGED, MANAGED_FILE, NAMES, Settings, managed_defaults, parse_file,
};
use vdvs_transport::Address;

/// dockerd kills a plugin 10 s after SIGTERM.
const LAST_WORDS: Duration = Duration::from_secs(7);

#[derive(Debug, Parser)]
#[command(
    name = "vdvs-plugin",
    version,
    about = "Docker volumes that are virtual disks"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve Docker. Settings: flag, then environment, then file, then default.
    #[command(args_override_self = true)]
    Run(Box<Flags>),
    /// Make the plugin a service of this machine, or bring it up to this version.
    Install(InstallArgs),
    /// Remove the service. Volumes stay.
    Uninstall(UninstallArgs),
    /// Is the service well? Exit code 0: yes; 1: something asks for attention; 2: no.
    Status(StatusArgs),
    /// What is wrong on this machine, and what to do. Changes nothing; exit code as with status.
    #[command(args_override_self = true)]
    Doctor(Box<Flags>),
}

#[derive(Debug, Args)]
struct Flags {
    /// Configuration file (JSON, the original's keys and more) [default: /etc/vsphere-storage-for-docker.conf]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name Docker knows the driver by [default: vsphere]
    #[arg(long)]
    driver: Option<String>,
    /// The agent: unix:/path or vsock:CID:PORT [default: vsock:2:1019]
    #[arg(long, value_name = "ADDRESS")]
    agent: Option<String>,
    /// Group that may use the socket, name or number [default: root]
    #[arg(long)]
    group: Option<String>,
    /// Our socket [default: /run/docker/plugins/<driver>.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<String>,
    /// Folder of the journal [default: /var/lib/vdvs]
    #[arg(long, value_name = "FOLDER")]
    state: Option<String>,
    /// Volumes are mounted below it [default: /mnt/vdvs]
    #[arg(long, value_name = "FOLDER")]
    mount_root: Option<String>,
    /// dockerd's socket, or none [default: unix:/run/docker.sock]
    #[arg(long, value_name = "ADDRESS")]
    docker: Option<String>,
    /// Seconds a Mount may take; 25 for a managed plugin [default: 110]
    #[arg(long, value_name = "SECONDS")]
    mount_budget: Option<String>,
    /// Seconds without a change after which a count of mounts is compared with reality [default: 120]
    #[arg(long, value_name = "SECONDS")]
    doubt_after: Option<String>,
    /// trace, debug, info, warning or error [default: info]
    #[arg(long, alias = "log_level", value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log to this file and turn it over [default: standard error]
    #[arg(long, value_name = "FILE")]
    log_file: Option<String>,
}

impl Flags {
    fn given(&self) -> Given {
        [
            ("Driver", &self.driver),
            ("Agent", &self.agent),
            ("GroupID", &self.group),
            ("Socket", &self.socket),
            ("StateDir", &self.state),
            ("MountRoot", &self.mount_root),
            ("Docker", &self.docker),
            ("MountBudgetSeconds", &self.mount_budget),
            ("DoubtAfterSeconds", &self.doubt_after),
            ("LogLevel", &self.log_level),
            ("LogPath", &self.log_file),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.clone().map(|value| (name, value)))
        .collect()
    }
}

fn main() -> ExitCode {
    let mut say = |verb: &str, text: &str| {
        // If standard output is gone there is nobody to tell.
        drop(writeln!(io::stdout(), "{verb:<9} {text}"));
    };
    let ended = match Cli::parse().command {
        Command::Run(flags) => run(&flags),
        Command::Install(args) => install(&args, &mut say),
        Command::Uninstall(args) => uninstall(&args, &mut say),
        Command::Status(args) => return ExitCode::from(status(&args, &mut say) as u8),
        Command::Doctor(flags) => return examine(&flags),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // If even standard error is gone there is nobody to tell.
            drop(writeln!(io::stderr(), "vdvs-plugin: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

fn examine(flags: &Flags) -> ExitCode {
    // If standard output is gone there is nobody to tell.
    let print = |line: String| drop(writeln!(io::stdout(), "{line}"));
    let mut tell = |finding: &Finding| {
        let mark = match finding.level {
            Level::Fine => "ok",
            Level::Attention => "WARNING",
            Level::Broken => "BROKEN",
        };
        print(format!("{mark:<8} {:<8} {}", finding.about, finding.text));
        if let Some(act) = &finding.act {
            print(format!("{:<17} do: {act}", ""));
        }
    };
    let level = match settings(flags) {
        Ok(settings) => doctor(&settings, &mut tell),
        Err(error) => {
            tell(&Finding {
                about: "settings",
                level: Level::Broken,
                text: format!("{error:#}"),
                act: Some("correct the setting that is named".into()),
            });
            Level::Broken
        }
    };
    ExitCode::from(level as u8)
}

fn run(flags: &Flags) -> anyhow::Result<()> {
    settings(flags).and_then(|settings| {
        let console = if managed() {
            Console::Output
        } else {
            Console::Error
        };
        log::start(settings.level, settings.log_file.as_ref(), console)
            .context("open the log file")?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start the runtime")?;
        let served = runtime.block_on(serve(settings));
        // What blocks in the kernel (a mount of a dead disk) must not keep the process.
        runtime.shutdown_background();
        served
    })
}

fn settings(flags: &Flags) -> anyhow::Result<Settings> {
    let env: Given = NAMES
        .iter()
        .filter_map(|(name, variable)| env::var(variable).ok().map(|value| (*name, value)))
        .collect();
    let named = flags
        .config
        .clone()
        .or_else(|| env::var_os("VDVS_CONFIG").map(PathBuf::from))
        .filter(|path| !path.as_os_str().is_empty());
    let default = if managed() {
        MANAGED_FILE
    } else {
        DEFAULT_FILE
    };
    let path = named.as_deref().unwrap_or(Path::new(default));
    let file = match fs::read_to_string(path) {
        Ok(text) => parse_file(&text).with_context(|| path.display().to_string())?,
        Err(e) if e.kind() == io::ErrorKind::NotFound && named.is_none() => Given::new(),
        Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
    };
    let last = if managed() {
        managed_defaults()
    } else {
        Given::new()
    };
    Ok(Settings::resolve(&[&flags.given(), &env, &file, &last])?)
}

/// Docker itself runs this program.
fn managed() -> bool {
    env::var_os(MANAGED).is_some_and(|value| !value.is_empty())
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let address: Address = settings.agent.parse()?;
    let group = resolve_group(&settings.group)?;
    let journal = FileJournal::open(&settings.state)
        .with_context(|| format!("use the folder {}", settings.state.display()))?;
    fs::create_dir_all(&settings.mount_root)
        .with_context(|| format!("make {}", settings.mount_root.display()))?;
    // Mount points in the kernel's table are resolved.
    let mount_root = fs::canonicalize(&settings.mount_root)
        .with_context(|| format!("resolve {}", settings.mount_root.display()))?;
    let mut term = signal(SignalKind::terminate()).context("watch SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("watch SIGINT")?;

    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (agent, keeper) = GrpcAgent::new(address);
    let ports = Ports {
        agent,
        devices: Arc::new(LinuxDevices::new()),
        journal: Arc::new(journal),
        clock: Arc::new(SystemClock),
    };
    let limits = Limits::for_budget(settings.mount_budget).doubting_after(settings.doubt_after);
    let volumes = Volumes::start_up(ports, &mount_root, limits, stop.clone())
        .await
        .context("take over what is mounted")?;
    let listener = bind(&settings.socket, group)?;
    let server = Server::new(volumes.clone());
    let serving = tasks.spawn(server.serve(listener, stop.clone()));
    info!(socket = %settings.socket.display(), agent = %settings.agent, "ready");
    if let Err(e) = notify::ready() {
        warn!(error = %e, "the service manager cannot be told that the plugin listens");
    }
    tasks.spawn(keeper.run(stop.clone()));
    if let Some(docker) = settings.docker {
        tasks.spawn(dockerd::announce(docker, stop.clone()));
    }

    tokio::select! {
        _ = term.recv() => info!("SIGTERM"),
        _ = int.recv() => info!("SIGINT"),
    }
    let until = Instant::now() + LAST_WORDS;
    stop.cancel();
    if let Err(e) = fs::remove_file(&settings.socket) {
        warn!(error = %e, "the socket's name stays");
    }
    let finished = timeout_at(until, async {
        drop(serving.await);
        volumes.finish().await;
    });
    if finished.await.is_err() {
        info!("work under way is left to the journal and the next start");
    }
    volumes.flush().await;
    info!("stopped; nothing was unmounted");
    Ok(())
}
