//! The configuration file of a VM on its home datastore, as ESXi has it: what other hosts can read about a VM whose own
//! host is silent. A VM without one, or with one that names a saved state, is not proven dead.
//!
//! ```text
//! displayName = "swarm01"
//! uuid.instance = "…"
//! scsi0:0.fileName = "/vmfs/volumes/vsanDatastore/dockvols/…/v.vmdk"
//! checkpoint.vmState = "swarm01.vmss"                          (while it is suspended)
//! ```

use std::fmt::Write;
use std::fs::create_dir_all;
use std::io;
use std::path::PathBuf;

use tracing::{info, warn};
use vdvs_engine::ports::DsPath;

use super::vm::Vm;
use super::world::World;
use crate::files;
use crate::qemu::PER_CONTROLLER;

fn render(vm: &Vm, suspended: bool) -> String {
    let mut text = String::from(".encoding = \"UTF-8\"\nconfig.version = \"8\"\n");
    let mut line = |key: &str, value: &str| {
        writeln!(text, "{key} = \"{}\"", escape(value)).expect("a String takes everything");
    };
    line("displayName", &vm.file.name);
    line("uuid.instance", &vm.file.instance_uuid.to_string());
    for device in &vm.devices {
        let disk = &device.configured.disk;
        let unit = device.configured.unit;
        let place = format!("scsi{}:{}", unit / PER_CONTROLLER, unit % PER_CONTROLLER);
        line(&format!("{place}.present"), "TRUE");
        let path = format!("/vmfs/volumes/{}/{}", disk.datastore, disk.path);
        line(&format!("{place}.fileName"), &path);
    }
    if suspended {
        line("checkpoint.vmState", &format!("{}.vmss", vm.file.name));
    }
    text
}

/// What would end the value is written as `|` and its code in hexadecimal.
fn escape(value: &str) -> String {
    let mut text = String::new();
    for c in value.chars() {
        match c {
            '"' | '|' | '\n' | '\r' | '\0' => {
                write!(text, "|{:02X}", u32::from(c)).expect("a String takes everything");
            }
            other => text.push(other),
        }
    }
    text
}

impl World {
    /// Where a VM's configuration file lies, on a datastore that this host has and reaches.
    fn vmx_path(&self, vm: &Vm) -> io::Result<PathBuf> {
        let bad = || io::Error::other(format!("no such place: '{}'", vm.file.config_path));
        let (datastore, path) = vm
            .file
            .config_path
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "))
            .ok_or_else(bad)?;
        let path = DsPath::new(path).map_err(io::Error::other)?;
        let store = self.leases.store(datastore).ok_or_else(bad)?;
        store.reachable()?;
        if !store.root.is_dir() {
            return Err(bad());
        }
        Ok(store.root.join(path.as_str()))
    }

    /// Writes the configuration file now; when this returns, it is there after a power failure, too.
    pub(super) fn write_vmx(&mut self, name: &str, suspended: bool) -> io::Result<()> {
        let vm = self.vm(name).map_err(io::Error::other)?;
        let path = self.vmx_path(vm)?;
        let text = render(vm, suspended);
        if let Some(dir) = path.parent() {
            create_dir_all(dir)?;
        }
        files::replace(&path, text.as_bytes())?;
        let vm = self.vm_mut(name).map_err(io::Error::other)?;
        vm.vmx.text = text;
        vm.vmx.failed = false;
        Ok(())
    }

    /// Brings the configuration files up to date, a moment after the change: only a saved state must be there before
    /// anything follows from it. What cannot be written is told once and tried again.
    pub(super) fn publish(&mut self) {
        let mut stale = Vec::new();
        for (name, vm) in &mut self.vms {
            if vm.vmx.generation == vm.generation && !vm.vmx.failed && !vm.vmx.text.is_empty() {
                continue;
            }
            vm.vmx.generation = vm.generation;
            let text = render(vm, vm.file.suspended);
            if text != vm.vmx.text {
                stale.push((name.clone(), text));
            }
        }
        for (name, text) in stale {
            let path = self.vm(&name).map_err(io::Error::other);
            let written = path.and_then(|vm| self.vmx_path(vm)).and_then(|path| {
                if let Some(dir) = path.parent() {
                    create_dir_all(dir)?;
                }
                files::put(&path, text.as_bytes())
            });
            let Some(vm) = self.vms.get_mut(&name) else {
                continue;
            };
            let first = !vm.vmx.failed;
            vm.vmx.failed = written.is_err();
            match written {
                Ok(()) => vm.vmx.text = text,
                Err(e) if first && self.isolated_anywhere() => {
                    info!(vm = name, error = %e, "cannot write the configuration file");
                }
                Err(e) if first => {
                    warn!(vm = name, error = %e, "cannot write the configuration file");
                }
                Err(_) => {}
            }
        }
    }

    fn isolated_anywhere(&self) -> bool {
        let stores = self.leases.stores();
        stores.iter().any(|s| s.reachable().is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_is_escaped() {
        assert_eq!(escape("a \"b\" | c\n"), "a |22b|22 |7C c|0A");
    }
}
