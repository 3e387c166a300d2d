//! Where volumes are, as the hosts' hypervisors and agents see it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vdvs_testkit::lab::{Daemon, Host};
use vdvs_testkit::wait::until_true;

use super::{Rig, SOON};

impl Rig {
    /// Some VM has the volume's disk: the hypervisor says so, whatever our programs believe.
    ///
    /// # Errors
    /// The hypervisor does not answer.
    pub fn attached(&self, volume: &str) -> Result<bool> {
        Ok(!self.holders(volume)?.is_empty())
    }

    /// The VMs with the volume's disk, as their hypervisors see them; those of a dead host are not asked.
    ///
    /// # Errors
    /// A hypervisor does not answer.
    pub fn holders(&self, volume: &str) -> Result<Vec<String>> {
        let mut holders = Vec::new();
        for host in self.lab.hosts()? {
            if host.running(Daemon::Labhv)?.is_none() {
                continue;
            }
            let hypervisor = host.hypervisor();
            for vm in hypervisor.vms()? {
                let devices = hypervisor.devices(&vm.name)?;
                if devices
                    .iter()
                    .any(|device| is_disk_of(&device.disk.path, volume))
                {
                    holders.push(vm.name);
                }
            }
        }
        Ok(holders)
    }

    /// Waits until some VM has the volume's disk.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_attached(&self, volume: &str) -> Result<()> {
        until_true(SOON, &format!("{volume} is attached"), || {
            self.attached(volume)
        })
    }

    /// Waits until no VM has the volume's disk and its record says that it is free.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_detached(&self, volume: &str) -> Result<()> {
        until_true(SOON, &format!("{volume} is free"), || {
            Ok(!self.attached(volume)? && self.state(volume)? == "free")
        })
    }

    /// Waits until the agent says that somebody waits for the volume.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_for_waiter(&self, volume: &str) -> Result<()> {
        until_true(SOON, &format!("somebody waits for {volume}"), || {
            let seen = self.volume(volume)?;
            Ok(text(&seen, "/waiting").is_some_and(|waiting| !waiting.is_empty()))
        })
    }

    /// Waits until a node's plugin has written a volume's name into its journal.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_journal(&self, node: &str, volume: &str) -> Result<()> {
        let node = self.node(node)?;
        let line = format!("grep --recursive --quiet {volume} /var/lib/vdvs && echo there || true");
        let what = format!("the journal of {} names {volume}", node.name());
        until_true(SOON, &what, || Ok(node.sh(&line)? == "there"))
    }

    /// The volume as the administrator sees it.
    ///
    /// # Errors
    /// The agent does not answer or there is no such volume.
    pub fn volume(&self, volume: &str) -> Result<Value> {
        self.vdvs_json(&["volume", "inspect", volume])
    }

    /// Runs the administrator's command on the first host and parses its answer.
    ///
    /// # Errors
    /// It fails or prints no JSON.
    pub fn vdvs_json(&self, args: &[&str]) -> Result<Value> {
        vdvs_json(&self.host(), args)
    }

    fn state(&self, volume: &str) -> Result<String> {
        let seen = self.volume(volume)?;
        let state = text(&seen, "/state");
        state
            .map(str::to_owned)
            .with_context(|| format!("no state in {seen}"))
    }
}

/// Runs the administrator's command on a host and parses its answer. `status` ends with 1 when it warns of something.
pub(super) fn vdvs_json(host: &Host, args: &[&str]) -> Result<Value> {
    let all = ["--output", "json"].iter().chain(args);
    let done = host.vdvs(all).output()?;
    let warned = args.first() == Some(&"status") && done.status.code() == Some(1);
    ensure!(
        done.success() || warned,
        "vdvs {args:?}: {}: {}",
        done.status,
        done.stderr
    );
    let said = done.stdout;
    serde_json::from_str(&said).with_context(|| format!("vdvs {args:?} printed: {said}"))
}

/// `dockvols/<group>/<volume>.<id8>.vmdk`
fn is_disk_of(path: &str, volume: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.strip_suffix(".vmdk").unwrap_or(name);
    stem.rsplit_once('.')
        .is_some_and(|(name, _)| name == volume)
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_belongs_to_the_volume_whose_whole_name_it_has() {
        assert!(is_disk_of("dockvols/x/v.1.0123abcd.vmdk", "v.1"));
        assert!(!is_disk_of("dockvols/x/v.1.0123abcd.vmdk", "v"));
    }
}
