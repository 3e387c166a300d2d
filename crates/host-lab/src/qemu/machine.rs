//! What is done to a running machine, as steps over one QMP connection. Each may be repeated.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::QemuVm;
use super::qmp::{Qmp, QmpError};

/// How long a removed device may take to be gone: 50 to 80 ms, more with requests under way.
const REMOVAL: Duration = Duration::from_secs(30);
/// Between two tries to close a node that is still in use.
const AGAIN: Duration = Duration::from_millis(20);
/// What the devices' names begin with; the rest is the place.
const DEVICE: &str = "vdvs-scsi-";
/// The same for the nodes behind them.
const NODE: &str = "vdvs-disk-";

/// A disk to plug.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk<'a> {
    pub(crate) unit: u32,
    pub(crate) descriptor: &'a Path,
    pub(crate) read_only: bool,
    /// The 64 bits the guest's kernel shows as `wwid`.
    pub(crate) wwn: u64,
}

/// A machine whose monitor answers.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    vm: &'a QemuVm,
    qmp: Qmp,
}

impl<'a> Machine<'a> {
    pub(crate) fn connect(vm: &'a QemuVm) -> Result<Self, QmpError> {
        Ok(Self {
            vm,
            qmp: Qmp::connect(&vm.qmp)?,
        })
    }

    /// Places of the disks it has, whole or half plugged.
    pub(crate) fn plugged(&mut self) -> Result<BTreeSet<u32>, QmpError> {
        let listed = json!({ "path": "/machine/peripheral" });
        let devices = self.qmp.run("qom-list", &listed)?;
        let nodes = self
            .qmp
            .run("query-named-block-nodes", &json!({ "flat": true }))?;
        let of = |list: &Value, key: &str, prefix: &str| -> Vec<u32> {
            let all = list.as_array().into_iter().flatten();
            let names = all.filter_map(|one| one.get(key)?.as_str());
            let units = names.filter_map(|name| name.strip_prefix(prefix)?.parse().ok());
            units.collect()
        };
        let mut found: BTreeSet<u32> = of(&devices, "name", DEVICE).into_iter().collect();
        found.extend(of(&nodes, "node-name", NODE));
        Ok(found)
    }

    /// Opens a disk and shows it to the guest. Refused: nothing is left of it.
    pub(crate) fn plug(&mut self, disk: &Disk<'_>) -> Result<(), QmpError> {
        let Some((controller, target)) = self.vm.controller(disk.unit) else {
            return Err(QmpError::Refused {
                command: "device_add".to_owned(),
                class: "DeviceNotFound".to_owned(),
                text: format!("no controller has place {}", disk.unit),
            });
        };
        let (node, device) = (node(disk.unit), device(disk.unit));
        let file = json!({
            "driver": "vmdk",
            "node-name": node,
            "read-only": disk.read_only,
            "file": { "driver": "file", "filename": disk.descriptor, "read-only": disk.read_only },
        });
        self.qmp.run("blockdev-add", &file)?;
        let shown = json!({
            "driver": "scsi-hd",
            "id": device,
            "bus": format!("{}.0", controller.id),
            "scsi-id": target,
            "lun": 0,
            "drive": node,
            "vendor": "VMware",
            "product": "Virtual disk",
            "ver": "2.0",
            "wwn": disk.wwn,
            // The guest hears of errors; the machine does not stop for them.
            "werror": "report",
            "rerror": "report",
        });
        let added = self.qmp.run("device_add", &shown).map(drop);
        if added.is_err() {
            // The refusal is what counts; a node that stays is found by the next look.
            self.close(&node).ok();
        }
        added
    }

    /// Takes a disk from the guest, whatever it does with it, and closes its files. Not there: what was wanted.
    pub(crate) fn unplug(&mut self, unit: u32) -> Result<(), QmpError> {
        let id = device(unit);
        match self.qmp.run("device_del", &json!({ "id": id })) {
            Ok(_) => {
                let deadline = Instant::now() + REMOVAL;
                self.qmp.await_event("DEVICE_DELETED", &id, deadline)?;
            }
            Err(e) if e.is_device_not_found() => {}
            Err(e) => return Err(e),
        }
        self.close(&node(unit))
    }

    /// Closes a node as soon as the last request is done.
    fn close(&mut self, node: &str) -> Result<(), QmpError> {
        let deadline = Instant::now() + REMOVAL;
        loop {
            let closed = self.qmp.run("blockdev-del", &json!({ "node-name": node }));
            match closed {
                Ok(_) => return Ok(()),
                Err(e) => match e.refusal() {
                    Some(text) if text.starts_with("Failed to find node") => return Ok(()),
                    Some(text) if text.ends_with("is in use") && Instant::now() < deadline => {
                        sleep(AGAIN);
                    }
                    _ => return Err(e),
                },
            }
        }
    }

    /// Stops the guest's processors and gives up the locks of these disks, flushed before.
    pub(crate) fn halt(&mut self, units: &[u32]) -> Result<(), QmpError> {
        self.qmp.run("stop", &json!({}))?;
        self.set_active(units, false)
    }

    /// Takes the locks again and lets the guest go on.
    pub(crate) fn go_on(&mut self, units: &[u32]) -> Result<(), QmpError> {
        self.set_active(units, true)?;
        self.qmp.run("cont", &json!({})).map(drop)
    }

    fn set_active(&mut self, units: &[u32], active: bool) -> Result<(), QmpError> {
        for unit in units {
            let which = json!({ "node-name": node(*unit), "active": active });
            self.qmp.run("blockdev-set-active", &which)?;
        }
        Ok(())
    }

    /// Lets the guest begin, if it has not yet.
    pub(crate) fn begin(&mut self) -> Result<(), QmpError> {
        let status = self.qmp.run("query-status", &json!({}))?;
        if status.get("status").and_then(Value::as_str) == Some("prelaunch") {
            self.qmp.run("cont", &json!({}))?;
        }
        Ok(())
    }
}

fn device(unit: u32) -> String {
    format!("{DEVICE}{unit}")
}

fn node(unit: u32) -> String {
    format!("{NODE}{unit}")
}
