//! What guests report, compared with the records.
//!
//! A guest reports what it has when it connects and from time to time. Its word decides nothing: what it does not know
//! of is asked back from it, and what it should not have mounted is said.

use std::collections::HashMap;
use std::sync::Mutex;

use vdvs_domain::{Ownership, Timestamp, VmId};

use super::views::Views;
use super::{Found, Kind};
use crate::api::InventoryItem;
use crate::index::Indexed;
use crate::inner::{Inner, locked};
use crate::ports::{Power, Vm};

/// Reports remembered; a host of the platform runs at most 1024 VMs.
const MAX_REPORTS: usize = 1024;
/// A guest is told of what it has with its report; so long it has to take it in.
const SETTLES: u64 = 60_000;

/// A guest's last report.
#[derive(Debug, Clone)]
struct Report {
    at: Timestamp,
    items: Vec<InventoryItem>,
}

impl Report {
    /// Whether it was made when a change had been told for long enough.
    fn is_after(&self, change: Timestamp) -> bool {
        self.at.millis() > change.millis().saturating_add(SETTLES)
    }
}

/// The guests' last reports. A hint: an agent that starts has none.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<HashMap<VmId, Report>>);

impl Reports {
    /// Keeps a guest's report.
    pub(crate) fn keep(&self, vm: &VmId, at: Timestamp, items: &[InventoryItem]) {
        let mut reports = locked(&self.0);
        if reports.len() >= MAX_REPORTS && !reports.contains_key(vm) {
            reports.clear();
        }
        let items = items.to_vec();
        reports.insert(vm.clone(), Report { at, items });
    }

    fn of(&self, vm: &VmId) -> Option<Report> {
        locked(&self.0).get(vm).cloned()
    }
}

impl Inner {
    pub(super) async fn findings_of_guests(&self, views: &Views) -> Vec<Found> {
        let mut found = Vec::new();
        let settled = views.volumes.iter();
        let settled = settled.filter(|v| v.recorded && v.record.operation.is_none());
        let settled: Vec<_> = settled.collect();
        for here in &views.vms {
            if here.vm.power != Power::On {
                continue;
            }
            let Some(report) = self.reports.of(&here.vm.id) else {
                continue;
            };
            for volume in &settled {
                found.extend(unreported(views, volume, &here.vm, &report));
                found.extend(self.superseded(views, volume, &here.vm, &report).await);
            }
        }
        found
    }

    /// A guest that uses what is not its own. What it said before that changed says nothing.
    async fn superseded(
        &self,
        views: &Views,
        volume: &Indexed,
        vm: &Vm,
        report: &Report,
    ) -> Option<Found> {
        let record = &volume.record;
        let mounted = report.items.iter().find(|i| i.volume == record.id)?;
        let own = record.ownership.is_owned_by(&vm.id);
        if !mounted.mounted || own && mounted.epoch >= record.epoch {
            return None;
        }
        let now = self.read_record(&volume.place).await.ok().flatten()?;
        let changed = now.record.history.last().map(|h| h.at);
        let changed = changed.or(record.ownership.owner().map(|o| o.since))?;
        if !report.is_after(changed) || now.record.ownership != record.ownership {
            return None;
        }
        let text = format!(
            "VM {} has it mounted from attachment {}; its record says {}, attachment {}",
            vm.name, mounted.epoch, record.ownership, record.epoch
        );
        let command = format!("in VM {}: start the containers again that use it", vm.name);
        let finding = views.finding(Kind::SupersededMount, volume, text);
        Some(finding.since(report.at).run(command))
    }
}

/// A volume of a VM that its guest does not know.
fn unreported(views: &Views, volume: &Indexed, vm: &Vm, report: &Report) -> Option<Found> {
    let Ownership::Attached { owner } = &volume.record.ownership else {
        return None;
    };
    let known = report.items.iter().any(|i| i.volume == volume.record.id);
    if owner.vm.id != vm.id || known || !report.is_after(owner.since) {
        return None;
    }
    let text = format!("VM {} has it, and its guest does not know it", vm.name);
    let finding = views.finding(Kind::UnreportedVolume, volume, text);
    Some(finding.since(report.at))
}
