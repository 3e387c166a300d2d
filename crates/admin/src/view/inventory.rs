//! The agent, hosts, VMs and datastores.
#![expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]

use serde::Serialize;
use vdvs_api::v1;

use super::{Tabular, Told, present};
use crate::grid::{Cell, Column, Grid, Row, number, text};

/// `vdvs status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    pub program: String,
    pub host_name: String,
    pub host_id: String,
    pub host_kind: String,
    pub uptime_ms: u64,
    pub protocol_min: u32,
    pub protocol_max: u32,
    pub guests_connected: u32,
    pub vms: u32,
    pub volumes: u32,
    pub attached: u32,
    pub unresolved_operations: u32,
    pub open_to_all: bool,
    pub datastores: Vec<Datastore>,
    pub warnings: Vec<String>,
    pub lock_hint: Option<String>,
    pub config_mode: Option<String>,
    pub pid: u32,
    pub log_file: Option<String>,
    pub log_level: Option<String>,
    pub port: u32,
    pub hosts: u32,
}

/// `vdvs vm ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vm {
    pub name: String,
    pub uuid: String,
    pub config_path: String,
    pub power: String,
    pub connected: bool,
    pub plugin: Option<String>,
    pub group: Option<String>,
    pub volumes: Vec<String>,
    pub host: Option<String>,
    pub told: Option<Told>,
}

/// `vdvs datastore ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Datastore {
    pub name: String,
    pub r#type: String,
    pub accessible: bool,
    pub capacity_bytes: u64,
    pub free_bytes: u64,
    pub provisioned_bytes: u64,
    pub used_bytes: u64,
    pub volumes: u32,
    pub problem: Option<String>,
}

/// `vdvs host ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    pub name: String,
    pub id: String,
    pub kind: String,
    pub program: String,
    pub local: bool,
    pub told: Option<Told>,
    pub vms: u32,
    pub guests_connected: u32,
    pub volumes_held: u32,
    pub datastores: Vec<String>,
    pub warnings: Vec<String>,
    pub config_id: Option<String>,
    pub config_version: u64,
}

impl Status {
    /// Whether somebody should act: there are warnings, or a datastore that cannot be used.
    #[must_use]
    pub fn warns(&self) -> bool {
        let troubled = |ds: &Datastore| !ds.accessible || ds.problem.is_some();
        !self.warnings.is_empty() || self.datastores.iter().any(troubled)
    }
}

impl From<v1::StatusReply> for Status {
    fn from(r: v1::StatusReply) -> Self {
        Self {
            program: r.program,
            host_name: r.host_name,
            host_id: r.host_id,
            host_kind: r.host_kind,
            uptime_ms: r.uptime_ms,
            protocol_min: r.protocol_min,
            protocol_max: r.protocol_max,
            guests_connected: r.guests_connected,
            vms: r.vms,
            volumes: r.volumes,
            attached: r.attached,
            unresolved_operations: r.unresolved_operations,
            open_to_all: r.open_to_all,
            datastores: r.datastores.into_iter().map(Datastore::from).collect(),
            warnings: r.warnings,
            lock_hint: present(r.lock_hint),
            config_mode: present(r.config_mode),
            pid: r.pid,
            log_file: present(r.log_file),
            log_level: present(r.log_level),
            port: r.port,
            hosts: r.hosts,
        }
    }
}

impl From<v1::AdminVm> for Vm {
    fn from(vm: v1::AdminVm) -> Self {
        Self {
            told: Told::new(&vm.host, vm.told_at_unix_ms),
            name: vm.name,
            uuid: vm.uuid,
            config_path: vm.config_path,
            power: vm.power,
            connected: vm.connected,
            plugin: present(vm.plugin),
            group: present(vm.group),
            volumes: vm.volumes,
            host: present(vm.host),
        }
    }
}

impl From<v1::Datastore> for Datastore {
    fn from(ds: v1::Datastore) -> Self {
        Self {
            name: ds.name,
            r#type: ds.r#type,
            accessible: ds.accessible,
            capacity_bytes: ds.capacity_bytes,
            free_bytes: ds.free_bytes,
            provisioned_bytes: ds.provisioned_bytes,
            used_bytes: ds.used_bytes,
            volumes: ds.volumes,
            problem: present(ds.problem),
        }
    }
}

impl From<v1::AdminHost> for Host {
    fn from(h: v1::AdminHost) -> Self {
        Self {
            told: (!h.local)
                .then(|| Told::new(&h.name, h.told_at_unix_ms))
                .flatten(),
            name: h.name,
            id: h.id,
            kind: h.kind,
            program: h.program,
            local: h.local,
            vms: h.vms,
            guests_connected: h.guests_connected,
            volumes_held: h.volumes_held,
            datastores: h.datastores,
            warnings: h.warnings,
            config_id: present(h.config_id),
            config_version: h.config_version,
        }
    }
}

impl Tabular for Status {
    fn grid(&self) -> Grid {
        const PAIRS: &[Column] = &[text("what", "What"), text("value", "Value")];
        let count = |n: u32| Cell::Count(n.into());
        let pairs = [
            ("program", Cell::text(&self.program)),
            ("pid", count(self.pid)),
            ("port", count(self.port)),
            ("host", Cell::text(&self.host_name)),
            ("host-id", Cell::text(&self.host_id)),
            ("host-kind", Cell::text(&self.host_kind)),
            ("uptime-ms", Cell::Count(self.uptime_ms)),
            ("hosts", count(self.hosts)),
            ("vms", count(self.vms)),
            ("guests-connected", count(self.guests_connected)),
            ("volumes", count(self.volumes)),
            ("attached", count(self.attached)),
            ("unresolved-operations", count(self.unresolved_operations)),
            ("config-mode", Cell::maybe(self.config_mode.as_deref())),
            ("open-to-all", Cell::Flag(self.open_to_all)),
            ("lock-hint", Cell::maybe(self.lock_hint.as_deref())),
            ("log-file", Cell::maybe(self.log_file.as_deref())),
            ("log-level", Cell::maybe(self.log_level.as_deref())),
        ];
        let warnings = self.warnings.iter().map(|w| ("warning", Cell::text(w)));
        let rows = pairs.into_iter().chain(warnings);
        Grid::new(
            PAIRS,
            rows.map(|(what, value)| vec![Cell::text(what), value]),
        )
    }
}

impl Tabular for Vec<Vm> {
    fn grid(&self) -> Grid {
        const VMS: &[Column] = &[
            text("name", "Name"),
            text("uuid", "Uuid"),
            text("power", "Power"),
            text("group", "VMGroup"),
            text("host", "Host"),
            text("connected", "Connected"),
            text("plugin", "Plugin"),
            text("volumes", "Volumes"),
            text("config-path", "Config Path"),
            text("told-at", "Told At"),
        ];
        let row = |vm: &Vm| {
            vec![
                Cell::text(&vm.name),
                Cell::text(&vm.uuid),
                Cell::text(&vm.power),
                Cell::maybe(vm.group.as_deref()),
                Cell::maybe(vm.host.as_deref()),
                Cell::Flag(vm.connected),
                Cell::maybe(vm.plugin.as_deref()),
                Cell::List(vm.volumes.clone()),
                Cell::text(&vm.config_path),
                Cell::maybe(vm.told.as_ref().and_then(|t| t.at.as_deref())),
            ]
        };
        Grid::new(VMS, self.iter().map(row))
    }
}

impl Tabular for Vec<Datastore> {
    fn grid(&self) -> Grid {
        const DATASTORES: &[Column] = &[
            text("datastore", "Datastore"),
            text("type", "Type"),
            number("capacity", "Capacity"),
            number("free", "Free"),
            number("volumes", "Volumes"),
            number("provisioned", "Provisioned"),
            number("used", "Used"),
            text("accessible", "Accessible"),
            text("problem", "Problem"),
        ];
        let row = |ds: &Datastore| {
            let known = |cell| if ds.accessible { cell } else { Cell::Nothing };
            Row {
                cells: vec![
                    Cell::text(&ds.name),
                    Cell::text(&ds.r#type),
                    known(Cell::Size(ds.capacity_bytes)),
                    known(Cell::Size(ds.free_bytes)),
                    known(Cell::Count(ds.volumes.into())),
                    known(Cell::Size(ds.provisioned_bytes)),
                    known(Cell::Size(ds.used_bytes)),
                    Cell::Flag(ds.accessible),
                    Cell::maybe(ds.problem.as_deref()),
                ],
                marked: ds.problem.is_some() || !ds.accessible,
            }
        };
        Grid {
            columns: DATASTORES,
            rows: self.iter().map(row).collect(),
        }
    }
}

impl Tabular for Vec<Host> {
    fn grid(&self) -> Grid {
        const HOSTS: &[Column] = &[
            text("host", "Host"),
            text("id", "Id"),
            text("kind", "Kind"),
            text("program", "Program"),
            text("local", "Local"),
            text("told-at", "Told At"),
            number("vms", "VMs"),
            number("guests", "Guests"),
            number("volumes", "Volumes"),
            text("datastores", "Datastores"),
            text("config", "Config"),
            number("config-version", "Config Version"),
            text("warnings", "Warnings"),
        ];
        let row = |h: &Host| Row {
            cells: vec![
                Cell::text(&h.name),
                Cell::text(&h.id),
                Cell::text(&h.kind),
                Cell::text(&h.program),
                Cell::Flag(h.local),
                Cell::maybe(h.told.as_ref().and_then(|t| t.at.as_deref())),
                Cell::Count(h.vms.into()),
                Cell::Count(h.guests_connected.into()),
                Cell::Count(h.volumes_held.into()),
                Cell::List(h.datastores.clone()),
                Cell::maybe(h.config_id.as_deref()),
                Cell::Count(h.config_version),
                Cell::List(h.warnings.clone()),
            ],
            marked: !h.warnings.is_empty(),
        };
        Grid {
            columns: HOSTS,
            rows: self.iter().map(row).collect(),
        }
    }
}
