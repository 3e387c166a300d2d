//! Tables for people. Every function here is pure: a view and a width in, text out. Without a width (the output is no
//! terminal) a row is a line, so that `grep` and `awk` work. No colours: `!` marks what needs attention.

#[cfg(test)]
mod tests;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use vdvs_domain::capacity::human;

use crate::view::{Datastore, Inspection, Status, Vm, Volume, VolumeList};

/// Marks a row that needs attention; the reason stands below the table.
const MARK: &str = "!";
/// Shown where there is nothing.
const NONE: &str = "-";

/// The text without characters that steer a terminal: names come from guests and hypervisors. Line ends stay.
#[must_use]
pub fn printable(text: &str) -> String {
    let safe = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(safe).collect()
}

fn one_line(text: &str) -> String {
    printable(&text.replace('\n', " "))
}

/// `right` are the numbers of the columns with sizes.
fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    match width {
        Some(width) => table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>());
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
            column.set_constraint(ColumnConstraint::ContentWidth);
        } else {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(6)));
        }
    }
    lines(table.lines())
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|l| l.trim_end().to_owned() + "\n").collect()
}

fn or_none(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty()).unwrap_or(NONE).to_owned()
}

fn full_name(v: &Volume) -> String {
    format!("{}@{}", v.name, v.datastore)
}

/// `vdvs volume ls`
#[must_use]
pub fn volumes(list: &VolumeList, width: Option<u16>) -> String {
    let mut out = if list.volumes.is_empty() {
        "no volumes\n".to_owned()
    } else {
        let header = [
            "VOLUME",
            "DATASTORE",
            "GROUP",
            "SIZE",
            "USED",
            "STATE",
            "VM",
        ];
        table(
            &header,
            &[3, 4],
            list.volumes.iter().map(volume_row).collect(),
            width,
        )
    };
    for v in &list.volumes {
        if let Some(attention) = &v.attention {
            out += &format!(
                "{MARK} {}: {}\n",
                one_line(&full_name(v)),
                one_line(attention)
            );
        }
    }
    for ds in &list.unreadable_datastores {
        let ds = one_line(ds);
        out +=
            &format!("{MARK} datastore {ds} cannot be read now: its volumes are not listed here\n");
    }
    out
}

fn volume_row(v: &Volume) -> Vec<String> {
    let mark = if v.attention.is_some() { " !" } else { "" };
    let mode = match &v.attachment {
        Some(a) if a.read_only => " (ro)",
        _ => "",
    };
    vec![
        format!("{}{mark}", v.name),
        v.datastore.clone(),
        v.group.clone(),
        human(v.size_bytes),
        human(v.used_bytes),
        format!("{}{mode}", v.state),
        or_none(v.attachment.as_ref().map(|a| a.vm.as_str())),
    ]
}

/// `vdvs vm ls`
#[must_use]
pub fn vms(vms: &[Vm], width: Option<u16>) -> String {
    if vms.is_empty() {
        return "no virtual machines\n".to_owned();
    }
    let row = |vm: &Vm| {
        vec![
            vm.name.clone(),
            vm.power.clone(),
            or_none(vm.group.as_deref()),
            match (vm.connected, &vm.plugin) {
                (true, Some(plugin)) => plugin.clone(),
                (true, None) => "connected".to_owned(),
                (false, _) => NONE.to_owned(),
            },
            or_none(Some(&vm.volumes.join(" "))),
        ]
    };
    let header = ["VM", "POWER", "GROUP", "PLUGIN", "VOLUMES"];
    table(&header, &[], vms.iter().map(row).collect(), width)
}

/// `vdvs datastore ls`
#[must_use]
pub fn datastores(datastores: &[Datastore], width: Option<u16>) -> String {
    if datastores.is_empty() {
        return "no datastores\n".to_owned();
    }
    let row = |ds: &Datastore| {
        let known = |bytes: u64| {
            if ds.accessible {
                human(bytes)
            } else {
                NONE.to_owned()
            }
        };
        let mark = if ds.problem.is_some() || !ds.accessible {
            " !"
        } else {
            ""
        };
        vec![
            format!("{}{mark}", ds.name),
            ds.r#type.clone(),
            known(ds.capacity_bytes),
            known(ds.free_bytes),
            if ds.accessible {
                ds.volumes.to_string()
            } else {
                NONE.to_owned()
            },
            known(ds.provisioned_bytes),
            known(ds.used_bytes),
        ]
    };
    let header = [
        "DATASTORE",
        "TYPE",
        "CAPACITY",
        "FREE",
        "VOLUMES",
        "PROVISIONED",
        "USED",
    ];
    let rows = datastores.iter().map(row).collect();
    let mut out = table(&header, &[2, 3, 4, 5, 6], rows, width);
    for ds in datastores {
        let problem = match (&ds.problem, ds.accessible) {
            (Some(problem), _) => one_line(problem),
            (None, false) => "not accessible".to_owned(),
            (None, true) => continue,
        };
        out += &format!("{MARK} {}: {problem}\n", one_line(&ds.name));
    }
    out
}

/// `vdvs status`
#[must_use]
pub fn status(s: &Status, width: Option<u16>) -> String {
    let protocol = if s.protocol_min == s.protocol_max {
        s.protocol_max.to_string()
    } else {
        format!("{} to {}", s.protocol_min, s.protocol_max)
    };
    let access = if s.open_to_all {
        "open: some vmgroup lets every VM create and delete volumes"
    } else {
        "closed: only VMs that a vmgroup names"
    };
    let mut out = pairs(&[
        (
            "Agent",
            format!(
                "{}, up {}, protocol {protocol}",
                s.program,
                duration(s.uptime_ms)
            ),
        ),
        (
            "Host",
            format!("{} ({}), id {}", s.host_name, s.host_kind, s.host_id),
        ),
        (
            "VMs",
            format!("{}, {} with a plugin connected", s.vms, s.guests_connected),
        ),
        (
            "Volumes",
            format!(
                "{}, {} attached, {} with an unresolved operation",
                s.volumes, s.attached, s.unresolved_operations
            ),
        ),
        ("Access", access.to_owned()),
    ]);
    out.push('\n');
    out += &datastores(&s.datastores, width);
    if !s.warnings.is_empty() {
        out.push('\n');
    }
    for warning in &s.warnings {
        out += &format!("{MARK} {}\n", one_line(warning));
    }
    out
}

/// `vdvs volume inspect`
#[must_use]
pub fn inspection(inspection: &Inspection) -> String {
    let v = &inspection.volume;
    let mut rows = vec![
        ("Volume", full_name(v)),
        ("Id", v.id.clone()),
        ("Group", v.group.clone()),
        (
            "Size",
            format!("{}, {} used", human(v.size_bytes), human(v.used_bytes)),
        ),
        ("State", v.state.clone()),
    ];
    if let Some(a) = &v.attachment {
        let mode = if a.read_only { ", read-only" } else { "" };
        rows.push((
            "VM",
            format!("{} on host {}, since {}{mode}", a.vm, a.host, a.since),
        ));
        rows.push(("Device", or_none(a.device.as_deref())));
    }
    rows.push(("Epoch", v.epoch.to_string()));
    let uuid = v.filesystem.uuid.as_ref().map(|u| format!(", UUID {u}"));
    rows.push((
        "File system",
        format!(
            "{}, {}{}",
            v.filesystem.fstype,
            v.filesystem.state,
            uuid.unwrap_or_default()
        ),
    ));
    rows.push(("Layout", v.layout.to_owned()));
    let options: Vec<_> = v.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
    rows.push(("Options", or_none(Some(&options.join(" ")))));
    let by = v
        .created_by
        .as_deref()
        .map_or("an administrator".to_owned(), |vm| format!("VM {vm}"));
    rows.push(("Created", format!("{} by {by}", v.created_at)));
    rows.push(("Disk", format!("[{}] {}", v.datastore, v.disk_path)));
    if let Some(op) = &v.operation {
        rows.push(("Operation", format!("{} since {}", op.kind, op.since)));
    }
    if let Some(waiting) = &v.waiting {
        rows.push(("Waiting", waiting.clone()));
    }
    if let Some(attention) = &v.attention {
        rows.push(("Attention", format!("{MARK} {attention}")));
    }
    pairs(&rows) + "The record itself: --output json\n"
}

fn pairs(rows: &[(&str, String)]) -> String {
    let line = |(key, value): &(&str, String)| format!("{key:<12} {}\n", one_line(value));
    rows.iter().map(line).collect()
}

/// The two largest units of a duration.
fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}
