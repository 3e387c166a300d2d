//! Where a lab lives on disk and what its things in the kernel are called. Pure: paths and names only.
//!
//! Names of namespaces and control groups carry a hash of the lab's folder, so that labs of different clones and of
//! different names live side by side, and so that everything a lab may have left can be found from its folder
//! alone, even without its `lab.json`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Environment variable that names the folder labs are made in, instead of `.lab` in the clone.
pub const LAB_DIR_ENV: &str = "VDVS_LAB_DIR";
/// Environment variable every process of a lab carries; its value is the lab's prefix.
pub(super) const OWNER_ENV: &str = "VDVS_LAB_OWNER";
/// `sun_path` holds 108 bytes; the rest is room for the temporary names programs bind first.
const SOCKET_PATH_MAX: usize = 100;
/// Longest lab, host, VM and datastore name.
const NAME_MAX: usize = 32;

/// A lab's folder and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    name: String,
    root: PathBuf,
}

impl Layout {
    /// The lab called `name`, below [`labs_dir`].
    ///
    /// # Errors
    /// The name is not plain, or sockets inside the folder would have paths the kernel cannot take.
    pub fn for_name(name: &str) -> Result<Self> {
        Self::below(&labs_dir()?, name)
    }

    /// The lab called `name` below the folder `labs`.
    ///
    /// # Errors
    /// As [`Layout::for_name`].
    pub fn below(labs: &Path, name: &str) -> Result<Self> {
        check_name(name)?;
        let layout = Self {
            name: name.to_owned(),
            root: labs.join(name),
        };
        let longest = layout.vsock_dir("esx01", "swarm01").join("1019");
        ensure!(
            longest.as_os_str().len() <= SOCKET_PATH_MAX,
            "socket paths of lab '{name}' would exceed {SOCKET_PATH_MAX} bytes ({}): set {LAB_DIR_ENV} to a shorter folder",
            longest.display()
        );
        Ok(layout)
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `<lab>`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What this lab exists of, for `down` after a crash.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.root.join("lab.json")
    }

    /// Held while the lab goes up or down. Beside the folder, which `down` removes.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        let labs = self.root.parent().unwrap_or(&self.root);
        labs.join(format!(".{}.lock", self.name))
    }

    /// Copies of the binaries the lab runs: a build does not change a running lab.
    #[must_use]
    pub fn bin_dir(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// A datastore is a folder.
    #[must_use]
    pub fn datastore_dir(&self, datastore: &str) -> PathBuf {
        self.root.join("datastores").join(datastore)
    }

    /// One hypervisor host.
    #[must_use]
    pub fn host_dir(&self, host: &str) -> PathBuf {
        self.root.join("hosts").join(host)
    }

    /// The hypervisor's stand-in listens here.
    #[must_use]
    pub fn labhv_socket(&self, host: &str) -> PathBuf {
        self.host_dir(host).join("labhv.sock")
    }

    /// The agent's state.
    #[must_use]
    pub fn agent_dir(&self, host: &str) -> PathBuf {
        self.host_dir(host).join("agent")
    }

    /// The administrator's door to the agent.
    #[must_use]
    pub fn admin_socket(&self, host: &str) -> PathBuf {
        self.agent_dir(host).join("admin.sock")
    }

    /// A VM as its host knows it.
    #[must_use]
    pub fn vm_dir(&self, host: &str, vm: &str) -> PathBuf {
        self.host_dir(host).join("vms").join(vm)
    }

    /// The agent listens for this VM in here.
    #[must_use]
    pub fn vsock_dir(&self, host: &str, vm: &str) -> PathBuf {
        self.vm_dir(host, vm).join("vsock")
    }

    /// A VM's own disks and runtime files.
    #[must_use]
    pub fn node_dir(&self, vm: &str) -> PathBuf {
        self.root.join("nodes").join(vm)
    }

    /// The node's `/run`, new at each boot.
    #[must_use]
    pub fn run_dir(&self, vm: &str) -> PathBuf {
        self.node_dir(vm).join("run")
    }

    /// The node's engine.
    #[must_use]
    pub fn docker_socket(&self, vm: &str) -> PathBuf {
        self.run_dir(vm).join("docker.sock")
    }

    /// What kernel objects of this lab are called first.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("vl{:08x}", fnv1a(self.root.as_os_str().as_encoded_bytes()))
    }

    /// The namespace of the switch all nodes are plugged into; clients run here.
    #[must_use]
    pub fn switch_netns(&self) -> String {
        format!("{}-sw", self.prefix())
    }

    /// A node's network namespace.
    #[must_use]
    pub fn node_netns(&self, vm: &str) -> String {
        format!("{}-{vm}", self.prefix())
    }

    /// The control group the node's containers live under.
    #[must_use]
    pub fn node_cgroup(&self, vm: &str) -> String {
        format!("{}-{vm}", self.prefix())
    }
}

/// The folder labs are made in: [`LAB_DIR_ENV`], else `.lab` in the clone, else, for a clone so deep that sockets in it
/// would have paths too long for the kernel, a folder of its own below `/var/tmp`.
///
/// # Errors
/// The variable holds a relative path.
pub fn labs_dir() -> Result<PathBuf> {
    match env::var_os(LAB_DIR_ENV).map(PathBuf::from) {
        Some(dir) => {
            ensure!(
                dir.is_absolute(),
                "{LAB_DIR_ENV} is not an absolute path: {}",
                dir.display()
            );
            Ok(dir)
        }
        None => Ok(labs_of_clone(&workspace_dir()?)),
    }
}

fn labs_of_clone(clone: &Path) -> PathBuf {
    let own = clone.join(".lab");
    // The names our suites and the demo use are shorter than this.
    match Layout::below(&own, "twelve-chars") {
        Ok(_) => own,
        Err(_) => {
            let hash = fnv1a(clone.as_os_str().as_encoded_bytes());
            PathBuf::from(format!("/var/tmp/vdvs-lab-{hash:08x}"))
        }
    }
}

/// The clone this was built from.
///
/// # Errors
/// It has been moved or removed since.
pub fn workspace_dir() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::canonicalize(&here).with_context(|| format!("find the clone at {}", here.display()))
}

/// Names become file, namespace and host names: letters, digits, `-` and `_` only.
///
/// # Errors
/// The name is empty, too long or holds other characters.
pub(super) fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    ensure!(
        !name.is_empty()
            && name.len() <= NAME_MAX
            && name.chars().all(plain)
            && !name.starts_with('-'),
        "'{name}' is no name for a lab or its parts: up to {NAME_MAX} of a-z A-Z 0-9 - _"
    );
    Ok(())
}

/// FNV-1a: stable across builds, which the standard hasher does not promise to be.
pub(super) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_labs_share_no_name_in_the_kernel() {
        let a = Layout::below(Path::new("/x/.lab"), "default").unwrap();
        let b = Layout::below(Path::new("/y/.lab"), "default").unwrap();
        assert_ne!(a.prefix(), b.prefix());
        assert_ne!(a.node_netns("swarm01"), b.node_netns("swarm01"));
    }

    #[test]
    fn a_deep_clone_keeps_its_labs_elsewhere_and_apart_from_other_clones() {
        assert_eq!(
            labs_of_clone(Path::new("/x/clone")),
            Path::new("/x/clone/.lab")
        );
        let (a, b) = (
            "/".to_owned() + &"a".repeat(60),
            "/".to_owned() + &"b".repeat(60),
        );
        let (a, b) = (labs_of_clone(Path::new(&a)), labs_of_clone(Path::new(&b)));
        assert!(a.starts_with("/var/tmp") && b.starts_with("/var/tmp") && a != b);
        assert!(Layout::below(&a, "default").is_ok());
    }

    #[test]
    fn a_folder_too_deep_for_sockets_is_refused_with_the_way_out() {
        let deep = PathBuf::from("/").join("d".repeat(90));
        let error = Layout::below(&deep, "default").unwrap_err().to_string();
        assert!(error.contains(LAB_DIR_ENV), "{error}");
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        for name in ["", "..", "a/b", "-x", "a b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        check_name("swarm_01-x").unwrap();
    }
}
