//! VMs that are QEMU processes: a real guest kernel with its own PVSCSI driver and vSockets.
//!
//! ```text
//!   machine   vdvsd ── vsock/1019 ◄─ v_1019 ── vhost-device-vsock ═╗        one per VM, the listener names the VM
//!             vdvs-labhv ── QMP ──► QEMU process ══════════════════╝
//!   guest     kernel ── initramfs: busybox, mkfs, the static vdvs-plugin ── or, on a disk, Debian with an engine
//!             commands come through a virtio serial port (`guest-commands.sh`)
//! ```
//!
//! Always emulated: a machine that offers KVM to a VM inside a VM may hang in it, and TCG boots in three seconds.
//! AF_VSOCK is used inside guests only. There is no network.
//!
//! [`prepare`] installs and builds what is missing, below the clone's target folder, and says *unavailable* with the
//! reason where this machine cannot have it: whoever asks then skips, loudly.

mod console;
mod image;
mod initramfs;
mod kernel;
mod machine;
mod tools;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;

pub use machine::{Guest, Machine};

use super::Lab;
use super::binaries::{self, Profile, target_dir};
use super::host::Daemon;
use super::layout::Layout;
use super::plan::{DEFAULT_DATASTORE, DEFAULT_HOST, Datastore};
use super::state::{self, MachineRecord};

/// What every guest is started from.
#[derive(Debug, Clone)]
pub struct Prepared {
    kernel: PathBuf,
    initramfs: PathBuf,
    /// Of guests with an engine.
    root: Option<PathBuf>,
}

/// Whether this machine can run QEMU guests.
#[derive(Debug)]
pub enum Availability {
    /// It can, with these.
    Ready(Prepared),
    /// It cannot, for this reason.
    Unavailable(String),
}

/// Installs and builds what is missing. `engine`: also the root file system of guests with a container engine.
///
/// # Errors
/// Something that does not depend on what can be had from outside fails: that is a defect, and nothing to skip.
pub fn prepare(engine: bool, progress: &dyn Fn(&str)) -> Result<Availability> {
    if !geteuid().is_root() {
        return Ok(Availability::Unavailable(
            "it needs root: packages, file systems".to_owned(),
        ));
    }
    let dir = target_dir()?.join("qemu");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let _only_one = state::lock(&dir.join(".lock"))?;
    // What comes from outside may be out of reach.
    let outside = tools::ensure(progress).and_then(|()| {
        let kernel = kernel::ensure(&dir, progress)?;
        let root = engine.then(|| image::ensure(&dir, progress)).transpose()?;
        Ok((kernel, root))
    });
    let (kernel, root) = match outside {
        Ok(there) => there,
        Err(error) => return Ok(Availability::Unavailable(format!("{error:#}"))),
    };
    let initramfs = initramfs::ensure(&dir, &kernel)?;
    progress("QEMU guests ready");
    Ok(Availability::Ready(Prepared {
        kernel: kernel.image,
        initramfs,
        root,
    }))
}

/// A lab of QEMU VMs: one host, one datastore.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// The lab's name.
    pub name: String,
    /// How many VMs: `vm01`, `vm02` …
    pub guests: u8,
    /// What is in them.
    pub guest: Guest,
    /// Which build of our programs on the host.
    pub profile: Profile,
}

impl Lab {
    /// Makes a lab of QEMU VMs, which stay off, and starts its host's two programs.
    ///
    /// # Errors
    /// A part does not come up. What is up stays up, for a person to look at; [`Lab::down`] removes it.
    pub fn make_qemu(config: &QemuConfig, prepared: &Prepared) -> Result<Self> {
        let lab = Self {
            layout: Layout::for_name(&config.name)?,
        };
        ensure!(
            config.guest == Guest::Small || prepared.root.is_some(),
            "guests with an engine were not prepared"
        );
        let _turn = lab.take_turn()?;
        binaries::install(&lab.layout, config.profile)?;
        let host = lab.host(DEFAULT_HOST);
        host.ensure(&[Datastore::new(DEFAULT_DATASTORE, "vsan")])?;
        for index in 1..=config.guests {
            let name = format!("vm{index:02}");
            state::update(&lab.layout, |state| {
                if state.machine(&name).is_none() {
                    state.machines.push(MachineRecord {
                        name: name.clone(),
                        host: DEFAULT_HOST.to_owned(),
                        // Below 3 are the hypervisor, the loop-back and the host.
                        cid: u32::from(index) + 2,
                        engine: config.guest == Guest::Engine,
                        kernel: prepared.kernel.clone(),
                        initramfs: prepared.initramfs.clone(),
                        root: prepared.root.clone(),
                        qemu: None,
                        vsock: None,
                    });
                }
            })?;
            host.ensure_vm(&name, DEFAULT_DATASTORE)?;
            lab.machine(&name)?.register()?;
        }
        host.start(Daemon::Labhv)?;
        host.start(Daemon::Agent)?;
        Ok(lab)
    }

    /// A QEMU VM.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn machine(&self, name: &str) -> Result<Machine> {
        let machine = Machine::new(&self.layout, name);
        machine.record()?;
        Ok(machine)
    }

    /// The QEMU VMs, in order.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn machines(&self) -> Result<Vec<Machine>> {
        let state = self.state()?;
        let machines = state.machines.iter();
        Ok(machines
            .map(|machine| Machine::new(&self.layout, &machine.name))
            .collect())
    }
}

/// The first step of taking a lab away: QEMU and its vSocket processes.
pub(super) fn end_all(layout: &Layout, state: &state::LabState) -> Result<()> {
    let machines = state.machines.iter();
    machines
        .map(|record| Machine::new(layout, &record.name))
        .try_for_each(|machine| machine.end_processes())
}
