//! Volumes.

use vdvs_domain::capacity::human;

use super::{MARK, NONE, Text, lines, marked, one_line, or_none, pairs, table};
use crate::compat::table::render as original;
use crate::grid::Row;
use crate::view::{Inspection, Removed, Tabular, Volume, VolumeList};

fn full_name(v: &Volume) -> String {
    format!("{}@{}", v.name, v.datastore)
}

impl Text for VolumeList {
    fn text(&self, width: Option<u16>) -> String {
        let table = if self.volumes.is_empty() {
            "no volumes\n".to_owned()
        } else {
            usual(&self.volumes, width)
        };
        table + &remarks(self)
    }
}

/// The columns of daily life. Who told is shown as soon as there is somebody who did.
fn usual(volumes: &[Volume], width: Option<u16>) -> String {
    let mut header = vec![
        "VOLUME",
        "DATASTORE",
        "GROUP",
        "SIZE",
        "USED",
        "STATE",
        "VM",
    ];
    let told = volumes.iter().any(|v| v.told.is_some());
    if told {
        header.push("TOLD BY");
    }
    let rows = volumes.iter().map(|v| {
        let mut row = volume_row(v);
        if told {
            let told = v.told.as_ref().map(|t| format!("{}, {}", t.host, t.ago()));
            row.push(told.unwrap_or_else(|| NONE.to_owned()));
        }
        row
    });
    table(&header, &[3, 4], rows.collect(), width)
}

fn volume_row(v: &Volume) -> Vec<String> {
    let mark = if v.attention.is_some() || v.orphan {
        " !"
    } else {
        ""
    };
    let mode = match &v.attachment {
        Some(a) if a.read_only => " (ro)",
        _ => "",
    };
    let group = if v.orphan { NONE } else { &v.group };
    vec![
        format!("{}{mark}", v.name),
        v.datastore.clone(),
        group.to_owned(),
        human(v.size_bytes),
        human(v.used_bytes),
        format!("{}{mode}", v.state),
        v.attachment
            .as_ref()
            .map_or(NONE, |_| v.attached_to())
            .to_owned(),
    ]
}

/// The chosen columns in the original's form: one row is one line, and what does not fit is cut.
#[must_use]
pub fn columns(list: &VolumeList, chosen: &[&'static str], width: Option<u16>) -> String {
    let grid = list.grid();
    let at: Vec<_> = chosen.iter().filter_map(|key| grid.column(key)).collect();
    let columns = at.iter().filter_map(|c| grid.columns.get(*c));
    let header: Vec<_> = columns.map(|c| c.title).collect();
    let cells = |row: &Row| at.iter().map(|c| row.cell(*c).shown("N/A")).collect();
    let rows: Vec<Vec<String>> = grid.rows.iter().map(cells).collect();
    let table = original(&header, &rows, width.map_or(usize::MAX, usize::from));
    lines(table.lines().map(ToOwned::to_owned)) + &remarks(list)
}

fn remarks(list: &VolumeList) -> String {
    let mut out = String::new();
    for v in &list.volumes {
        if let Some(attention) = &v.attention {
            out += &marked(&format!("{}: {attention}", full_name(v)));
        }
        if v.orphan {
            let address = one_line(&full_name(v));
            out += &marked(&format!(
                "{address}: its vmgroup exists no more; give it to one with: vdvs volume adopt {} --to-group=VMGROUP",
                v.id
            ));
        }
    }
    for ds in &list.unreadable_datastores {
        out += &marked(&format!(
            "datastore {ds} cannot be read now: its volumes are not listed here"
        ));
    }
    out
}

impl Text for Inspection {
    fn text(&self, _: Option<u16>) -> String {
        let v = &self.volume;
        let mut rows = vec![
            ("Volume", full_name(v)),
            ("Id", v.id.clone()),
            (
                "Group",
                if v.orphan {
                    "none: its vmgroup exists no more".to_owned()
                } else {
                    v.group.clone()
                },
            ),
            (
                "Size",
                format!("{}, {} used", human(v.size_bytes), human(v.used_bytes)),
            ),
            ("State", v.state.clone()),
        ];
        attachment(v, &mut rows);
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
        if let Some(policy) = &v.policy {
            rows.push(("Policy", policy.clone()));
        }
        let by = v
            .created_by
            .as_deref()
            .map_or("an administrator".to_owned(), |vm| format!("VM {vm}"));
        rows.push(("Created", format!("{} by {by}", v.created_at)));
        rows.push(("Disk", format!("[{}] {}", v.datastore, v.disk_path)));
        state(v, &mut rows);
        pairs(&rows) + "The record itself: --output json\n"
    }
}

fn attachment(v: &Volume, rows: &mut Vec<(&str, String)>) {
    if let Some(a) = &v.attachment {
        let mode = if a.read_only { ", read-only" } else { "" };
        rows.push((
            "VM",
            format!(
                "{} on host {}, since {}{mode}",
                v.attached_to(),
                a.host,
                a.since
            ),
        ));
        rows.push(("Device", or_none(a.device.as_deref())));
    }
}

fn state(v: &Volume, rows: &mut Vec<(&str, String)>) {
    if v.protected {
        rows.push((
            "Protected",
            "nobody removes it before 'vdvs volume unprotect'".to_owned(),
        ));
    }
    if let Some(op) = &v.operation {
        rows.push(("Operation", format!("{} since {}", op.kind, op.since)));
    }
    if let Some(waiting) = &v.waiting {
        rows.push(("Waiting", waiting.clone()));
    }
    if let Some(attention) = &v.attention {
        rows.push(("Attention", format!("{MARK} {attention}")));
    }
    if let Some(told) = &v.told {
        rows.push(("Told by", format!("host {}, {}", told.host, told.ago())));
    }
}

impl Text for Removed {
    fn text(&self, _: Option<u16>) -> String {
        format!("removed {}\n", one_line(&self.removed))
    }
}
