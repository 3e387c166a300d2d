//! The agent, hosts, VMs and datastores.

use super::{NONE, Text, columns, marked, one_line, or_none, pairs, table};
use crate::time::span;
use crate::view::{Datastore, Host, Status, Tabular, Vm};

impl Text for Vec<Vm> {
    fn text(&self, width: Option<u16>) -> String {
        if self.is_empty() {
            return "no virtual machines\n".to_owned();
        }
        let host = self.iter().any(|vm| vm.host.is_some());
        let row = |vm: &Vm| {
            let mut cells = vec![
                vm.name.clone(),
                vm.power.clone(),
                or_none(vm.group.as_deref()),
                match (vm.connected, &vm.plugin) {
                    (true, Some(plugin)) => plugin.clone(),
                    (true, None) => "connected".to_owned(),
                    (false, _) => NONE.to_owned(),
                },
                or_none(Some(&vm.volumes.join(" "))),
            ];
            if host {
                let ago = vm.told.as_ref().map(|t| format!(", {}", t.ago()));
                let host = vm.host.as_deref().unwrap_or(NONE);
                cells.insert(2, format!("{host}{}", ago.unwrap_or_default()));
            }
            cells
        };
        let mut header = vec!["VM", "POWER", "GROUP", "PLUGIN", "VOLUMES"];
        if host {
            header.insert(2, "HOST");
        }
        table(&header, &[], self.iter().map(row).collect(), width)
    }
}

impl Text for Vec<Datastore> {
    fn text(&self, width: Option<u16>) -> String {
        if self.is_empty() {
            return "no datastores\n".to_owned();
        }
        let shown = [
            ("datastore", "DATASTORE"),
            ("type", "TYPE"),
            ("capacity", "CAPACITY"),
            ("free", "FREE"),
            ("volumes", "VOLUMES"),
            ("provisioned", "PROVISIONED"),
            ("used", "USED"),
        ];
        let mut out = columns(&self.grid(), &shown, width);
        for ds in self {
            let problem = match (&ds.problem, ds.accessible) {
                (Some(problem), _) => problem,
                (None, false) => "not accessible",
                (None, true) => continue,
            };
            out += &marked(&format!("{}: {problem}", ds.name));
        }
        out
    }
}

impl Text for Vec<Host> {
    fn text(&self, width: Option<u16>) -> String {
        if self.is_empty() {
            return "no hosts\n".to_owned();
        }
        let row = |h: &Host| {
            let mark = if h.warnings.is_empty() { "" } else { " !" };
            vec![
                format!("{}{mark}", h.name),
                h.kind.clone(),
                h.program.clone(),
                match (&h.told, h.local) {
                    (_, true) => "this host".to_owned(),
                    (Some(told), false) => told.ago(),
                    (None, false) => "never".to_owned(),
                },
                format!("{} ({})", h.vms, h.guests_connected),
                h.volumes_held.to_string(),
                h.config_version.to_string(),
                or_none(Some(&h.datastores.join(" "))),
            ]
        };
        let header = [
            "HOST",
            "KIND",
            "PROGRAM",
            "TOLD",
            "VMS (GUESTS)",
            "VOLUMES",
            "CONFIG",
            "DATASTORES",
        ];
        let mut out = table(&header, &[5, 6], self.iter().map(row).collect(), width);
        for h in self {
            for warning in &h.warnings {
                out += &marked(&format!("{}: {warning}", h.name));
            }
        }
        out
    }
}

impl Text for Status {
    fn text(&self, width: Option<u16>) -> String {
        let mut out = pairs(&summary(self));
        out.push('\n');
        out += &self.datastores.text(width);
        if !self.warnings.is_empty() {
            out.push('\n');
        }
        for warning in &self.warnings {
            out += &format!("! {}\n", one_line(warning));
        }
        out
    }
}

fn summary(s: &Status) -> Vec<(&'static str, String)> {
    let protocol = if s.protocol_min == s.protocol_max {
        s.protocol_max.to_string()
    } else {
        format!("{} to {}", s.protocol_min, s.protocol_max)
    };
    let up = span(s.uptime_ms / 1000);
    let known = |n: u32, what: &str| match n {
        0 => String::new(),
        n => format!(", {what} {n}"),
    };
    let (pid, port) = (known(s.pid, "pid"), known(s.port, "port"));
    let mut rows = vec![
        (
            "Agent",
            format!("{}, up {up}{pid}{port}, protocol {protocol}", s.program),
        ),
        (
            "Host",
            format!("{} ({}), id {}", s.host_name, s.host_kind, s.host_id),
        ),
    ];
    if s.hosts > 1 {
        rows.push(("Hosts", format!("{}: see vdvs host ls", s.hosts)));
    }
    rows.push((
        "VMs",
        format!("{}, {} with a plugin connected", s.vms, s.guests_connected),
    ));
    rows.push((
        "Volumes",
        format!(
            "{}, {} attached, {} with an unresolved operation",
            s.volumes, s.attached, s.unresolved_operations
        ),
    ));
    if let Some(mode) = &s.config_mode {
        rows.push(("Config", format!("{mode}: see vdvs config status")));
    }
    let access = if s.open_to_all {
        "open: some vmgroup lets every VM create and delete volumes"
    } else {
        "closed: only VMs that a vmgroup names"
    };
    rows.push(("Access", access.to_owned()));
    if let Some(hint) = &s.lock_hint {
        rows.push(("To lock", hint.clone()));
    }
    if let Some(file) = &s.log_file {
        let level = s.log_level.as_deref().map(|l| format!(", level {l}"));
        rows.push(("Log", format!("{file}{}", level.unwrap_or_default())));
    }
    rows
}
